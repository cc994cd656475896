# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical subscriber outside the cluster gets every row once, whoever leads meanwhile."""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.probe import TABLE, Probe
from lab.stage import await_synchronous
from lab.store import Store
from lab.subscriber import NAME, Subscriber
from lab.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)

# Beyond these something is broken rather than slow on a busy machine, seconds.
HEALTHY_WITHIN: Final = 90
COPIED_WITHIN: Final = 120
CAUGHT_UP_WITHIN: Final = 60
ROWS: Final = 200
# A leader whose standbys stand still goes on alone after some seconds.
HELD_SECONDS: Final = 0.8
ATTEMPTS: Final = 5
# Not the shell that runs the pattern.
RECEIVER: Final = "[w]alreceiver"


@dataclass
class Story:
    """What a subscriber went through, and what it and the publisher have after that."""

    changes: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    published: set[int] = field(default_factory=set)
    applied: Counter[int] = field(default_factory=Counter)
    slots: dict[str, list[str]] = field(default_factory=dict)
    too_early: bool = True
    by_itself: bool = True


def set_wal_level(cluster: Cluster, level: str) -> None:
    """Have every member write WAL of *level*, the leader last."""
    leader = cluster.await_healthy(HEALTHY_WITHIN)
    change = {"postgresql": {"parameters": {"wal_level": level}}}
    status, text = cluster.ask(leader, "PATCH", "/config", change)
    assert status == 200, text
    for host in [*(host for host in MEMBERS if host != leader), leader]:
        if cluster.query(host, "SHOW wal_level") != [(level,)]:
            restart(cluster, host)
            cluster.await_healthy(HEALTHY_WITHIN)


def restart(cluster: Cluster, host: str) -> None:
    """Restart *host*'s PostgreSQL once its agent has heard of the new setting."""
    cluster.await_members(
        f"{host} waits for its restart",
        lambda _: "wal_level" in cluster.rest(host, "/patroni")[1],
        HEALTHY_WITHIN,
    )
    status, text = cluster.ask(host, "POST", "/restart", {})
    assert status == 200, text


def switch_over(cluster: Cluster, leader: str) -> str:
    """Hand the lead to another member; return it."""
    heir = next(host for host in MEMBERS if host != leader)
    status, text = cluster.ask(leader, "POST", "/switchover", {"leader": leader, "candidate": heir})
    assert status == 200, text
    return heir


def lose(lab: Lab, cluster: Cluster, leader: str) -> str:
    """Kill *leader*'s host and start it when another one leads; return that one."""
    lab.kill(leader)
    members = cluster.await_members(
        "A new leader",
        lambda now: any(member.leads and member.name != leader for member in now),
        HEALTHY_WITHIN,
    )
    heir = next(member.name for member in members if member.leads)
    lab.start(leader, wait=False)
    return heir


def gets_ahead(lab: Lab, cluster: Cluster, subscriber: Subscriber, leader: str) -> bool:
    """Tell whether the subscriber gets a row that no standby has, all their receivers frozen.

    The row does not wait for them itself. That the leader still waits for its standbys afterwards
    shows that nobody could have been elected without it, and so nobody had to get it.
    """
    standbys = [host for host in MEMBERS if host != leader]
    insert = f"SET synchronous_commit = local; INSERT INTO {TABLE} (run, number) VALUES"
    for number in range(ATTEMPTS):
        names = cluster.query(leader, "SHOW synchronous_standby_names")
        run, deadline = uuid.uuid4().hex, time.monotonic() + HELD_SECONDS
        try:
            for host in standbys:
                lab.exec(host, ["pkill", "-STOP", "-f", RECEIVER])
            cluster.query(leader, f"{insert} ('{run}', {number})")
            has_come = bool(subscriber.await_rows(run, {number}, deadline - time.monotonic()))
            is_held = cluster.query(leader, "SHOW synchronous_standby_names") == names
        finally:
            for host in standbys:
                lab.exec(host, ["pkill", "-CONT", "-f", RECEIVER])
        assert set(subscriber.await_rows(run, {number}, CAUGHT_UP_WITHIN)) == {number}
        cluster.await_healthy(HEALTHY_WITHIN)
        await_synchronous(cluster, Store(lab))
        if is_held:
            return has_come
    raise AssertionError(f"the leader went on alone within {HELD_SECONDS} s, {ATTEMPTS} times")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Write while the lead changes hands twice, once as planned and once not."""
    lab = Lab(Settings.from_environment())
    cluster = Cluster(lab.settings)
    set_wal_level(cluster, "logical")
    subscriber, told = Subscriber(lab, cluster), Story()
    subscriber.start(await_synchronous(cluster, Store(lab)))
    leader = subscriber.await_copies(COPIED_WITHIN)
    told.by_itself = subscriber.has_failover_slots(leader)
    if told.by_itself:
        told.too_early = gets_ahead(lab, cluster, subscriber, leader)
    probe = Probe(cluster.targets(), run=uuid.uuid4().hex)
    probe.start()
    try:
        for step in (switch_over, lambda known, old: lose(lab, known, old)):
            before = subscriber.await_copies(COPIED_WITHIN)
            probe.await_rows(ROWS, after=time.monotonic(), timeout_seconds=HEALTHY_WITHIN)
            told.changes.append((before, step(cluster, before)))
            probe.await_rows(ROWS, after=time.monotonic(), timeout_seconds=HEALTHY_WITHIN)
        leader = subscriber.await_copies(COPIED_WITHIN)
    finally:
        probe.stop()
    with Wire(cluster.target(leader), 10) as wire:
        told.published = probe.present(wire)
    told.acknowledged = {row.number for row in probe.acknowledged}
    told.applied = subscriber.await_rows(probe.run, told.published, CAUGHT_UP_WITHIN)
    sql = "SELECT slot_name FROM pg_replication_slots ORDER BY 1"
    told.slots = {host: [row[0] for row in cluster.query(host, sql)] for host in MEMBERS}
    changes = ", ".join(map(" -> ".join, told.changes))
    sys.stdout.write(
        f"\n{changes}: {len(told.acknowledged)} rows acknowledged, "
        f"{len(told.published)} published, {sum(told.applied.values())} applied; "
        f"{probe.gap().seconds:.2f} s without a commit\n"
    )
    yield told
    subscriber.stop()


def test_the_lead_changed_hands_twice(story: Story) -> None:
    assert len(story.changes) == 2
    assert all(before != after for before, after in story.changes)


def test_no_acknowledged_row_is_lost(story: Story) -> None:
    assert len(story.acknowledged) >= 4 * ROWS
    assert story.acknowledged <= story.published


def test_the_subscriber_has_what_the_publisher_has(story: Story) -> None:
    assert story.published - set(story.applied) == set(), "lost on the way"
    if story.by_itself:
        assert set(story.applied) - story.published == set(), "ahead of the new leader"


def test_it_gets_nothing_that_the_next_leader_might_lack(story: Story) -> None:
    if not story.by_itself:
        pytest.skip("before PostgreSQL 17 subscribers wait for no standby")
    assert not story.too_early


def test_it_has_nothing_twice(story: Story) -> None:
    assert [number for number, times in story.applied.items() if times > 1] == []


def test_every_member_has_the_slots_it_needs_and_no_others(story: Story) -> None:
    for host, slots in story.slots.items():
        assert slots == sorted([NAME, *(other for other in MEMBERS if other != host)])
