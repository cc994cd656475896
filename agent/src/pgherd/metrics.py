# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /metrics`: Patroni's series under Patroni's names, ours as `pgherd_*`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pgherd import PATRONI_VERSION, __version__
from pgherd.decide import RULES
from pgherd.published import role, standby_role, state
from pgherd.slot_figures import missing_failover_slots, slot_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgherd.loop import Loop
    from pgherd.server import Server

# Patroni's numbers for its states (`patroni_postgres_state`).
STATES: Final = {
    "initializing new cluster": 0,
    "initdb failed": 1,
    "running custom bootstrap script": 2,
    "custom bootstrap failed": 3,
    "creating replica": 4,
    "running": 5,
    "starting": 6,
    "starting after custom bootstrap": 7,
    "start failed": 8,
    "restarting": 9,
    "restart failed": 10,
    "stopping": 11,
    "stopped": 12,
    "stop failed": 13,
    "crashed": 14,
}


def _padded(version: str) -> int:
    """Return Patroni's way to show a version as a number: 4.1.5 is 40105."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major * 10000 + minor * 100 + patch


def _seconds(text: str | None) -> float:
    """Return seconds since the epoch for a timestamp PostgreSQL printed, 0 for none."""
    if not text:
        return 0.0
    # PostgreSQL prints +00, which fromisoformat takes from Python 3.11 on.
    return datetime.fromisoformat(text).timestamp()


class Collector:
    """Turns the loop's last view into metrics when asked."""

    def __init__(self, loop: Loop, server: Server) -> None:
        self._loop = loop
        self._server = server

    def collect(self) -> Iterator[Metric]:
        labels = ["scope", "name"]
        values = [self._loop.config.scope, self._loop.config.name]
        for name, help_text, value in self._gauges():
            gauge = GaugeMetricFamily(name, help_text, labels=labels)
            gauge.add_metric(values, value)
            yield gauge
        for name, help_text, value in self._counters():
            counter = CounterMetricFamily(name, help_text, labels=labels)
            counter.add_metric(values, value)
            yield counter
        rule = GaugeMetricFamily(
            "pgherd_rule", "1 for the rule that fired last.", labels=[*labels, "rule"]
        )
        fired = self._loop.decision.rule.name if self._loop.decision else None
        for row in RULES:
            rule.add_metric([*values, row.name], float(row.name == fired))
        yield rule
        info = GaugeMetricFamily("pgherd_info", "pgherd's version.", labels=[*labels, "version"])
        info.add_metric([*values, __version__], 1)
        yield info
        yield from self._slots([*labels, "slot", "type"], values)
        yield from self._poolers([*labels, "pooler"], values)

    def _poolers(self, labels: list[str], values: list[str]) -> Iterator[Metric]:
        pooling = self._loop.pooling
        up = GaugeMetricFamily("pgherd_pooler_up", "PgBouncer answers.", labels=labels)
        if pooling.has_rw:
            up.add_metric([*values, "rw"], float(pooling.state.is_up))
        if pooling.has_ro:
            up.add_metric([*values, "ro"], float(pooling.ro_is_up))
        yield up

    def _slots(self, labels: list[str], values: list[str]) -> Iterator[Metric]:
        rows = slot_rows(self._loop.view.instance)
        for key, help_text in (
            ("active", "Somebody uses the slot."),
            ("lost", "PostgreSQL has removed WAL that the slot was to hold."),
            ("retained_bytes", "WAL that the slot holds back."),
        ):
            gauge = GaugeMetricFamily(f"pgherd_slot_{key}", help_text, labels=labels)
            for name, row in rows.items():
                gauge.add_metric([*values, name, row["type"]], float(row[key]))
            yield gauge

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        view = self._loop.view
        instance = view.instance
        streaming = instance.is_streaming
        word = state(instance, view.activity, view.phase)
        yield "patroni_version", "Patroni release spoken.", _padded(PATRONI_VERSION)
        yield "patroni_postgres_running", "PostgreSQL answers.", float(instance.is_running)
        yield (
            "patroni_postmaster_start_time",
            "Start of the postmaster, seconds since the epoch.",
            _seconds(instance.started_at),
        )
        yield "patroni_primary", "PostgreSQL is a primary.", float(instance.is_primary)
        leads = role(view, instance) == "standby_leader"
        yield "patroni_standby_leader", "Leader of a standby cluster.", float(leads)
        follows = instance.is_standby and not leads
        yield "patroni_replica", "PostgreSQL is a standby.", float(follows)
        part = standby_role(view.cluster, view.me) if view.cluster and instance.is_standby else ""
        yield "patroni_sync_standby", "Synchronous standby.", float(part == "sync_standby")
        yield "patroni_quorum_standby", "Standby of the quorum.", float(part == "quorum_standby")
        yield (
            "patroni_xlog_replayed_timestamp",
            "Commit time of the last transaction replayed, seconds since the epoch.",
            _seconds(instance.replayed_at),
        )
        yield "patroni_xlog_paused", "Replay is paused.", float(instance.replay_paused)
        yield "patroni_postgres_streaming", "The standby streams.", float(streaming)
        yield (
            "patroni_postgres_in_archive_recovery",
            "The standby replays from the archive.",
            float(instance.is_standby and not streaming),
        )
        yield (
            "patroni_postgres_server_version",
            "PostgreSQL's version number.",
            float(instance.server_version or 0),
        )
        unlocked = view.cluster is not None and view.leader is None
        yield "patroni_cluster_unlocked", "Nobody holds the leader key.", float(unlocked)
        failsafe = view.leads_by_promise and not view.store_answers
        yield "patroni_failsafe_mode_is_active", "Failsafe mode is active.", float(failsafe)
        enabled = view.settings.failsafe_mode
        yield "patroni_failsafe_mode_enabled", "Failsafe mode is switched on.", float(enabled)
        known = view.cluster.failsafe if view.cluster else {}
        is_known = float(view.me in known)
        yield "patroni_failsafe_member", "It is asked for promises in failsafe mode.", is_known
        priority = 0 if view.tags.nofailover else view.tags.failover_priority
        yield "patroni_failover_priority", "0 for one that never leads.", float(priority)
        yield "patroni_postgres_timeline", "Timeline.", float(instance.timeline or 0)
        yield (
            "patroni_dcs_last_seen",
            "When etcd last answered, seconds since the epoch.",
            float(self._loop.dcs_last_seen),
        )
        pending = bool(instance.pending_restart)
        yield "patroni_pending_restart", "Settings wait for a restart.", float(pending)
        yield "patroni_is_paused", "Automatic failover is paused.", float(view.settings.pause)
        yield "patroni_postgres_state", "Patroni's number of the state.", STATES.get(word, -1)
        remaining = view.lease.valid_until - self._loop.effects.clock() if view.lease else 0.0
        yield "pgherd_guarded", "The guard process has its orders.", float(view.guarded)
        yield "pgherd_disk_well", "The data disk takes writes.", float(not instance.disk)
        waits = len(instance.acknowledging.standbys) if instance.is_primary else 0
        yield "pgherd_sync_standbys", "Standbys whose acknowledgement counts.", float(waits)
        clients = float(self._server.connections)
        yield "pgherd_rest_connections", "Connections of the REST API.", clients
        missing = float(len(missing_failover_slots(view)))
        yield "pgherd_failover_slots_missing", "The leader's slots that are not here.", missing
        yield from self._pooler_gauges()
        yield "pgherd_lease_remaining_seconds", "How long our lease is good for.", remaining

    def _pooler_gauges(self) -> Iterator[tuple[str, str, float]]:
        pooling = self._loop.pooling
        if not pooling.has_rw:
            return
        paused = float(bool(pooling.paused_for))
        yield "pgherd_pooler_paused", "The pooler for writes is paused.", paused
        usable = float(not pooling.problem())
        yield "pgherd_pooler_usable", "It points at the leader and answers.", usable

    def _counters(self) -> Iterator[tuple[str, str, float]]:
        instance = self._loop.view.instance
        for name, help_text, position in (
            ("patroni_xlog_location", "WAL position of a primary, bytes.", instance.location),
            ("patroni_xlog_received_location", "WAL received, bytes.", instance.received),
            ("patroni_xlog_replayed_location", "WAL replayed, bytes.", instance.replayed),
        ):
            yield name, help_text, float(position or 0)
        renewals = self._loop.effects.keeper.renewals
        yield "pgherd_lease_renewals", "Renewals of the lease.", float(renewals)
        yield "pgherd_rounds", "Rounds of the loop.", float(self._loop.rounds)
        counts = self._server.counts
        requests = sum(number for word, number in counts.items() if word.isdigit())
        yield "pgherd_rest_requests", "Requests answered by the REST API.", float(requests)
        yield "pgherd_rest_shed", "Requests turned away for others.", float(counts["shed"])
        yield "pgherd_rest_dropped", "Connections closed for others.", float(counts["dropped"])
        if self._loop.pooling.has_rw:
            pauses = float(self._loop.pooling.pauses)
            yield "pgherd_pooler_pauses", "Pauses of the pooler for writes.", pauses
        yield "pgherd_decisions", "Changes of the rule that fires.", float(self._loop.decisions)


def exposition(loop: Loop, server: Server) -> bytes:
    """Return the metrics of *loop* in Prometheus's text format.

    The client library appends ``_total`` to a counter; Patroni's have no such ending and dashboards
    know them without, so theirs is taken off again.
    """
    registry = CollectorRegistry()
    registry.register(Collector(loop, server))
    text = generate_latest(registry)
    for name in (b"location", b"received_location", b"replayed_location"):
        text = text.replace(b"patroni_xlog_" + name + b"_total", b"patroni_xlog_" + name)
    return text
