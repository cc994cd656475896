# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl: the dynamic settings are changed, and the cluster is left to itself for a while."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from lab import LabError, processes
from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.patroni_tools import HOST
from lab.store import Store
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

FORCE: Final = "--force"
APPLIED_SECONDS_MAX: Final = 60
HEALTHY_SECONDS_MAX: Final = 90

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def settings_as_before(lab: Lab, cluster: Cluster) -> Iterator[None]:
    """Whatever a test sets is taken back."""
    store = Store(lab)
    before = store.config()
    yield
    if store.config() != before:
        store.put(before)
    cluster.await_healthy(HEALTHY_SECONDS_MAX)


def await_shown(cluster: Cluster, parameter: str, value: str) -> None:
    """Wait until every member's PostgreSQL shows *value*; raises LabError."""
    until(
        lambda: {cluster.query(name, f"SHOW {parameter}")[0][0] for name in MEMBERS},
        APPLIED_SECONDS_MAX,
        f"{parameter} is {value} everywhere",
        holds=lambda found: found == {value},
        every=0.2,
    )


def test_edit_config_shows_the_change_and_makes_it(
    tools: Tools, lab: Lab, cluster: Cluster
) -> None:
    words = ("edit-config", CLUSTER_NAME)
    pairs = ("--set", "maximum_lag_on_failover=2097152", "--pg", "work_mem=5MB")
    said = tools.patronictl(*words, *pairs, FORCE)
    assert "-maximum_lag_on_failover: 1048576" in said
    assert "+maximum_lag_on_failover: 2097152" in said
    assert "+    work_mem: 5MB" in said
    assert said.endswith("Configuration changed\n")
    assert Store(lab).config()["maximum_lag_on_failover"] == 2097152
    assert yaml.safe_load(tools.patronictl("show-config"))["maximum_lag_on_failover"] == 2097152
    await_shown(cluster, "work_mem", "5MB")
    assert tools.patronictl(*words, *pairs, FORCE) == "Not changed\n"
    said = tools.patronictl(*words, "--pg", "work_mem=null", "--quiet", FORCE)
    assert said == "Configuration changed\n"
    await_shown(cluster, "work_mem", "4MB")


def test_edit_config_from_a_file_and_by_an_editor(tools: Tools, lab: Lab) -> None:
    tools.put(HOST, "/root", [("change.yml", b"maximum_lag_on_syncnode: 4194304\n")])
    words = ("edit-config", CLUSTER_NAME)
    said = tools.patronictl(*words, "--apply", "/root/change.yml", FORCE)
    assert said.endswith("Configuration changed\n")
    changed = Store(lab).config()
    assert changed["maximum_lag_on_syncnode"] == 4194304
    whole = {**changed, "maximum_lag_on_syncnode": -1}
    tools.put(HOST, "/root", [("whole.yml", yaml.safe_dump(whole).encode())])
    said = tools.patronictl(*words, "--replace", "/root/whole.yml", FORCE)
    assert said.endswith("Configuration changed\n")
    assert Store(lab).config() == whole
    editor = b"#!/bin/sh\nsed -i /maximum_lag_on_syncnode/d $1\n"
    tools.put(HOST, "/usr/local/bin", [("editor", editor)], mode=0o755)
    said = tools.patronictl(*words, typed="y\n")
    assert "Apply these changes?" in said
    assert "maximum_lag_on_syncnode" not in Store(lab).config()


def test_what_patronictl_stores_unchecked_is_left_out_and_told(
    tools: Tools, cluster: Cluster, leader: str
) -> None:
    bad = ("--set", "maximum_lag_on_failover=plenty", "--pg", "work_mem=6MB")
    tools.patronictl("edit-config", *bad, FORCE)
    await_shown(cluster, "work_mem", "6MB")
    for name in MEMBERS:
        problems = json.loads(cluster.rest(name, "/patroni")[1])["pgherd"]["config_problems"]
        assert any("maximum_lag_on_failover" in problem for problem in problems)
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader


def test_cluster_config_has_changed_after_an_edit(tools: Tools) -> None:
    check = ("cluster_config_has_changed", "--state-file", "/root/check_patroni.config")
    tools.check(*check, "--save")
    assert tools.check(*check).code == 0
    said = tools.patronictl("edit-config", "--set", "maximum_lag_on_syncnode=4194304", FORCE)
    assert said.endswith("Configuration changed\n")
    found = until(
        lambda: tools.check(*check),
        APPLIED_SECONDS_MAX,
        "The change is told",
        holds=lambda result: result.code != 0,
    )
    assert (found.code, found.figures) == (2, {"is_configuration_changed": 1})


