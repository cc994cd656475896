# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl without the right password, without the REST API, and when all is to be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import yaml

from lab.cluster import CLUSTER_NAME, MEMBERS, REST_PORT
from lab.patroni_tools import HOST, SETTINGS_FILE
from lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from lab.cluster import Cluster, Member
    from lab.patroni_tools import Tools

FORCE: Final = "--force"
HEALTHY_SECONDS_MAX: Final = 90

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (None, "401, no auth header received"),
        ({"username": "pgherd", "password": "wrong"}, "401, not authenticated"),
    ],
)
def test_who_does_not_know_the_password_changes_nothing(
    tools: Tools, lab: Lab, leader: str, account: dict[str, str] | None, reason: str
) -> None:
    settings = yaml.safe_load(lab.exec(HOST, ["cat", SETTINGS_FILE])[1])
    settings["ctl"] = {"authentication": account} if account else {}
    tools.put(HOST, "/root", [("stranger.yaml", yaml.safe_dump(settings).encode())])
    said = tools.patronictl("--config-file", "/root/stranger.yaml", "switchover", FORCE)
    assert f"Switchover failed, details: {reason}" in said
    assert tools.listed()[leader]["Role"] == "Leader"


@pytest.fixture
def silent(lab: Lab, leader: str) -> Iterator[str]:
    """The leader, whose REST API refuses ops1."""
    port = ["-p", "tcp", "--dport", str(REST_PORT), "-s", lab.settings.address(HOST)]
    rule = ["INPUT", *port, "-j", "REJECT", "--reject-with", "tcp-reset"]
    lab.exec(leader, ["iptables", "-I", *rule])
    yield leader
    lab.exec(leader, ["iptables", "-D", *rule])


def test_what_patronictl_writes_into_etcd_itself_is_heeded(
    tools: Tools, cluster: Cluster, silent: str, standbys: tuple[str, ...]
) -> None:
    words = ("--leader", silent, "--candidate", standbys[0], FORCE)
    said = tools.patronictl("switchover", CLUSTER_NAME, *words)
    assert "Could not switchover using Patroni api, falling back to DCS" in said
    cluster.await_members(
        f"{standbys[0]} leads",
        lambda members: any(member.leads and member.name == standbys[0] for member in members),
        HEALTHY_SECONDS_MAX,
    )
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == standbys[0]


def test_remove_under_a_cluster_that_runs_changes_nothing_for_long(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str
) -> None:
    store = Store(lab)
    # What the roles did not write must come back as well.
    tools.patronictl("edit-config", "--set", "primary_stop_timeout=77", FORCE)
    before = store.config()
    assert before["primary_stop_timeout"] == 77
    title = tools.patronictl("list").partition("--")[0]
    typed = f"{CLUSTER_NAME}\nYes I am aware\n{leader}\n"
    tools.patronictl("remove", CLUSTER_NAME, typed=typed)
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    assert tools.patronictl("list").partition("--")[0] == title
    assert store.config() == before
    tools.patronictl("edit-config", "--set", "primary_stop_timeout=null", FORCE)


def test_remove_forgets_all_that_etcd_knows(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    store = Store(lab)
    before = store.config()
    title = tools.patronictl("list").partition("--")[0]
    cluster.query(leader, "DROP TABLE IF EXISTS removed")
    cluster.query(leader, "CREATE TABLE removed AS SELECT 7 AS n")
    for name in (*standbys, leader):
        lab.exec(name, ["systemctl", "stop", "pgherd"])
    try:
        tools.patronictl("remove", CLUSTER_NAME, typed=f"{CLUSTER_NAME}\nYes I am aware\n")
        assert f"Cluster: {CLUSTER_NAME} (uninitialized)" in tools.patronictl("list")
        assert store.config() == {}
    finally:
        for name in MEMBERS:
            lab.exec(name, ["systemctl", "start", "pgherd"])
    # Nobody's data are touched, but nobody knows who led either: a person has to say.
    cluster.await_members("All run, nobody leads", nobody_leads, HEALTHY_SECONDS_MAX)
    said = tools.patronictl("failover", CLUSTER_NAME, "--candidate", leader, FORCE)
    assert f'Successfully failed over to "{leader}"' in said
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    assert tools.patronictl("list").partition("--")[0] == title
    assert store.config() == before
    assert cluster.query(leader, "SELECT n FROM removed") == [("7",)]
    cluster.query(leader, "DROP TABLE removed")


def nobody_leads(members: list[Member]) -> bool:
    """Whether all members run and none is the leader."""
    states = [member.state for member in members if not member.leads]
    return states == ["in archive recovery"] * len(MEMBERS)
