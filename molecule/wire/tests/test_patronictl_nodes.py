# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl: a member's PostgreSQL is restarted, at once or later, reloaded, made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from lab import LabError, processes
from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.patroni_tools import after
from lab.wait import until

if TYPE_CHECKING:
    from lab import Lab
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

FORCE: Final = "--force"
HEALTHY_SECONDS_MAX: Final = 90
RESTARTED_SECONDS_MAX: Final = 60
# A file that no copy of the leader has.
MARK: Final = "/var/lib/postgresql/*/demo/PG_VERSION"

pytestmark = pytest.mark.timeout(240)


def postmasters(lab: Lab) -> dict[str, int]:
    """Return the first process of every member's PostgreSQL."""
    return {name: processes.pid(lab, name, processes.POSTMASTER) for name in MEMBERS}


def restarted(before: dict[str, int], now: dict[str, int]) -> set[str]:
    """Return the members whose PostgreSQL is another one now."""
    return {name for name in before if now[name] not in (0, before[name])}


def test_restart_of_a_standby(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    before = postmasters(lab)
    said = tools.patronictl("restart", CLUSTER_NAME, standbys[0], FORCE)
    assert f"Success: restart on member {standbys[0]}\n" in said
    assert restarted(before, postmasters(lab)) == {standbys[0]}
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader


def test_restart_by_role(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    before = postmasters(lab)
    said = tools.patronictl("restart", CLUSTER_NAME, "--role", "replica", FORCE)
    for name in standbys:
        assert f"Success: restart on member {name}\n" in said
    assert restarted(before, postmasters(lab)) == set(standbys)
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader


def test_restart_of_the_leader_leaves_it_the_leader(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str
) -> None:
    before = postmasters(lab)
    said = tools.patronictl("restart", CLUSTER_NAME, leader, "--timeout", "60", FORCE)
    assert f"Success: restart on member {leader}\n" in said
    assert restarted(before, postmasters(lab)) == {leader}
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader


def test_restart_of_any_one(tools: Tools, lab: Lab, cluster: Cluster, leader: str) -> None:
    before = postmasters(lab)
    words = ("--role", "replica", "--any", FORCE)
    assert tools.patronictl("restart", CLUSTER_NAME, *words).count("Success: restart on") == 1
    assert len(restarted(before, postmasters(lab))) == 1
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader


def test_restart_whose_conditions_do_not_hold(
    tools: Tools, lab: Lab, standbys: tuple[str, ...]
) -> None:
    before = postmasters(lab)
    words = (standbys[0], "--pg-version", "9.5.2", FORCE)
    said = tools.patronictl("restart", CLUSTER_NAME, *words)
    reason = "status code=503, (restart conditions are not satisfied)"
    assert f"Failed: restart for member {standbys[0]}, {reason}" in said
    # Nobody waits for a restart: nobody is asked.
    assert "restart on" not in tools.patronictl("restart", CLUSTER_NAME, "--pending", FORCE)
    assert postmasters(lab) == before


def test_a_scheduled_restart_is_shown_and_can_be_called_off(
    tools: Tools, lab: Lab, standbys: tuple[str, ...]
) -> None:
    name = standbys[0]
    before = postmasters(lab)
    said = tools.patronictl("flush", CLUSTER_NAME, name, "restart", FORCE)
    assert f"No scheduled restart for member {name}" in said
    words = ("restart", CLUSTER_NAME, name, "--scheduled", after(3600))
    said = tools.patronictl(*words, "--pg-version", "99.0", FORCE)
    assert f"Success: restart scheduled on member {name}" in said
    try:
        await_schedule(tools, name, there=True)
        assert " if version < 99.0" in tools.listed()[name]["Scheduled restart"]
        assert "Scheduled restart" in tools.patronictl("list")
        found = tools.check("cluster_has_scheduled_action")
        assert (found.code, found.figures["scheduled_restart"]) == (2, 1)
        # Without force the one that is planned stays.
        said = tools.patronictl(*words, typed="y\n\n")
        assert f"Failed: another restart is already scheduled on member {name}" in said
        said = tools.patronictl(*words, FORCE)
        assert f"Success: restart scheduled on member {name}" in said
    finally:
        said = tools.patronictl("flush", CLUSTER_NAME, name, "restart", FORCE)
    assert f"Success: flush scheduled restart for member {name}" in said
    await_schedule(tools, name, there=False)
    assert tools.check("cluster_has_scheduled_action").code == 0
    assert postmasters(lab) == before


def await_schedule(tools: Tools, name: str, *, there: bool) -> None:
    """Wait until the list shows a planned restart of *name*, or none; raises LabError."""
    until(
        lambda: tools.listed()[name],
        RESTARTED_SECONDS_MAX,
        "A planned restart is shown" if there else "No planned restart is shown",
        holds=lambda row: ("Scheduled restart" in row) == there,
    )


def test_a_scheduled_restart_happens(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    before = postmasters(lab)
    words = (standbys[1], "--scheduled", tools.soon(), FORCE)
    said = tools.patronictl("restart", CLUSTER_NAME, *words)
    assert f"Success: restart scheduled on member {standbys[1]}" in said
    found = until(
        lambda: restarted(before, postmasters(lab)),
        RESTARTED_SECONDS_MAX,
        "A PostgreSQL has been restarted",
        every=0.2,
    )
    assert found == {standbys[1]}
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    await_schedule(tools, standbys[1], there=False)


def test_reload(tools: Tools, lab: Lab, cluster: Cluster, leader: str) -> None:
    before = postmasters(lab)
    said = tools.patronictl("reload", CLUSTER_NAME, FORCE)
    seconds = "and will be processed within 10 seconds"
    for name in MEMBERS:
        assert f"Reload request received for member {name} {seconds}" in said
    said = tools.patronictl("reload", CLUSTER_NAME, "--role", "primary", FORCE)
    assert said.count("Reload request received") == 1
    assert leader in said
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    assert postmasters(lab) == before


@pytest.mark.parametrize("words", [(), ("--from-leader",)], ids=["from anybody", "from the leader"])
def test_reinit_makes_a_standby_anew(
    tools: Tools,
    lab: Lab,
    cluster: Cluster,
    leader: str,
    standbys: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    name = standbys[0]
    inode = ["sh", "-c", f"stat --format=%i {MARK}"]
    before = lab.exec(name, inode)[1]
    said = tools.patronictl("reinit", CLUSTER_NAME, name, "--wait", *words, FORCE)
    assert f"Success: reinitialize for member {name}\n" in said
    assert f"Waiting for reinitialize to complete on: {name}\n" in said
    assert said.endswith(f"Reinitialize is completed on: {name}\n")
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    assert lab.exec(name, inode)[1] != before


def test_reinit_of_the_leader_is_refused(tools: Tools, lab: Lab, leader: str) -> None:
    before = postmasters(lab)
    with pytest.raises(LabError, match="No replica among provided members"):
        tools.patronictl("reinit", CLUSTER_NAME, leader, FORCE)
    assert postmasters(lab) == before
