# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version of the agent comes onto a cluster that clients write to, and nobody notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings, agents
from lab.cluster import INVENTORY, MEMBERS, REPOSITORY, Cluster
from lab.load import under_load
from lab.playbook import Outcome, environment, run
from lab.stage import HEALTHY_SECONDS_MAX, Account, await_synchronous
from lab.store import Store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(1200)

OLDER: Final = "0.0.9"
STARTED: Final = "SELECT pg_postmaster_start_time()"
TIMELINE: Final = "SELECT timeline_id FROM pg_control_checkpoint()"
# A commit from which to come, for those who want to upgrade from what was released; its own
# playbook deploys it. Without one it is today's agent under another number.
PREVIOUS: Final = os.environ.get("PGHERD_PREVIOUS", "")


@dataclass(frozen=True)
class State:
    """What an upgrade must leave alone."""

    leader: str
    timeline: str
    started: dict[str, str]


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(Settings.from_environment())


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Cluster:
    """The cluster that was deployed."""
    return Cluster(lab.settings)


@pytest.fixture(scope="module")
def older(lab: Lab, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Have the whole cluster run an older version; its program, where that is today's renamed."""
    directory = tmp_path_factory.mktemp("older")
    if PREVIOUS:
        archive = ["git", "archive", "--output", str(directory / "tree.tar"), PREVIOUS]
        subprocess.run(archive, cwd=REPOSITORY, check=True)
        subprocess.run(["tar", "-xf", "tree.tar"], cwd=directory, check=True)
        secrets = INVENTORY / ".secrets" / "demo"
        words = ["ansible-playbook", "--inventory", "inventories/lab", "pgherd.cluster.site"]
        words += ["--extra-vars", json.dumps({"cluster_secrets_dir": str(secrets)})]
        place = {**environment(), "ANSIBLE_CONFIG": str(directory / "ansible.cfg")}
        subprocess.run(words, cwd=directory, env=place, check=True, stdout=subprocess.DEVNULL)
        return None
    program = agents.build(directory, OLDER)
    for host in MEMBERS:
        agents.put(lab, host, program)
    cluster.await_healthy(HEALTHY_SECONDS_MAX)
    assert set(versions(cluster)) == {OLDER}
    return program


def versions(cluster: Cluster) -> list[str]:
    """Return the version of every host's agent."""
    bodies = [json.loads(cluster.rest(host, "/patroni")[1]) for host in MEMBERS]
    return [body["pgherd"]["version"] for body in bodies]


def state(lab: Lab, cluster: Cluster) -> State:
    """Return what there is now, of a cluster that is well."""
    leader = await_synchronous(cluster, Store(lab))
    started = {host: cluster.query(host, STARTED)[0][0] for host in MEMBERS}
    return State(leader, cluster.query(leader, TIMELINE)[0][0], started)


def show(cost: Account) -> None:
    """Print what something cost the clients."""
    sys.stdout.write(
        f"\n{cost.fault}: {cost.gap:.2f} s without a commit at most, {cost.lost} of "
        f"{cost.acknowledged} rows lost\n"
    )


def test_a_new_version_rolls_over_and_postgresql_runs_on(
    lab: Lab, cluster: Cluster, older: Path | None
) -> None:
    assert PREVIOUS or older
    before = state(lab, cluster)
    found: list[Outcome] = []
    cost = under_load(lab, cluster, "upgrade", lambda: found.append(run()))
    show(cost)
    assert found[0].code == 0, found[0].output[-4000:]
    assert cost.problems == ()
    assert state(lab, cluster) == before
    assert set(versions(cluster)) == {agents.version()}


@pytest.mark.skipif(bool(PREVIOUS), reason="an older release need not know how to switch over")
def test_two_versions_lead_and_follow_each_other(
    lab: Lab, cluster: Cluster, older: Path | None
) -> None:
    assert older
    leader = await_synchronous(cluster, Store(lab))
    other = next(host for host in MEMBERS if host != leader)
    agents.put(lab, other, older)
    assert sorted(versions(cluster)).count(OLDER) == 1

    def lead_in_turn() -> None:
        for candidate in (other, leader):
            await_synchronous(cluster, Store(lab))
            command = ["pgherd", "switchover", "--candidate", candidate, "--force"]
            lab.exec(leader, command)
            assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == candidate

    cost = under_load(lab, cluster, "two versions", lead_in_turn)
    show(cost)
    assert cost.problems == ()
    assert run().code == 0
    assert set(versions(cluster)) == {agents.version()}


def test_no_agent_is_restarted_while_a_member_is_not_well(lab: Lab, cluster: Cluster) -> None:
    """As after an upgrade that the host before did not survive."""
    show_pid = ["systemctl", "show", "--value", "--property", "MainPID", "pgherd"]
    host = MEMBERS[0]
    pid = lab.exec(host, show_pid)[1]
    arguments = {
        "url": f"http://{lab.settings.address(host)}:8008",
        "members": [*MEMBERS, "pg9"],
        "wait_seconds": 1,
    }
    words = ["ansible", "--inventory", str(INVENTORY), host, "--module-name"]
    words += ["pgherd.cluster.agent_restart", "--args", json.dumps(arguments)]
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "pg9 has not shown up in the cluster" in done.stdout
    assert lab.exec(host, show_pid)[1] == pid
