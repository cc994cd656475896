# SPDX-License-Identifier: GPL-3.0-or-later
"""What the etcd member's module plans; what it does is seen in the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import Member
from ansible_collections.pgherd.cluster.plugins.modules.etcd_member import (
    Now,
    Wanted,
    environment,
    first_start,
    knows,
    plan,
    quorum_refusal,
)

RUNNING = {"ETCD_NAME": "pg3", "ETCD_DATA_DIR": "/data", "PATH": "/bin"}


def wanted(bootstrap: bool = False, more: dict[str, Any] | None = None) -> Wanted:
    """Return what a third member's task asks for."""
    names = ("pg1", "pg2", "pg3")
    return Wanted(
        name="pg3",
        peers={name: f"http://{name}:2380" for name in names},
        clients={name: f"http://{name}:2379" for name in names},
        settings={"name": "pg3", "data-dir": "/data", **(more or {})},
        bootstrap=bootstrap,
        learner=True,
        path=Path("/etc/default/etcd"),
        unit="etcd.service",
        timeout_seconds=1,
    )


@pytest.mark.parametrize(
    ("now", "want", "action"),
    [
        (Now(False, {}, None), wanted(bootstrap=True), "bootstrap"),
        (Now(False, {}, RUNNING), wanted(bootstrap=True), "bootstrap"),
        (Now(False, {}, None), wanted(), "join"),
        (Now(True, {}, None), wanted(), "start"),
        (Now(True, {}, RUNNING), wanted(), "keep"),
        (Now(True, {}, RUNNING), wanted(bootstrap=True), "keep"),
        (Now(True, {}, RUNNING | {"ETCD_INITIAL_CLUSTER": "old"}), wanted(), "keep"),
        (Now(True, {}, RUNNING), wanted(more={"snapshot-count": 5}), "restart"),
        (Now(True, {}, RUNNING | {"ETCD_SNAPSHOT_COUNT": "5"}), wanted(), "restart"),
        (Now(True, {}, RUNNING, unit_changed=True), wanted(), "restart"),
    ],
)
def test_plan(now: Now, want: Wanted, action: str) -> None:
    assert plan(now, want) == action


def test_flags_become_environment_variables() -> None:
    settings = {"pre-vote": True, "heartbeat-interval": 100, "log-level": "info", "quota": None}
    assert environment(settings) == {
        "ETCD_PRE_VOTE": "true",
        "ETCD_HEARTBEAT_INTERVAL": "100",
        "ETCD_LOG_LEVEL": "info",
    }


def test_a_first_cluster_starts_with_all_of_the_inventory() -> None:
    assert first_start("bootstrap", Now(False, {}, None), wanted(bootstrap=True), []) == {
        "ETCD_INITIAL_CLUSTER": "pg1=http://pg1:2380,pg2=http://pg2:2380,pg3=http://pg3:2380",
        "ETCD_INITIAL_CLUSTER_STATE": "new",
    }


def test_a_new_member_starts_with_the_clusters_own_list() -> None:
    members = [
        Member("1", "pg1", ("http://pg1:2380",), (), False),
        Member("3", "", ("http://pg3:2380",), (), True),
    ]
    assert first_start("join", Now(False, {}, None), wanted(), members) == {
        "ETCD_INITIAL_CLUSTER": "pg1=http://pg1:2380,pg3=http://pg3:2380",
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
    }


def test_a_member_with_data_keeps_what_it_started_with() -> None:
    kept = {"ETCD_INITIAL_CLUSTER": "pg3=x", "ETCD_INITIAL_CLUSTER_STATE": "existing"}
    assert first_start("keep", Now(True, kept | RUNNING, RUNNING), wanted(), []) == kept


@pytest.mark.parametrize(
    ("size", "healthy_others", "refused"),
    [(1, 0, False), (2, 1, False), (2, 0, True), (3, 2, False), (3, 1, True), (4, 3, False),
     (4, 2, True), (5, 3, False), (5, 2, True)],
)  # fmt: skip
def test_a_restart_never_costs_the_quorum(size: int, healthy_others: int, refused: bool) -> None:
    assert bool(quorum_refusal(size, healthy_others)) is refused


@pytest.mark.parametrize(
    ("name", "url", "known"),
    [
        ("pg3", "http://pg3:2380", True),
        ("", "http://pg3:2380", True),
        ("pg3", "http://elsewhere:2380", True),
        ("pg4", "http://pg4:2380", False),
    ],
)
def test_a_member_is_known_by_its_address_or_its_name(name: str, url: str, known: bool) -> None:
    assert knows([Member("1", name, (url,), (), False)], wanted()) is known
