# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL parameters from the hardware and the cluster's timings."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.postgresql_tuning import (
    GIB,
    MIB,
    huge_page_count,
    postgresql_tuning,
)
from ansible_collections.pgherd.cluster.plugins.filter.rto_timings import rto_timings

NORMAL = rto_timings("normal")


@pytest.mark.parametrize(
    ("memory", "buffers", "cache", "maintenance", "work"),
    [
        (256 * MIB, "64MB", "192MB", "64MB", "4MB"),
        (1 * GIB, "256MB", "768MB", "64MB", "4MB"),
        (4 * GIB, "1024MB", "3072MB", "256MB", "5MB"),
        (24 * GIB, "6144MB", "18432MB", "1536MB", "30MB"),
        (128 * GIB, "32768MB", "98304MB", "2048MB", "163MB"),
        (512 * GIB, "32768MB", "393216MB", "2048MB", "256MB"),
    ],
)
def test_memory_is_shared_out(
    memory: int, buffers: str, cache: str, maintenance: str, work: str
) -> None:
    tuned = postgresql_tuning(memory, 4, NORMAL)
    assert tuned["shared_buffers"] == buffers
    assert tuned["effective_cache_size"] == cache
    assert tuned["maintenance_work_mem"] == maintenance
    assert tuned["work_mem"] == work


def test_more_connections_get_less_memory_each() -> None:
    tuned = postgresql_tuning(24 * GIB, 4, NORMAL, max_connections=1000)
    assert (tuned["max_connections"], tuned["work_mem"]) == (1000, "6MB")


@pytest.mark.parametrize(
    ("cores", "parallel", "gather", "vacuum"),
    [(1, 1, 0, 3), (2, 2, 1, 3), (8, 8, 4, 3), (16, 16, 4, 4), (64, 56, 4, 8)],
)
def test_cores_are_shared_out(cores: int, parallel: int, gather: int, vacuum: int) -> None:
    tuned = postgresql_tuning(4 * GIB, cores, NORMAL)
    assert tuned["max_parallel_workers"] == parallel
    assert tuned["max_parallel_workers_per_gather"] == gather
    assert tuned["max_parallel_maintenance_workers"] == gather
    assert tuned["autovacuum_max_workers"] == vacuum


def test_members_of_unlike_hosts_agree_on_what_a_standby_needs() -> None:
    small = postgresql_tuning(4 * GIB, 2, NORMAL)
    large = postgresql_tuning(256 * GIB, 128, NORMAL)
    for name in ("max_worker_processes", "max_connections"):
        assert small[name] == large[name]
    assert (small["max_parallel_workers"], large["max_parallel_workers"]) == (2, 56)


@pytest.mark.parametrize(
    ("profile", "receiver", "retry", "idle", "interval"),
    [
        ("fast", "2000ms", "200ms", "2s", "1s"),
        ("normal", "5000ms", "500ms", "5s", "1s"),
        ("wan", "30000ms", "2000ms", "30s", "10s"),
    ],
)
def test_timings_decide_when_a_peer_is_lost(
    profile: str, receiver: str, retry: str, idle: str, interval: str
) -> None:
    tuned = postgresql_tuning(4 * GIB, 2, rto_timings(profile))
    assert tuned["wal_receiver_timeout"] == tuned["wal_sender_timeout"] == receiver
    assert tuned["tcp_user_timeout"] == receiver
    assert tuned["wal_retrieve_retry_interval"] == retry
    assert (tuned["tcp_keepalives_idle"], tuned["tcp_keepalives_interval"]) == (idle, interval)


@pytest.mark.parametrize(
    ("memory", "cores", "connections", "message"),
    [
        (100 * MIB, 2, 200, "100 MB of memory; it needs 256 MB"),
        (4 * GIB, 0, 200, "cores (0)"),
        (4 * GIB, 2, 0, "max_connections (0)"),
    ],
)
def test_a_host_that_cannot_do_is_refused(
    memory: int, cores: int, connections: int, message: str
) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        postgresql_tuning(memory, cores, NORMAL, max_connections=connections)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("buffers", "pages"), [("1024MB", 596), ("1GB", 596), ("131072kB", 103), ("8 GB", 4538)]
)
def test_huge_pages_hold_the_shared_memory(buffers: str, pages: int) -> None:
    assert huge_page_count({"shared_buffers": buffers}) == pages


@pytest.mark.parametrize("buffers", ["131072", "a lot", "1.5GB"])
def test_huge_pages_need_a_size_with_its_unit(buffers: str) -> None:
    with pytest.raises(AnsibleFilterError):
        huge_page_count({"shared_buffers": buffers})
