# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /metrics: every series Patroni has, under its name and type, and ours beside them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    lease,
    member,
    primary,
    slot,
    standby,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from agent.tests.fakes import Rig
from pgherd.api import Api
from pgherd.decide import RULES, decide
from pgherd.metrics import exposition
from pgherd.model import Instance
from pgherd.server import Server
from pgherd.settings import Tags

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.view import View

# 1.8, release 4.1.
PATRONIS = {
    "patroni_version": "gauge",
    "patroni_postgres_running": "gauge",
    "patroni_postmaster_start_time": "gauge",
    "patroni_primary": "gauge",
    "patroni_xlog_location": "counter",
    "patroni_standby_leader": "gauge",
    "patroni_replica": "gauge",
    "patroni_sync_standby": "gauge",
    "patroni_quorum_standby": "gauge",
    "patroni_xlog_received_location": "counter",
    "patroni_xlog_replayed_location": "counter",
    "patroni_xlog_replayed_timestamp": "gauge",
    "patroni_xlog_paused": "gauge",
    "patroni_postgres_streaming": "gauge",
    "patroni_postgres_in_archive_recovery": "gauge",
    "patroni_postgres_server_version": "gauge",
    "patroni_cluster_unlocked": "gauge",
    "patroni_failsafe_mode_is_active": "gauge",
    "patroni_postgres_timeline": "gauge",
    "patroni_dcs_last_seen": "gauge",
    "patroni_pending_restart": "gauge",
    "patroni_is_paused": "gauge",
    "patroni_postgres_state": "gauge",
    # Patroni after 4.1.
    "patroni_failsafe_mode_enabled": "gauge",
    "patroni_failsafe_member": "gauge",
    "patroni_failover_priority": "gauge",
}


ACKNOWLEDGING = {
    mode: view(cluster=synchronous("pg2", sync_key("pg2", "pg1"), synchronous_mode=mode))
    for mode in ("on", "quorum")
}
FAILSAFE = cluster(config={"failsafe_mode": True}, failsafe={"pg1": "http://192.0.2.1:8008"})
PROMISED = view(
    primary(), cluster=cluster(ME), store_answers=False, lease=None, failsafe_until=NOW + 1
)


def exposed(directory: Path, seen: View) -> str:
    """Return the text of GET /metrics for *seen*."""
    rig = Rig(directory, Instance())
    rig.loop.view, rig.loop.decision = seen, decide(seen)
    rig.loop.dcs_last_seen = 1692356718
    return exposition(rig.loop, Server(Api(rig.loop), rig.config.access)).decode()


def values(directory: Path, seen: View) -> dict[str, float]:
    """Return the value of every series that has no label but scope and name."""
    pattern = re.compile(r'^(\w+)\{name="pg1",scope="demo"\} (\S+)$', re.MULTILINE)
    return {name: float(value) for name, value in pattern.findall(exposed(directory, seen))}


async def test_every_series_of_patronis_is_there_under_its_name_and_type(tmp_path: Path) -> None:
    text = exposed(tmp_path, view())
    types = dict(re.findall(r"^# TYPE (patroni_\w+) (\w+)$", text, re.MULTILINE))
    assert types == PATRONIS
    assert set(PATRONIS) <= set(values(tmp_path, view()))


async def test_a_leader(tmp_path: Path) -> None:
    shown = values(tmp_path, view(primary(timeline=3), cluster=cluster(ME)))
    expected = {
        "patroni_version": 40105,
        "patroni_postgres_running": 1,
        "patroni_primary": 1,
        "patroni_replica": 0,
        "patroni_xlog_location": 0x3000,
        "patroni_xlog_received_location": 0,
        "patroni_postgres_timeline": 3,
        "patroni_postgres_server_version": 150012,
        "patroni_postgres_state": 5,
        "patroni_cluster_unlocked": 0,
        "patroni_dcs_last_seen": 1692356718,
        "patroni_postmaster_start_time": 1767225600.5,
        "pgherd_lease_remaining_seconds": 4.5,
    }
    assert {name: shown[name] for name in expected} == expected


