# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of a leader with synchronous replication, and of those it asks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import ME, NOW, cluster, peer, peers, primary, standby, stopped, view
from agent.tests.stage import BASE, PG2
from pgherd.quorum import NOBODY_ACKNOWLEDGES

if TYPE_CHECKING:
    from agent.tests.stage import Stage

ANY_ONE = 'ANY 1 ("pg2","pg3")'
ONLY_PG2 = 'ANY 1 ("pg2")'


class TestALeader:
    async def test_the_first_two_standbys(self, stage: Stage) -> None:
        """Nobody else may lead; all must vote; one must acknowledge; two must vote."""
        await stage.synchronous("pg2", "pg3")
        assert await stage.rounds() == ["None: 0", "pg2,pg3: 2", ANY_ONE, "pg2,pg3: 1"]

    async def test_the_first_standby(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        assert await stage.rounds() == ["None: 0", ONLY_PG2, "pg2: 0"]

    async def test_a_standby_is_lost_and_comes_back(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.streamed_by("pg2")
        assert await stage.rounds() == [ONLY_PG2, "pg2: 0"]
        stage.streamed_by("pg2", "pg3")
        assert await stage.rounds() == ["pg2,pg3: 1", ANY_ONE]

    async def test_the_last_standby_is_lost_for_good_and_another_comes(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        await stage.rounds()
        stage.streamed_by()
        del stage.rig.etcd.keys[f"{BASE}members/pg2"]
        assert await stage.rounds() == ["None: 0", "nobody"]
        await stage.put(members__pg3={**PG2, "role": "replica"})
        stage.streamed_by("pg3")
        assert await stage.rounds() == ['ANY 1 ("pg3")', "pg3: 0"]

    async def test_both_are_lost_at_once_and_come_back(self, stage: Stage) -> None:
        """Their agents live: they are asked, and do not answer."""
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.clock.now = NOW + 1
        stage.streamed_by()
        assert await stage.round() == "alone"
        stage.rig.clock.now = NOW + 1.3
        assert await stage.round() == "ask_others"
        assert json.loads(stage.key("sync") or "")["isolated"] is True
        assert stage.sync == (ME, "pg2,pg3", 1)
        assert await stage.round() == "alone"
        stage.rig.clock.now = NOW + 4
        await stage.rig.keeper.renew()
        assert await stage.rounds() == ["pg2,pg3: 2", "nobody", "None: 0"]
        stage.streamed_by("pg2", "pg3")
        assert await stage.rounds() == ["pg2,pg3: 2", ANY_ONE, "pg2,pg3: 1"]
        assert "isolated" not in json.loads(stage.key("sync") or "")

    async def test_one_that_comes_back_soon_costs_nothing_but_the_wait(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        await stage.rounds()
        stage.streamed_by()
        assert await stage.round() == "alone"
        stage.rig.clock.now = NOW + 0.1
        stage.streamed_by("pg2")
        assert await stage.rounds() == []

    async def test_in_strict_mode_commits_wait_for_whoever_comes_first(self, stage: Stage) -> None:
        await stage.synchronous(synchronous_mode_strict=True)
        for _ in range(4):
            await stage.round()
        assert stage.rig.postgres.instance.sync_names == NOBODY_ACKNOWLEDGES
        await stage.put(members__pg2={**PG2, "role": "replica"})
        stage.streamed_by("pg2")
        assert await stage.rounds() == [ONLY_PG2, "pg2: 0"]
        stage.streamed_by()
        await stage.round()
        for now in (NOW + 100, NOW + 200):
            stage.rig.clock.now = now
            await stage.rig.keeper.renew()
            await stage.round()
        assert stage.rig.postgres.instance.sync_names == ONLY_PG2
        assert stage.sync == (ME, "pg2", 0)

    async def test_from_quorum_to_on_to_off(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        await stage.put(config={"ttl": 30, "synchronous_mode": True})
        assert await stage.rounds() == ['1 ("pg2")', "pg2: 0"]
        await stage.put(config={"ttl": 30, "synchronous_mode": "off"})
        assert await stage.rounds() == ["no sync", "nobody"]
        kept = {"leader": None, "sync_standby": None, "quorum": 0, "timeline": 1}
        assert json.loads(stage.key("sync") or "") == kept

    async def test_nobody_votes_before_it_has_what_was_committed(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        stage.streamed_by("pg2", flush=0x2000)
        for _ in range(6):
            await stage.round()
        assert stage.sync == (ME, None, 0)
        assert not stage.loop._is_steady()
        stage.streamed_by("pg2", flush=0x3000)
        assert await stage.rounds() == ["pg2: 0"]

    async def test_a_key_that_somebody_else_has_written_is_judged_anew(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.streamed_by("pg2")
        await stage.loop.round()
        view = stage.loop.view
        await stage.put(sync={"leader": ME, "sync_standby": "pg2,pg3", "quorum": 2})
        await stage.loop.leadership.write_sync(view, None)
        assert stage.sync == (ME, "pg2,pg3", 2)

    async def test_etcd_that_refuses_changes_nothing(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        await stage.rounds()
        stage.streamed_by()
        del stage.rig.etcd.keys[f"{BASE}members/pg2"]
        await stage.loop.observe()
        stage.rig.etcd.is_down = True
        assert await stage.round() == "lead"
        assert stage.sync == (ME, "pg2", 0)
        assert stage.rig.postgres.instance.sync_names == ONLY_PG2


class TestAHandOver:
    async def test_the_leader_goes_when_its_standbys_answer_that_they_see_each_other(
        self, stage: Stage
    ) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.clock.now = NOW + 1
        stage.streamed_by()
        await stage.round()
        stage.rig.clock.now = NOW + 1.3
        assert await stage.round() == "ask_others"
        revision = stage.rig.etcd.keys[f"{BASE}sync"].mod_revision
        for name, other in (("pg2", "pg3"), ("pg3", "pg2")):
            said = {"reach": [other], "asked": revision}
            await stage.put(**{f"members__{name}": {**PG2, "role": "replica", "pgherd": said}})
        assert await stage.round() == "hand_over_cut_off"
        assert ("stop_now",) in stage.calls
        assert stage.key("leader") is None
        assert json.loads(stage.key("status") or "")["released"] == ME

    async def test_a_crashed_leader_lets_a_standby_lead_and_does_not_stand_itself(
        self, stage: Stage
    ) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "hand_over_crashed"
        assert stage.key("leader") is None
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        stage.rig.peers.answers = peers(peer("pg2"), peer("pg3"))
        assert await stage.round() == "cannot_lead"
        stage.rig.clock.now = NOW + 2 * stage.rig.config.timing.lease_ttl
        await stage.rig.keeper.renew()
        assert await stage.round() == "take_key"

    async def test_a_crashed_leader_that_no_majority_could_replace_starts_again(
        self, stage: Stage
    ) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        await stage.put(members__pg3={**PG2, "role": "replica", "pgherd": {"unfit": True}})
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "restart_crashed_primary"
        await stage.rig.settle()
        assert ("start_primary", ANY_ONE) in stage.calls

    async def test_a_leader_whose_disk_is_sick_goes_when_others_are_well(
        self, stage: Stage
    ) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.health.problem = "it is full"
        assert await stage.round() == "hand_over_unfit"
        assert ("stop_now",) in stage.calls
        assert stage.key("leader") is None

    async def test_a_leader_whose_disk_is_sick_stays_when_nobody_else_could_lead(
        self, stage: Stage
    ) -> None:
        await stage.led_by_us()
        stage.rig.health.problem = "it is full"
        assert await stage.round() == "lead"

    async def test_a_hung_primary_is_killed_and_its_key_given_up(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.health.silence = 10.1
        assert await stage.round() == "kill_hung"
        assert ("stop_now",) in stage.calls
        stage.rig.health.silence = 0.0
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "hand_over_crashed"

    async def test_a_stop_that_waits_for_clients_is_ended(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        stage.rig.health.told_to_stop = True
        assert await stage.round() == "finish_stop"


class TestASuccessor:
    async def test_it_takes_key_and_sync_at_once_and_is_promoted_with_the_names(
        self, stage: Stage
    ) -> None:
        await stage.initialized()
        await stage.put(
            config={"synchronous_mode": "quorum"},
            sync={"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1},
            members__pg3={**PG2, "role": "replica"},
        )
        stage.rig.peers.answers = peers(peer("pg3"))
        assert await stage.round() == "stop_receiving"
        assert stage.calls == [("stop_receiving",)]
        assert await stage.round() == "take_key"
        assert (stage.key("leader"), stage.sync) == (ME, (ME, "pg2,pg3", 1))
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert ("promote", ANY_ONE) in stage.calls

    async def test_it_lacks_votes_while_the_others_still_receive(self, stage: Stage) -> None:
        await stage.initialized()
        await stage.put(
            config={"synchronous_mode": "quorum"},
            sync={"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1},
        )
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        stage.rig.peers.answers = peers(peer("pg3", receives=True))
        assert await stage.round() == "votes_missing"
        stage.rig.peers.answers = peers(peer("pg3"))
        assert await stage.round() == "take_key"

    async def test_a_sync_key_that_changed_meanwhile_ends_the_attempt(self, stage: Stage) -> None:
        await stage.initialized()
        await stage.put(
            config={"synchronous_mode": "quorum"},
            sync={"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 0},
        )
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        view = await stage.loop.observe()
        await stage.put(sync={"leader": "pg2", "sync_standby": "pg3", "quorum": 0})
        await stage.loop.leadership.take_key(view, view.sync)
        assert stage.key("leader") is None
        assert stage.sync == ("pg2", "pg3", 0)

    async def test_the_first_round_as_a_primary_changes_nothing_that_fits(
        self, stage: Stage
    ) -> None:
        """Its standbys have a moment to find it; commits wait so long."""
        await stage.synchronous()
        await stage.put(
            sync={"leader": ME, "sync_standby": "pg2,pg3", "quorum": 1, "timeline": 2},
            members__pg2={**PG2, "role": "replica"},
            members__pg3={**PG2, "role": "replica"},
        )
        stage.rig.postgres.instance = primary(timeline=2, sync_names=ANY_ONE)
        stage.rig.clock.now = NOW + 1
        assert await stage.round() == "alone"
        stage.streamed_by("pg2", "pg3")
        assert await stage.rounds() == []


class TestThoseWhoAreAsked:
    @pytest.fixture
    async def asked(self, stage: Stage) -> Stage:
        """Have the leader pg2 ask whom we reach."""
        await stage.led_by_other()
        await stage.put(
            config={"synchronous_mode": "quorum"},
            members__pg3={**PG2, "role": "replica"},
            sync={"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1, "isolated": True},
        )
        return stage

    async def test_a_standby_tells_whom_it_reaches(self, asked: Stage) -> None:
        asked.rig.peers.answers = peers(peer("pg3"))
        await asked.round()
        said = json.loads(asked.key("members/pg1") or "")["pgherd"]
        revision = asked.rig.etcd.keys[f"{BASE}sync"].mod_revision
        assert (said["reach"], said["asked"]) == (["pg3"], revision)
        assert asked.rig.peers.asked == [{"pg2", "pg3"}]

    async def test_it_is_silent_about_it_when_nobody_asks_any_more(self, asked: Stage) -> None:
        await asked.round()
        await asked.put(sync={"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1})
        await asked.round()
        said = json.loads(asked.key("members/pg1") or "")["pgherd"]
        assert not {"reach", "asked"} & set(said)

    async def test_the_leader_does_not_ask_itself(self, stage: Stage) -> None:
        await stage.synchronous("pg2")
        await stage.put(sync={"leader": ME, "sync_standby": "pg2", "quorum": 0, "isolated": True})
        await stage.round()
        assert stage.rig.peers.asked == []


async def test_the_position_published_is_that_of_flushed_wal(stage: Stage) -> None:
    """What is flushed counts though it is not applied yet."""
    await stage.led_by_other()
    stage.rig.postgres.instance = standby(received=0x5000, replayed=0x4000)
    await stage.round()
    assert json.loads(stage.key("members/pg1") or "")["xlog_location"] == 0x5000


async def test_while_asked_only_a_leader_that_is_reached_is_compared_with(stage: Stage) -> None:
    """To try the others costs the time in which the leader waits for the answer."""
    led, loop = view(cluster=cluster("pg2")), stage.loop
    assert await loop._judge(replace(led, reach=frozenset({"pg3"}))) is None
    assert await loop._judge(replace(led, reach=frozenset({"pg2"}))) is False
    assert await loop._judge(led) is False
