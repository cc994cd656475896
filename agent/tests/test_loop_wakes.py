# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends the loop, what wakes it, and what it does again by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import (
    NOW,
    peer,
    peers,
    primary,
    standby,
    starting,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from agent.tests.stage import BASE, PG2
from pgherd.decide import decide
from pgherd.pooler_config import PoolerConfig, PoolerSocket

if TYPE_CHECKING:
    from agent.tests.stage import Stage


class TestTheEnd:
    async def test_a_stop_stops_postgresql_and_then_gives_the_key_away(self, stage: Stage) -> None:
        """R18."""
        await stage.led_by_us()
        await stage.round()
        stage.loop.stopping = True
        assert await stage.round() == "stop"
        await stage.rig.settle()
        assert stage.calls[-1] == ("stop",)
        assert stage.key("leader") is None
        assert stage.key("members/pg1") is None
        assert stage.loop.finished.is_set()

    async def test_without_etcd_a_stop_ends_too(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        stage.rig.etcd.is_down = True
        stage.loop.stopping = True
        await stage.round()
        await stage.rig.settle()
        assert stage.loop.finished.is_set()

    async def test_the_loop_ends_when_it_is_told_to(self, stage: Stage) -> None:
        await stage.led_by_us()
        running = asyncio.create_task(stage.loop.run())
        async with asyncio.timeout(20):
            await stage.rig.systemd.saw_life.wait()
            stage.loop.finished.set()
            stage.rig.wake.set()
            await running
        assert stage.loop.rounds >= 1


class TestWaking:
    @pytest.mark.parametrize(
        ("key", "wakes"),
        [
            ("leader", True),
            ("config", True),
            ("failover", True),
            ("sync", True),
            ("members/pg2", False),
            ("status", False),
        ],
    )
    async def test_a_steady_loop_is_woken_by_what_matters_to_it(
        self, stage: Stage, key: str, wakes: bool
    ) -> None:
        """2 number 8: members and positions change all the time."""
        await stage.led_by_other()
        assert await stage.round() == "stream"
        watching = asyncio.create_task(stage.loop._watch())
        for _ in range(5):
            await asyncio.sleep(0)
        stage.rig.wake.clear()
        await stage.put(0, **{key.replace("/", "__"): PG2})
        for _ in range(5):
            await asyncio.sleep(0)
        assert stage.rig.wake.is_set() is wakes
        watching.cancel()

    async def test_a_watch_that_moves_to_another_endpoint_misses_nothing_meanwhile(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While etcd is slow that happens in the middle of a switchover."""
        await stage.led_by_other()
        assert await stage.round() == "stream"
        monkeypatch.setattr("pgherd.loop.BUSY_INTERVAL_SECONDS", 3600)
        watching = asyncio.create_task(stage.loop._watch())
        await asyncio.sleep(0.01)
        stage.rig.store.etcd._moved.set()
        await asyncio.sleep(0.01)
        stage.rig.wake.clear()
        await stage.put(leader="pg3")
        async with asyncio.timeout(5):
            await stage.rig.wake.wait()
        watching.cancel()

    async def test_members_keys_matter_while_a_paused_pooler_waits_for_a_leader(
        self, stage: Stage
    ) -> None:
        await stage.led_by_other()
        await stage.round()
        assert not stage.loop._is_urgent({"members/pg2"})
        poolers = PoolerConfig(PoolerSocket(Path("/run/none"), 6432, Path("/run/none/rw.ini")))
        stage.loop.pooling.reconfigure(replace(stage.loop.config, pooler=poolers))
        await stage.round()
        # Nobody has pointed it at pg2 yet.
        assert stage.loop._is_urgent({"members/pg2"})
        assert not stage.loop._is_urgent({"status"})

    async def test_a_changed_configuration_reaches_postgresql_once(self, stage: Stage) -> None:
        await stage.led_by_other()
        parameters = {"work_mem": "8MB"}
        await stage.put(config={"postgresql": {"parameters": parameters}})
        for _ in range(3):
            await stage.round()
        assert stage.rig.postgres.calls.count(("configure", "work_mem=8MB")) == 1
        await stage.put(config={"postgresql": {"parameters": {"work_mem": "9MB"}}})
        await stage.round()
        assert stage.rig.postgres.calls.count(("configure", "work_mem=9MB")) == 1

    async def test_the_files_of_an_instance_that_does_not_answer_are_left_alone(
        self, stage: Stage
    ) -> None:
        """After a restart of the agent it is not known what a slow primary has in force."""
        await stage.led_by_us()
        stage.rig.postgres.instance = starting(in_recovery=None)
        await stage.round()
        assert stage.rig.postgres.calls == []
        stage.rig.postgres.instance = primary(sync_names='ANY 1 ("pg2")')
        await stage.round()
        assert ("configure",) in stage.rig.postgres.calls
        assert stage.rig.postgres.names_asked == 'ANY 1 ("pg2")'

    async def test_postgresql_learns_that_commits_may_have_to_wait(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.round()
        await stage.put(config={"ttl": 30, "synchronous_mode": "quorum"})
        before = stage.rig.postgres.calls.count(("configure",))
        for _ in range(2):
            await stage.round()
        assert stage.rig.postgres.calls.count(("configure",)) == before + 1

    @pytest.mark.parametrize(
        ("rule", "others", "short"),
        [("votes_missing", True, True), ("votes_missing", False, False), ("stream", True, False)],
    )
    async def test_who_lacks_votes_asks_again_soon(
        self, stage: Stage, rule: str, *, others: bool, short: bool
    ) -> None:
        """The peers cast theirs within milliseconds of each other."""
        await stage.led_by_other()
        await stage.round()
        seen = unlocked(
            standby(upstream=None, receiver_status=None),
            cluster=synchronous(None, sync_key()),
            peers=peers(peer("pg3", receives=True)) if others else {},
        )
        stage.loop.view = seen if rule == "votes_missing" else view()
        stage.loop.decision = decide(stage.loop.view)
        assert stage.loop.decision.rule.name == rule
        stage.rig.wake.clear()
        resting = asyncio.create_task(stage.loop._rest())
        await asyncio.wait({resting}, timeout=20 if short else 0.15)
        assert resting.done() is short
        stage.rig.wake.set()
        await resting

    async def test_a_leader_looks_again_soon_while_its_setting_settles(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        stage.streamed_by("pg2", flush=0x2000)
        for _ in range(8):
            rule = await stage.round()
        assert rule == "lead"
        assert not stage.loop._is_steady()
        stage.streamed_by("pg2")
        await stage.rounds()
        assert stage.loop._is_steady()

    async def test_a_member_key_that_somebody_deleted_comes_back(self, stage: Stage) -> None:
        """4.1 step 4."""
        await stage.led_by_other()
        await stage.round()
        del stage.rig.etcd.keys[f"{BASE}members/pg1"]
        await stage.round()
        assert stage.key("members/pg1") is not None

    async def test_a_full_disk_does_not_end_the_loop_and_the_files_are_tried_again(
        self, stage: Stage
    ) -> None:
        await stage.led_by_us()
        stage.rig.postgres.fails["configure"] = OSError(28, "No space left on device")
        assert await stage.round() == "lead"
        del stage.rig.postgres.fails["configure"]
        before = stage.rig.postgres.calls.count(("configure",))
        await stage.round()
        await stage.round()
        assert stage.rig.postgres.calls.count(("configure",)) == before + 1

    @pytest.mark.parametrize(
        ("status", "timeline", "behind", "rests"),
        [
            ("streaming", 1, 0, True),
            (None, 1, 0, False),
            ("streaming", 2, 0, False),
            ("streaming", 1, 2**20, True),
            ("streaming", 1, 2**20 + 1, False),
        ],
    )
    async def test_the_loop_rests_when_its_standby_is_where_the_leader_is(
        self, stage: Stage, status: str | None, timeline: int, behind: int, rests: bool
    ) -> None:
        """Else the others would learn a whole interval later that it follows the new leader."""
        await stage.led_by_other()
        seen = standby(receiver_status=status, timeline=timeline)
        stage.rig.postgres.instance = seen
        await stage.put(status={"optime": seen.position + behind})
        assert await stage.round() == "stream"
        assert stage.loop._is_steady() is rests

    async def test_an_action_that_a_full_disk_refuses_is_tried_again(self, stage: Stage) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = standby(upstream="pg9:5432")
        stage.rig.postgres.fails["follow"] = OSError(28, "No space left on device")
        assert await stage.round() == "follow"
        assert stage.key("members/pg1") is not None
        del stage.rig.postgres.fails["follow"]
        before = stage.calls.count(("follow", "pg2"))
        await stage.round()
        assert stage.calls.count(("follow", "pg2")) == before + 1

    async def test_a_paused_primary_without_a_good_lease_does_not_keep_the_loop_busy(
        self, stage: Stage
    ) -> None:
        """It is left alone, so the lease that has ended stays so; there is nothing to hurry for."""
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, "pause": True})
        stage.rig.clock.now = NOW + 60
        assert await stage.round() == "paused"
        stage.rig.wake.clear()
        resting = asyncio.create_task(stage.loop._rest())
        done, _ = await asyncio.wait({resting}, timeout=0.05)
        assert not done
        stage.rig.wake.set()
        await resting


async def test_a_new_primary_tells_so_before_it_does_anything_else(stage: Stage) -> None:
    """The poolers of the other members wait for that, and their clients with them."""
    await stage.led_by_us()
    stage.rig.postgres.instance = standby()
    await stage.round()
    await stage.rig.settle()
    stage.rig.postgres.instance = primary(timeline=2)
    await stage.put(failover={"leader": "pg2", "member": "pg1", "id": "abc"})
    stage.rig.etcd.writes.clear()
    assert await stage.round() == "finish_handover"
    written = stage.rig.etcd.writes
    assert written.index(f"{BASE}members/pg1") < written.index(f"{BASE}failover")