def test_a_parameter_that_needs_a_restart_is_pending_until_then(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str
) -> None:
    before = {name: processes.pid(lab, name, processes.POSTMASTER) for name in MEMBERS}
    tools.patronictl("edit-config", "--pg", "max_prepared_transactions=7", FORCE)
    rows = until(
        tools.listed,
        APPLIED_SECONDS_MAX,
        "Every member waits for a restart",
        holds=lambda found: all("Pending restart" in row for row in found.values()),
    )
    for row in rows.values():
        assert row["Pending restart"] == "*"
        assert row["Pending restart reason"] == "max_prepared_transactions: 0->7"
    for name in MEMBERS:
        found = tools.check("node_is_pending_restart", ask=[name])
        assert (found.code, found.figures) == (2, {"is_pending_restart": 1})
    # Who replays must have no fewer than who writes, so the standbys come first.
    said = tools.patronictl("restart", CLUSTER_NAME, "--role", "replica", "--pending", FORCE)
    assert said.count("Success: restart on member") == 2
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    said = tools.patronictl("restart", CLUSTER_NAME, "--pending", FORCE)
    assert said.count("Success: restart on member") == 1
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    await_shown(cluster, "max_prepared_transactions", "7")
    assert not any("Pending restart" in row for row in tools.listed().values())
    after = {name: processes.pid(lab, name, processes.POSTMASTER) for name in MEMBERS}
    assert not set(before.items()) & set(after.items())
    # Down again: the primary first.
    tools.patronictl("edit-config", "--pg", "max_prepared_transactions=null", FORCE)
    until(
        lambda: tools.listed()[leader],
        APPLIED_SECONDS_MAX,
        f"{leader} waits for a restart",
        holds=lambda row: "Pending restart" in row,
    )
    for role in ("primary", "replica"):
        tools.patronictl("restart", CLUSTER_NAME, "--role", role, FORCE)
        assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    await_shown(cluster, "max_prepared_transactions", "0")


def test_pause_and_resume(
    tools: Tools, lab: Lab, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    with pytest.raises(LabError, match="Cluster is not paused"):
        tools.patronictl("resume")
    said = tools.patronictl("pause", CLUSTER_NAME, "--wait")
    assert "Success: cluster management is paused" in said
    assert "Maintenance mode: on" in tools.patronictl("list")
    with pytest.raises(LabError, match="Cluster is already paused"):
        tools.patronictl("pause")
    found = tools.check("cluster_is_in_maintenance")
    assert (found.code, found.figures) == (2, {"is_in_maintenance": 1})
    refused_while_paused(tools, standbys)
    no_failover_while_paused(tools, lab, leader, standbys)
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == leader
    said = tools.patronictl("resume", CLUSTER_NAME, "--wait")
    assert "Success: cluster management is resumed" in said
    assert "Maintenance mode" not in tools.patronictl("list")
    assert tools.check("cluster_is_in_maintenance").code == 0


def refused_while_paused(tools: Tools, standbys: tuple[str, ...]) -> None:
    """Ask for what needs a cluster that looks after itself."""
    later = ("--scheduled", "2099-01-01T00:00+00:00", FORCE)
    with pytest.raises(LabError, match="Can't schedule switchover in the paused state"):
        tools.patronictl("switchover", *later)
    with pytest.raises(LabError, match="Can't schedule restart in the paused state"):
        tools.patronictl("restart", CLUSTER_NAME, standbys[0], *later)
    said = tools.patronictl("switchover", FORCE)
    reason = "400, Switchover is possible only to a specific candidate in a paused state"
    assert f"Switchover failed, details: {reason}" in said


def no_failover_while_paused(
    tools: Tools, lab: Lab, leader: str, standbys: tuple[str, ...]
) -> None:
    """Take the leader's agent away: its PostgreSQL stays, and nobody takes its place."""
    before = processes.pid(lab, leader, processes.POSTMASTER)
    lab.exec(leader, ["systemctl", "stop", "pgherd"])
    try:
        found = until(
            lambda: tools.check("cluster_has_leader", ask=standbys),
            APPLIED_SECONDS_MAX,
            "Nobody leads",
            holds=lambda result: result.code != 0,
        )
        assert (found.code, found.figures["has_leader"]) == (2, 0)
        assert found.text.endswith("is in archive recovery.")
        for name in standbys:
            assert tools.check("node_is_leader", ask=[name]).code == 2
        assert processes.pid(lab, leader, processes.POSTMASTER) == before
    finally:
        lab.exec(leader, ["systemctl", "start", "pgherd"])


def test_switchover_to_a_candidate_while_paused(
    tools: Tools, cluster: Cluster, leader: str, standbys: tuple[str, ...]
) -> None:
    tools.patronictl("pause", CLUSTER_NAME, "--wait")
    words = ("--leader", leader, "--candidate", standbys[0], FORCE)
    said = tools.patronictl("switchover", CLUSTER_NAME, *words)
    assert f'Successfully switched over to "{standbys[0]}"' in said
    tools.patronictl("resume", CLUSTER_NAME, "--wait")
    assert cluster.await_healthy(HEALTHY_SECONDS_MAX) == standbys[0]