async def test_a_standby(tmp_path: Path) -> None:
    instance = standby(
        received=9, replayed=8, replay_paused=True, replayed_at="2026-01-01 00:00:00+00"
    )
    shown = values(tmp_path, view(instance))
    expected = {
        "patroni_primary": 0,
        "patroni_replica": 1,
        "patroni_xlog_location": 0,
        "patroni_xlog_received_location": 9,
        "patroni_xlog_replayed_location": 8,
        "patroni_xlog_paused": 1,
        "patroni_postgres_streaming": 1,
        "patroni_postgres_in_archive_recovery": 0,
        "patroni_xlog_replayed_timestamp": 1767225600,
    }
    assert {name: shown[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("seen", "name", "value"),
    [
        (view(standby(receiver_status=None)), "patroni_postgres_in_archive_recovery", 1),
        (view(standby(receiver_status=None)), "patroni_postgres_streaming", 0),
        (view(stopped()), "patroni_postgres_state", 12),
        (view(stopped("in production")), "patroni_postgres_state", 14),
        (view(stopped()), "patroni_postgres_running", 0),
        (view(operation="stop"), "patroni_postgres_state", 11),
        (view(Instance(), operation="clone"), "patroni_postgres_state", 4),
        (view(stopped(), operation="restart"), "patroni_postgres_state", 9),
        (view(), "patroni_failsafe_mode_enabled", 0),
        (view(cluster=FAILSAFE), "patroni_failsafe_mode_enabled", 1),
        (view(cluster=FAILSAFE), "patroni_failsafe_member", 1),
        (view(cluster=FAILSAFE, me="pg9"), "patroni_failsafe_member", 0),
        (view(tags=Tags(failover_priority=3)), "patroni_failover_priority", 3),
        (view(tags=Tags(nofailover=True)), "patroni_failover_priority", 0),
        (unlocked(), "patroni_cluster_unlocked", 1),
        (view(cluster=None), "patroni_cluster_unlocked", 0),
        (view(cluster=cluster(config={"pause": True})), "patroni_is_paused", 1),
        (view(standby(pending_restart={"a": {}})), "patroni_pending_restart", 1),
        (view(lease=None), "pgherd_lease_remaining_seconds", 0),
        (view(), "pgherd_guarded", 1),
        (view(guarded=False), "pgherd_guarded", 0),
        (view(), "pgherd_disk_well", 1),
        (view(standby(disk="it is full")), "pgherd_disk_well", 0),
        (view(), "pgherd_sync_standbys", 0),
        (view(primary(sync_names='ANY 1 ("pg2","pg3")')), "pgherd_sync_standbys", 2),
        (view(standby(sync_names='ANY 1 ("pg2","pg3")')), "pgherd_sync_standbys", 0),
        (ACKNOWLEDGING["on"], "patroni_sync_standby", 1),
        (ACKNOWLEDGING["on"], "patroni_quorum_standby", 0),
        (ACKNOWLEDGING["quorum"], "patroni_sync_standby", 0),
        (ACKNOWLEDGING["quorum"], "patroni_quorum_standby", 1),
        (replace(ACKNOWLEDGING["quorum"], me="pg3"), "patroni_quorum_standby", 0),
        (view(), "patroni_failsafe_mode_is_active", 0),
        (view(store_answers=False), "patroni_failsafe_mode_is_active", 0),
        (PROMISED, "patroni_failsafe_mode_is_active", 1),
        (replace(PROMISED, store_answers=True), "patroni_failsafe_mode_is_active", 0),
        (view(lease=lease(-2)), "pgherd_lease_remaining_seconds", -2),
    ],
)
async def test_what_changes_is_shown(tmp_path: Path, seen: View, name: str, value: float) -> None:
    assert values(tmp_path, seen)[name] == value


async def test_exactly_the_rule_that_fired_is_shown(tmp_path: Path) -> None:
    text = exposed(tmp_path, view())
    shown: dict[str, Any] = dict(
        re.findall(r'^pgherd_rule\{name="pg1",rule="(\w+)",scope="demo"\} (\S+)$', text, re.M)
    )
    assert set(shown) == {rule.name for rule in RULES}
    assert [name for name, value in shown.items() if float(value)] == ["stream"]


async def test_our_own_counters_keep_the_ending_prometheus_asks_for(tmp_path: Path) -> None:
    shown = values(tmp_path, view())
    rest = {f"pgherd_rest_{word}_total" for word in ("requests", "shed", "dropped")}
    assert {"pgherd_rounds_total", "pgherd_decisions_total", *rest} <= set(shown)


async def test_renewals_are_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Instance())
    server = Server(Api(rig.loop), rig.config.access)
    for count in range(3):
        assert f'pgherd_lease_renewals_total{{name="pg1",scope="demo"}} {count}.0' in (
            exposition(rig.loop, server).decode()
        )
        await rig.keeper.renew()


async def test_slots(tmp_path: Path) -> None:
    instance = primary(slots={"pg2": slot(0x1000, active=True), "feed": slot(0x2000)})
    text = exposed(tmp_path, view(instance, cluster=cluster(ME)))
    label = r'\{name="pg1",scope="demo",slot="(\w+)",type="physical"\}'
    found = re.findall(rf"^pgherd_slot_(\w+){label} (\S+)$", text, re.MULTILINE)
    assert sorted(found) == [
        ("active", "feed", "0.0"),
        ("active", "pg2", "1.0"),
        ("lost", "feed", "0.0"),
        ("lost", "pg2", "0.0"),
        ("retained_bytes", "feed", "4096.0"),
        ("retained_bytes", "pg2", "8192.0"),
    ]
    leader = member("pg2", role="primary", pgherd={"failover_slots": ["a", "b"]})
    shown = values(tmp_path, view(cluster=cluster(members=[leader])))
    assert shown["pgherd_failover_slots_missing"] == 2
