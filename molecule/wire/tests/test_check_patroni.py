# SPDX-License-Identifier: GPL-3.0-or-later
"""check_patroni: every check of a well cluster, and of one that is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from lab.cluster import MEMBERS
from lab.patroni_tools import HOST, PATRONI_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from lab.patroni_tools import Tools

OK: Final = 0
CRITICAL: Final = 2
UNKNOWN: Final = 3
NOTES: Final = "/root/check_patroni.state"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def notes(lab: Lab) -> Iterator[str]:
    """A file for what a check found the last time."""
    yield NOTES
    lab.exec(HOST, ["rm", "-f", NOTES])


def test_cluster_node_count(tools: Tools, leader: str) -> None:
    found = tools.check("cluster_node_count", "--critical", "3:3", "--healthy-critical", "3:")
    assert (found.code, found.text) == (OK, "CLUSTERNODECOUNT OK - members is 3")
    assert found.figures == {
        "members": 3,
        "healthy_members": 3,
        "role_leader": 1,
        "role_quorum_standby": 2,
        "state_running": 1,
        "state_streaming": 2,
    }
    assert tools.check("cluster_node_count", "--critical", "4:").code == CRITICAL
    assert leader in MEMBERS


def test_cluster_has_leader(tools: Tools) -> None:
    found = tools.check("cluster_has_leader")
    assert found.code == OK
    assert found.text.endswith("OK - The cluster has a running leader.")
    assert found.figures == {
        "has_leader": 1,
        "is_leader": 1,
        "is_standby_leader": 0,
        "is_standby_leader_in_arc_rec": 0,
    }


def test_cluster_has_replica(tools: Tools, standbys: tuple[str, ...]) -> None:
    wanted = ["--critical", "2:", "--sync-critical", "2:", "--sync-type", "quorum"]
    found = tools.check("cluster_has_replica", *wanted, "--max-lag", "1MB")
    assert found.code == OK, found.text
    assert (found.figures["healthy_replica"], found.figures["unhealthy_replica"]) == (2, 0)
    assert found.figures["sync_replica"] == 2
    for name in standbys:
        assert found.figures[f"{name}_sync"] == 1
        assert found.figures[f"{name}_timeline"] >= 1
    # Quorum standbys are no priority ones.
    wanted = ["--sync-critical", "1:", "--sync-type", "sync"]
    assert tools.check("cluster_has_replica", *wanted).code == CRITICAL
    assert tools.check("cluster_has_replica", "--critical", "3:").code == CRITICAL


def test_cluster_config_has_changed(tools: Tools, notes: str) -> None:
    check = ("cluster_config_has_changed", "--state-file", notes)
    assert tools.check(*check, "--save").code == CRITICAL
    # The same text from every member, or a check that asks another one would raise an alarm.
    for name in MEMBERS:
        found = tools.check(*check, ask=[name])
        assert (found.code, found.figures) == (OK, {"is_configuration_changed": 0})
    known = re.search(r"\((\w{32})\)", tools.check(*check).text)
    assert known is not None
    assert tools.check("cluster_config_has_changed", "--hash", known[1]).code == OK


def test_cluster_is_not_in_maintenance(tools: Tools) -> None:
    found = tools.check("cluster_is_in_maintenance")
    assert (found.code, found.figures) == (OK, {"is_in_maintenance": 0})


def test_cluster_has_no_scheduled_action(tools: Tools) -> None:
    found = tools.check("cluster_has_scheduled_action")
    assert found.code == OK
    assert set(found.figures.values()) == {0}
    assert len(found.figures) == 3


def test_node_is_primary_and_leader(tools: Tools, leader: str, standbys: tuple[str, ...]) -> None:
    for check, figure in (("node_is_primary", "is_primary"), ("node_is_leader", "is_leader")):
        found = tools.check(check, ask=[leader])
        assert (found.code, found.figures) == (OK, {figure: 1})
        for name in standbys:
            found = tools.check(check, ask=[name])
            assert (found.code, found.figures) == (CRITICAL, {figure: 0})
    assert tools.check("node_is_leader", "--is-standby-leader", ask=[leader]).code == CRITICAL


def test_node_is_replica(tools: Tools, leader: str, standbys: tuple[str, ...]) -> None:
    assert tools.check("node_is_replica", ask=[leader]).code == CRITICAL
    for name in standbys:
        for words, code in (
            ((), OK),
            (("--max-lag", "1MB"), OK),
            (("--is-sync",), OK),
            (("--is-sync", "--sync-type", "quorum"), OK),
            (("--is-sync", "--sync-type", "sync"), CRITICAL),
            (("--is-async",), CRITICAL),
        ):
            found = tools.check("node_is_replica", *words, ask=[name])
            assert (found.code, found.figures) == (code, {"is_replica": code == OK}), words


@pytest.mark.parametrize("name", MEMBERS)
def test_what_is_so_of_every_node(tools: Tools, notes: str, name: str) -> None:
    found = tools.check("node_is_pending_restart", ask=[name])
    assert (found.code, found.figures) == (OK, {"is_pending_restart": 0})
    found = tools.check("node_patroni_version", "--patroni-version", PATRONI_VERSION, ask=[name])
    assert (found.code, found.figures) == (OK, {"is_version_ok": 1})
    found = tools.check("node_patroni_version", "--patroni-version", "4.0.0", ask=[name])
    assert (found.code, found.figures) == (CRITICAL, {"is_version_ok": 0})
    found = tools.check("node_is_alive", ask=[name])
    assert (found.code, found.figures) == (OK, {"is_alive": 1})
    check = ("node_tl_has_changed", "--state-file", notes)
    assert tools.check(*check, "--save", ask=[name]).code == CRITICAL
    found = tools.check(*check, ask=[name])
    assert (found.code, found.figures["is_timeline_changed"]) == (OK, 0)
    found = tools.check("node_tl_has_changed", "--timeline", "999", ask=[name])
    assert (found.code, found.figures["is_timeline_changed"]) == (CRITICAL, 1)


def test_a_member_that_is_gone(tools: Tools, lab: Lab, standbys: tuple[str, ...]) -> None:
    gone, left = standbys
    lab.exec(gone, ["systemctl", "stop", "pgherd"])
    try:
        assert tools.check("node_is_alive", ask=[gone]).code == UNKNOWN
        assert tools.check("node_is_replica", ask=[gone]).code == UNKNOWN
        # Any member that answers will do.
        found = tools.check("cluster_node_count", "--healthy-critical", "3:", ask=[gone, left])
        assert found.code == CRITICAL
        assert found.figures["healthy_members"] == 2
        found = tools.check("cluster_has_replica", "--critical", "2:", ask=[left])
        assert found.code == CRITICAL
        assert found.figures["healthy_replica"] == 1
    finally:
        lab.exec(gone, ["systemctl", "start", "pgherd"])
