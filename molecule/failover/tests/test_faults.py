# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks on the primary's host while clients write: no row is lost, no two nodes acknowledge.

The rows of `make faults` that fit into CI's time, for as long as they need to show what they show.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings, processes
from lab.cluster import Cluster
from lab.rows import KILLS, agent_killed, find
from lab.stage import Account, Fault, perform
from lab.table import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)

# Beyond this something is broken rather than slow on a busy machine.
SECONDS_MAX: Final = 20
# Longer than a lease of the profile `normal`.
LONGER_THAN_A_LEASE: Final = 12
HANDED_OVER: Final = ("agent_held_frozen", "agent_stopped", "cut_from_everybody", "cut_from_peers")
KEPT: Final = ("agent_frozen", "agent_and_guard_killed")


@dataclass(frozen=True)
class Host:
    """The lab's cluster, to be broken."""

    lab: Lab
    cluster: Cluster

    def survive(self, fault: Fault) -> Account:
        """Make the fault, print what it cost and check what holds for every fault; return it."""
        cost = perform(self.lab, fault)
        sys.stdout.write(
            f"\n{cost.fault}: {cost.gap:.2f} s without a commit, {cost.acknowledged} rows "
            f"acknowledged, {cost.before} led, {cost.after} leads\n"
        )
        assert cost.problems == ()
        assert cost.acknowledged > 0
        assert cost.gap < SECONDS_MAX
        return cost


@pytest.fixture(scope="module")
def host() -> Host:
    """The cluster, with commits that wait for a standby."""
    lab = Lab(Settings.from_environment())
    return Host(lab, Cluster(lab.settings))


@pytest.mark.parametrize("name", HANDED_OVER)
def test_another_node_leads_after(name: str, host: Host) -> None:
    cost = host.survive(find(name, seconds=LONGER_THAN_A_LEASE))
    assert cost.after != cost.before


@pytest.mark.parametrize("name", KEPT)
def test_the_same_node_leads_after(name: str, host: Host) -> None:
    cost = host.survive(find(name, seconds=LONGER_THAN_A_LEASE))
    assert cost.after == cost.before


def test_the_table_has_a_fault_of_the_lab_and_a_drill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what `make faults` runs, on the cluster as it is."""
    rows = ["postmaster_killed", "drill:agent_crash"]
    code = main(["--as-it-is", "--rows", ",".join(rows), "--into", str(tmp_path)])
    said = capsys.readouterr()
    sys.stdout.write(said.out)
    assert code == 0, said.out + said.err
    table = json.loads((tmp_path / "table.json").read_text())
    assert [(row["kind"], row["fault"]) for row in table["rows"]] == [
        ("lab", "postmaster_killed"),
        ("drill", "agent_crash"),
    ]
    for row in table["rows"]:
        (cost,) = row["runs"]
        assert (cost["lost"], cost["overlap"]) == (0, 0)
        assert cost["acknowledged"] > 0
        assert cost["gap"] < SECONDS_MAX
    page = (tmp_path / "table.md").read_text()
    assert all(f"| {row.removeprefix('drill:')} |" in page for row in rows)
    assert "the playbook added" in page


def test_killed_agents_cost_neither_the_lead_nor_postgresql(host: Host) -> None:
    primary = host.cluster.await_healthy(SECONDS_MAX)
    before = processes.pid(host.lab, primary, processes.POSTMASTER)
    cost = host.survive(find("agent_killed", act=agent_killed(KILLS // 4)))
    assert (cost.before, cost.after) == (primary, primary)
    assert processes.pid(host.lab, primary, processes.POSTMASTER) == before
