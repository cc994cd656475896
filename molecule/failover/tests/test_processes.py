# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends, or is cut off, on the primary's host while a client writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings, faults
from lab.cluster import Cluster
from lab.drill import Disturbance, disturb

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(600)

PID_FILE: Final = "/var/lib/postgresql/*/*/postmaster.pid"
# Beyond this something is broken rather than slow on a busy machine.
SECONDS_MAX: Final = 20


class Host:
    """The lab, for faults on the primary's host."""

    def __init__(self) -> None:
        self.lab = Lab(Settings.from_environment())
        self.cluster = Cluster(self.lab.settings)

    def run(self, command: str) -> Callable[[str], None]:
        """Return a fault that runs *command* in a host's shell."""

        def fault(host: str) -> None:
            code, output = self.lab.exec(host, ["sh", "-c", command])
            assert code == 0, output

        return fault

    def postmaster(self, host: str) -> str:
        """Return the pid of a host's postmaster."""
        return self.lab.exec(host, ["sh", "-c", f"head -n 1 {PID_FILE}"])[1].strip()

    def disturb(
        self, name: str, fault: Callable[[str], None], mend: Callable[[str], None]
    ) -> Disturbance:
        """Make the fault, print what it cost and return it."""
        cost = disturb(self.lab, self.cluster, fault, mend)
        sys.stdout.write(f"\n{cost.line(name)}\n")
        assert cost.acknowledged > 0
        assert cost.outage_seconds < SECONDS_MAX
        return cost


@pytest.fixture
def host() -> Host:
    return Host()


def nothing(host: str) -> None:
    """It mends itself."""


def test_a_killed_postmaster_is_back_on_its_timeline_with_every_row(host: Host) -> None:
    cost = host.disturb("postmaster killed", host.run(f"kill -9 $(head -n 1 {PID_FILE})"), nothing)
    assert (cost.leader, cost.timeline_after) == (cost.primary, cost.timeline_before)
    assert cost.lost == 0


def test_a_killed_agent_costs_neither_the_lead_nor_postgresql(host: Host) -> None:
    primary = host.cluster.await_healthy(SECONDS_MAX)
    before = host.postmaster(primary)
    cost = host.disturb(
        "agent killed", host.run("systemctl kill --kill-whom=main -s KILL pgherd"), nothing
    )
    assert (cost.leader, cost.timeline_after) == (primary, cost.timeline_before)
    assert host.postmaster(primary) == before
    assert cost.lost == 0


def test_a_stopped_agent_hands_the_lead_over_with_every_row(host: Host) -> None:
    cost = host.disturb(
        "agent stopped", host.run("systemctl stop pgherd"), host.run("systemctl start pgherd")
    )
    assert cost.leader != cost.primary
    assert cost.timeline_after == cost.timeline_before + 1
    assert cost.lost == 0


def test_a_primary_that_is_cut_off_steps_down_and_rejoins(host: Host) -> None:
    cost = host.disturb(
        "primary cut off",
        lambda name: faults.cut(host.lab, name),
        lambda name: faults.heal(host.lab, name),
    )
    assert cost.leader != cost.primary
    assert cost.timeline_after == cost.timeline_before + 1
    assert cost.losses.unexplained == ()
