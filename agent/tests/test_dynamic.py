# SPDX-License-Identifier: GPL-3.0-or-later
"""The dynamic configuration as a member applies it, whoever wrote it into etcd."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.tests.builders import primary, stopped
from agent.tests.stage import BASE, Stage
from agent.tests.test_config_requests import setting
from pgherd.config import Timing
from pgherd.etcd import Delete, Put
from pgherd.merge_patch import merge_patch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SLOW = {"lease_ttl": 20, "keepalive_interval": 4, "loop_interval": 3}


def with_data(directory: Path) -> Path:
    """Have a data directory; return it."""
    data = directory / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    return data


def test_a_patch_replaces_what_is_no_mapping() -> None:
    assert merge_patch({"a": 1}, {"a": {"b": {"c": None, "d": 1}}}) == {"a": {"b": {"d": 1}}}


class TestTimings:
    async def test_the_clusters_win_over_those_of_the_file(self, stage: Stage) -> None:
        await stage.led_by_us()
        told: list[Timing] = []
        stage.loop.on_config.append(lambda config: told.append(config.timing))
        await stage.put(config={"ttl": 30, "pgherd": SLOW})
        await stage.round()
        expected = replace(Timing(), lease_ttl=20, keepalive_interval=4, loop_interval=3)
        assert stage.loop.config.timing == expected
        assert told == [expected]

    async def test_a_changed_lease_is_exchanged_while_its_holder_leads_on(
        self, stage: Stage
    ) -> None:
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "pgherd": SLOW})
        assert await stage.round() == "lead"
        lease = stage.rig.keeper.lease
        assert lease is not None
        assert stage.rig.etcd.leases[lease.id] == 20
        assert stage.rig.etcd.keys[f"{BASE}leader"].lease == lease.id

    async def test_the_files_count_again_when_the_cluster_says_nothing_more(
        self, stage: Stage
    ) -> None:
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "pgherd": SLOW})
        await stage.round()
        await stage.put(config={"ttl": 30})
        await stage.round()
        assert stage.loop.config.timing == Timing()

    async def test_files_read_anew_do_not_win(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "pgherd": {"lease_ttl": 20}})
        await stage.round()
        faster = replace(Timing(), loop_interval=1, lease_ttl=9)
        stage.loop.reconfigure(replace(stage.rig.config, timing=faster))
        assert stage.loop.config.timing == replace(faster, lease_ttl=20)

    async def test_those_that_break_an_inequality_are_not_heeded(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "pgherd": {"lease_ttl": 2}})
        await stage.round()
        assert stage.loop.config.timing == Timing()
        problems = stage.loop.dynamic.problems
        assert [problem.split(":")[0] for problem in problems] == [
            "pgherd.keepalive_interval",
            "pgherd.etcd_timeout",
        ]


class TestWhatIsWrongInEtcd:
    async def test_it_is_told_and_the_rest_is_heeded(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        """`patronictl edit-config` writes to etcd itself."""
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "mystery": 1, "maximum_lag_on_failover": "2MB"})
        await stage.round()
        await stage.round()
        assert stage.loop.view.config_problems == ("mystery: unknown key",)
        told = [each.getMessage() for each in caplog.records if "mystery" in each.getMessage()]
        assert told == ["dynamic configuration: mystery: unknown key; it is not heeded"]
        key = json.loads(stage.key("members/pg1") or "")
        assert key["pgherd"]["config_problems"] == ["mystery: unknown key"]
        assert stage.loop.view.settings.maximum_lag_on_failover == 2 << 20

    async def test_what_would_keep_the_server_from_starting_is_left_out(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.settings = [setting("work_mem", "4096", "user")]
        parameters = {"work_mem": 8192, "no_such": 1}
        await stage.put(config={"ttl": 30, "postgresql": {"parameters": parameters}})
        await stage.round()
        assert ("configure", "work_mem=8192") in stage.rig.postgres.calls
        [problem] = stage.loop.dynamic.problems
        assert "no_such: the server knows no such parameter" in problem
        # Also for a start, when nobody can be asked.
        stage.rig.postgres.settings = []
        stage.rig.postgres.calls.clear()
        stage.rig.postgres.instance = stopped("in production")
        await stage.round()
        assert ("configure", "work_mem=8192") in stage.rig.postgres.calls

    async def test_nothing_in_it_ends_an_agent(self, stage: Stage) -> None:
        await stage.led_by_us()
        odd: list[Any] = [
            {"postgresql": []},
            {"postgresql": {"parameters": [1], "pg_hba": {"a": 1}}},
            {"pgherd": "fast"},
            {"pgherd": {"lease_ttl": float("inf")}, "ttl": {"a": None}},
            {"postgresql": {"callbacks": 5, "basebackup": 7, "create_replica_methods": {}}},
            {"standby_cluster": 1, "slots": "all", "synchronous_node_count": 1e300},
        ]
        for config in odd:
            await stage.put(config=config)
            assert await stage.round() == "lead"
            assert stage.loop.dynamic.problems != ()
            assert stage.loop.config == stage.rig.config


class TestWhatMembersShare:
    async def test_the_cluster_says_what_a_file_is_silent_about(self, tmp_path: Path) -> None:
        stage = await Stage(tmp_path).led_by_us()
        shared = {
            "pg_hba": ["local all all peer"],
            "callbacks": {"on_start": "true"},
            "create_replica_methods": ["own", "basebackup"],
            "own": {"command": "true", "no_leader": True},
            "rewind": ["progress", {"debug": False}],
        }
        await stage.put(config={"ttl": 30, "postgresql": shared})
        await stage.round()
        postgres = stage.loop.config.postgres
        assert (postgres.pg_hba, postgres.callbacks) == (
            ("local all all peer",),
            {"on_start": "true"},
        )
        assert postgres.replica_methods == ("own", "basebackup")
        assert postgres.method_options == {"own": {"command": "true", "no_leader": True}}
        assert stage.loop.view.restores
        assert postgres.rewind_options == {"progress": True, "debug": False}

    async def test_a_file_that_says_so_wins(self, stage: Stage) -> None:
        own = replace(stage.rig.config.postgres, pg_hba=("local all all trust",), use_slots=False)
        stage.loop.reconfigure(replace(stage.rig.config, postgres=own))
        await stage.led_by_us()
        shared = {"pg_hba": ["local all all peer"], "use_slots": True}
        await stage.put(config={"ttl": 30, "postgresql": shared})
        await stage.round()
        assert stage.loop.config.postgres.pg_hba == ("local all all trust",)
        assert stage.loop.view.settings.use_slots is False


class TestTheCopy:
    async def test_it_is_kept_beside_the_data_where_patroni_has_it(self, tmp_path: Path) -> None:
        data = with_data(tmp_path)
        stage = await Stage(tmp_path).led_by_us()
        await stage.put(config={"ttl": 44})
        await stage.round()
        assert json.loads((data / "patroni.dynamic.json").read_text()) == {"ttl": 44}

    async def test_an_empty_data_directory_stays_empty(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        stage = await Stage(tmp_path).led_by_us()
        await stage.put(config={"ttl": 44})
        await stage.round()
        assert list((tmp_path / "data").iterdir()) == []

    async def test_a_leader_writes_a_key_that_has_gone_from_what_it_kept(
        self, tmp_path: Path
    ) -> None:
        """A deleted key must not switch synchronous replication off."""
        data = with_data(tmp_path)
        kept = {"ttl": 44, "synchronous_mode": "quorum"}
        (data / "patroni.dynamic.json").write_text(json.dumps(kept))
        stage = await Stage(tmp_path).led_by_us()
        await stage.rig.etcd.txn([], [Delete(f"{BASE}config")])
        stage.rig.postgres.instance = primary()
        await stage.loop.observe()
        assert stage.loop.view.settings.synchronous_mode == "off"
        await stage.round()
        assert stage.loop.view.settings.synchronous_mode == "quorum"
        await stage.rounds()
        assert json.loads(stage.key("config") or "") == kept

    async def test_what_was_in_force_last_counts_more_than_the_file(self, tmp_path: Path) -> None:
        stage = await Stage(tmp_path).led_by_us()
        await stage.put(config={"ttl": 44})
        await stage.round()
        with_data(tmp_path)
        await stage.rig.etcd.txn([], [Delete(f"{BASE}config")])
        await stage.round()
        assert json.loads(stage.key("config") or "") == {"ttl": 44}

    async def test_it_outlives_the_loss_of_all_keys(self, tmp_path: Path) -> None:
        """`patronictl remove` deletes `initialize` as well."""
        with_data(tmp_path)
        stage = await Stage(tmp_path).led_by_us()
        stage.rig.postgres.instance = primary()
        changed = {"synchronous_mode": "quorum", "member_slots_ttl": 44}
        await stage.put(config=changed)
        await stage.round()
        await stage.rig.etcd.txn([], [Delete(f"{BASE}config"), Delete(f"{BASE}initialize")])
        await stage.round()
        assert stage.loop.view.settings.member_slots_ttl == 44
        assert json.loads(stage.key("config") or "") == changed

    async def test_a_cluster_that_is_being_made_has_none(self, tmp_path: Path) -> None:
        data = with_data(tmp_path)
        (data / "patroni.dynamic.json").write_text(json.dumps({"ttl": 44}))
        stage = Stage(tmp_path)
        await stage.rig.etcd.txn([], [Put(f"{BASE}initialize", "")])
        await stage.round()
        assert stage.loop.view.cluster is not None
        assert stage.loop.view.cluster.config is None

    async def test_a_damaged_copy_is_no_copy(self, tmp_path: Path) -> None:
        (with_data(tmp_path) / "patroni.dynamic.json").write_text("{")
        stage = await Stage(tmp_path).led_by_us()
        await stage.rig.etcd.txn([], [Delete(f"{BASE}config")])
        await stage.round()
        assert json.loads(stage.key("config") or "") == stage.rig.config.bootstrap_config
