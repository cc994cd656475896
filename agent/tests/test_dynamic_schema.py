# SPDX-License-Identifier: GPL-3.0-or-later
"""What the dynamic configuration may hold: every problem is one sentence that names its key."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from pgherd.config import Timing
from pgherd.dynamic_schema import DYNAMIC, check_dynamic

TIMING = asdict(Timing())


def problems(raw: dict[str, Any]) -> list[str]:
    return check_dynamic(raw, TIMING)


def parameters(**given: Any) -> dict[str, Any]:
    return {"postgresql": {"parameters": given}}


# As an operator of Patroni has it.
PATRONIS: dict[str, Any] = {
    "ttl": 30,
    "loop_wait": 10,
    "retry_timeout": "10",
    "maximum_lag_on_failover": "1MB",
    "maximum_lag_on_syncnode": -1,
    "check_timeline": True,
    "max_timelines_history": 0,
    "master_start_timeout": 300,
    "primary_stop_timeout": "1min",
    "synchronous_mode": "quorum",
    "synchronous_mode_strict": False,
    "synchronous_node_count": 2,
    "failsafe_mode": True,
    "member_slots_ttl": "30min",
    "slots": {
        "ci": {"type": "logical", "database": "app", "plugin": "pgoutput"},
        "spare": {"type": "physical", "cluster_type": "primary"},
        "other": None,
    },
    "ignore_slots": [{"name": "mine", "type": "physical"}, {"plugin": "wal2json"}],
    "standby_cluster": {
        "host": "10.0.0.1,10.0.0.2",
        "port": "5432,5433",
        "primary_slot_name": "site2",
        "create_replica_methods": ["basebackup"],
        "recovery_min_apply_delay": "5min",
    },
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "parameters": {
            "max_connections": "100",
            "wal_level": "hot_standby",
            "hot_standby": "on",
            "work_mem": None,
            "pg_stat_statements.max": 1000,
        },
        "pg_hba": ["host all all 0.0.0.0/0 scram-sha-256"],
        "recovery_conf": {"restore_command": "cp /archive/%f %p"},
        "create_replica_methods": ["pgbackrest", "basebackup"],
        "pgbackrest": {"command": "pgbackrest restore", "keep_data": True, "no_params": True},
        "basebackup": [{"max-rate": "100M"}, "verbose"],
        "pg_ctl_timeout": 60,
        "callbacks": {"on_start": "/bin/true"},
    },
}


def test_what_patroni_takes_is_taken() -> None:
    assert problems(PATRONIS) == []


def test_an_empty_configuration_is_fine() -> None:
    assert problems({}) == []


@pytest.mark.parametrize("key", DYNAMIC)
def test_null_counts_as_absent(key: str) -> None:
    assert problems({key: None}) == []


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"ttl": 19}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"loop_wait": 0}, "loop_wait"),
        ({"retry_timeout": 2}, "retry_timeout"),
        ({"maximum_lag_on_failover": -1}, "maximum_lag_on_failover"),
        ({"maximum_lag_on_failover": "1s"}, "maximum_lag_on_failover"),
        ({"check_timeline": "yes"}, "check_timeline"),
        ({"synchronous_mode": "multi"}, "synchronous_mode"),
        ({"synchronous_node_count": 0}, "synchronous_node_count"),
        ({"pause": 1}, "pause"),
        ({"slots": ["a"]}, "slots"),
        ({"slots": {"Upper": 0}}, "slots"),
        ({"slots": {"ci": {"type": "logical", "database": "app"}}}, "slots"),
        ({"slots": {"ci": {"typ": "physical"}}}, "slots"),
        ({"ignore_slots": {"name": "a"}}, "ignore_slots"),
        ({"ignore_slots": [{}]}, "ignore_slots"),
        ({"standby_cluster": {"port": "none"}}, "standby_cluster.port"),
        ({"standby_cluster": True}, "standby_cluster"),
        ({"postgresql": []}, "postgresql"),
        ({"postgresql": {"parameters": ["a=b"]}}, "postgresql.parameters"),
        (parameters(work_mem=["1MB"]), "postgresql.parameters"),
        ({"postgresql": {"use_slots": "on"}}, "postgresql.use_slots"),
        ({"postgresql": {"pg_hba": "host all"}}, "postgresql.pg_hba"),
        ({"postgresql": {"callbacks": {"on_start": 1}}}, "postgresql.callbacks.on_start"),
        (
            {"postgresql": {"create_replica_methods": ["own"], "own": {"keep_data": True}}},
            "postgresql.own",
        ),
        ({"pgherd": {"lease_ttl": 1}}, "pgherd.lease_ttl"),
        ({"pgherd": 5}, "pgherd"),
    ],
)
def test_what_is_wrong_is_named(raw: dict[str, Any], key: str) -> None:
    [problem] = problems(raw)
    assert problem.startswith(f"{key}: must ")


@pytest.mark.parametrize(
    ("raw", "key", "near"),
    [
        ({"loop_wiat": 10}, "loop_wiat", "loop_wait"),
        ({"postgresql": {"use_slot": True}}, "postgresql.use_slot", "postgresql.use_slots"),
        ({"pgherd": {"lease_tl": 2}}, "pgherd.lease_tl", "pgherd.lease_ttl"),
        (
            {"postgresql": {"callbacks": {"on_begin": "x"}}},
            "postgresql.callbacks.on_begin",
            "postgresql.callbacks.on_restart",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(
    raw: dict[str, Any], key: str, near: str
) -> None:
    [problem] = problems(raw)
    assert problem.startswith(f"{key}: unknown key")
    assert near.rpartition("_")[0] in problem or near in problem


class TestPatronisTimings:
    def test_they_must_leave_a_patroni_member_time(self) -> None:
        [problem] = problems({"ttl": 20, "loop_wait": 10, "retry_timeout": 10})
        assert problem.startswith("ttl: loop_wait + 2 * retry_timeout = 30 > ttl = 20")

    def test_what_is_not_given_has_patronis_default(self) -> None:
        assert problems({"ttl": 29}) != []
        assert problems({"ttl": 29, "loop_wait": 9}) == []


class TestOurTimings:
    def test_the_inequalities_of_the_file_hold_here_too(self) -> None:
        [problem] = problems({"pgherd": {"keepalive_interval": 2}})
        assert problem.startswith("pgherd.keepalive_interval: 2 > pgherd.lease_ttl / 4")

    def test_what_is_not_given_is_that_of_the_file(self) -> None:
        assert problems({"pgherd": {"lease_ttl": 2}}) != []
        fast = {**TIMING, "keepalive_interval": 0.4, "etcd_timeout": 0.5}
        assert check_dynamic({"pgherd": {"lease_ttl": 2}}, fast) == []

    def test_the_poolers_of_a_host_are_told_by_its_file_only(self) -> None:
        [problem] = problems({"pgherd": {"pooler": {}}})
        assert problem == "pgherd.pooler: unknown key"


class TestParameters:
    @pytest.mark.parametrize(
        "name", ["port", "listen_addresses", "PRIMARY_CONNINFO", "hot_standby"]
    )
    def test_those_of_the_agent_are_refused(self, name: str) -> None:
        [problem] = problems(parameters(**{name: "off"}))
        assert problem == (
            f"postgresql.parameters.{name}: is set by the agent and cannot be given here"
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_connections", 24),
            ("max_wal_senders", "2"),
            ("max_replication_slots", 0),
            ("max_locks_per_transaction", 31),
            ("wal_level", "minimal"),
        ],
    )
    def test_no_cluster_can_be_run_with_less(self, name: str, value: Any) -> None:
        [problem] = problems(parameters(**{name: value}))
        assert problem.startswith(f"postgresql.parameters.{name}: must be ")
