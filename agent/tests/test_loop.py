# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of the real loop, store and lease keeper over scripted surroundings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    SYSTEM_ID,
    peer,
    peers,
    primary,
    standby,
    starting,
    stopped,
)
from agent.tests.fakes import ScriptedPostgres
from agent.tests.stage import BASE, PG2
from pgherd.births import bootstrap
from pgherd.errors import CommandError, ForeignDataError, StoreError
from pgherd.history import Branch
from pgherd.model import Instance

if TYPE_CHECKING:
    from agent.tests.stage import Stage


class TestAFailover:
    async def test_a_standby_takes_the_free_key_is_promoted_and_leads(self, stage: Stage) -> None:
        await stage.initialized()
        assert await stage.round() == "take_key"
        assert stage.key("leader") == ME
        assert stage.rig.wake.is_set()
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert ("promote",) in stage.calls
        stage.rig.postgres.instance = primary(timeline=2)
        stage.rig.postgres.history = (Branch(1, 0x3000, "no recovery target specified"),)
        assert await stage.round() == "lead"
        [row] = json.loads(stage.key("history") or "")
        assert (row[:3], row[4]) == ([1, 0x3000, "no recovery target specified"], ME)

    async def test_the_loser_of_the_race_follows_the_winner(self, stage: Stage) -> None:
        """R11."""
        await stage.led_by_other()
        stage.rig.postgres.instance = standby(upstream="pg9:5432")
        assert await stage.round() == "follow"
        assert ("follow", "pg2") in stage.calls

    async def test_peers_are_asked_only_while_there_is_no_leader(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.round()
        assert stage.rig.peers.asked == []
        await stage.rig.etcd.lease_revoke(stage.rig.etcd.keys[f"{BASE}leader"].lease)
        await stage.put(members__pg2=PG2)
        await stage.round()
        assert stage.rig.peers.asked == [{"pg2"}]

    async def test_a_better_peer_is_left_to_take_the_key(self, stage: Stage) -> None:
        await stage.initialized()
        stage.rig.peers.answers = peers(peer(position=0x9000))
        assert await stage.round() == "peer_is_ahead"
        assert stage.key("leader") is None

    async def test_the_grace_of_a_tie_is_counted_from_when_the_key_went(self, stage: Stage) -> None:
        await stage.initialized()
        stage.rig.peers.answers = peers(peer(priority=5))
        assert await stage.round() == "peer_is_preferred"
        stage.rig.clock.now = NOW + 2
        assert await stage.round() == "take_key"

    async def test_nobody_is_promoted_after_the_lease_has_run_out(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = standby()
        await stage.loop.round()
        stage.rig.clock.now = NOW + 100
        await stage.rig.settle()
        assert ("promote",) not in stage.calls

    async def test_a_new_primary_writes_its_checkpoint_once(self, stage: Stage) -> None:
        """R5."""
        await stage.led_by_us()
        stage.rig.postgres.instance = primary(timeline=2, checkpoint_timeline=1)
        for _ in range(2):
            await stage.round()
        stage.rig.postgres.instance = primary(timeline=2, checkpoint_timeline=2)
        await asyncio.sleep(0)
        await stage.round()
        assert stage.calls.count(("checkpoint",)) >= 1
        assert stage.loop.actor._checkpoint is None


class TestALeader:
    async def test_it_publishes_itself_and_its_position(self, stage: Stage) -> None:
        await stage.led_by_us()
        assert await stage.round() == "lead"
        assert json.loads(stage.key("status") or "")["optime"] == 0x3000
        assert json.loads(stage.key("members/pg1") or "")["role"] == "primary"

    async def test_it_writes_nothing_when_nothing_has_changed(self, stage: Stage) -> None:
        """Section 7 number 16."""
        await stage.led_by_us()
        await stage.round()
        # It has taken the configuration in, and says so.
        await stage.round()
        before = list(stage.rig.etcd.writes)
        await stage.round()
        assert stage.rig.etcd.writes == before

    async def test_it_keeps_what_others_put_into_the_status(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(status={"optime": 1, "theirs": 5})
        await stage.round()
        said = json.loads(stage.key("status") or "")
        assert (said["optime"], said["theirs"]) == (0x3000, 5)

    async def test_it_repairs_a_missing_identifier_and_configuration(self, stage: Stage) -> None:
        """4.1 step 5."""
        await stage.led_by_us()
        for name in ("initialize", "config"):
            del stage.rig.etcd.keys[BASE + name]
        await stage.round()
        assert stage.key("initialize") == SYSTEM_ID
        assert json.loads(stage.key("config") or "") == {"ttl": 30}

    async def test_deposed_it_steps_down_and_writes_nothing_more(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        lease = stage.rig.keeper.lease
        assert lease is not None
        await stage.rig.etcd.lease_revoke(lease.id)
        await stage.rig.keeper.renew()
        other = await stage.rig.etcd.lease_grant(60)
        await stage.put(other, leader="pg2")
        stage.rig.etcd.writes.clear()
        assert await stage.round() == "demote_without_key"
        assert ("stop_now",) in stage.calls
        assert stage.rig.etcd.writes == []

    async def test_without_etcd_it_leads_until_its_lease_ends(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        stage.rig.etcd.is_down = True
        stage.rig.clock.now = NOW + 4.4
        assert await stage.round() == "lead"
        stage.rig.clock.now = NOW + 4.5
        assert await stage.round() == "demote_without_key"
        assert ("stop_now",) in stage.calls

    async def test_losing_the_key_abandons_the_operation_under_way(self, stage: Stage) -> None:
        """R6."""
        await stage.led_by_us()
        stage.loop.operations.begin("start primary", forever())
        stage.rig.clock.now = NOW + 10
        assert await stage.round() == "demote_without_key"
        assert stage.loop.operations.current is None

    async def test_another_ttl_moves_the_keys_to_another_lease(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        old = stage.rig.keeper.lease
        timing = replace(stage.rig.config.timing, lease_ttl=9)
        stage.loop.reconfigure(replace(stage.rig.config, timing=timing))
        assert await stage.round() == "lead"
        new = stage.rig.keeper.lease
        assert old is not None
        assert new is not None
        assert stage.rig.etcd.leases == {new.id: 9}
        assert stage.rig.etcd.keys[f"{BASE}leader"].lease == new.id
        assert stage.rig.etcd.keys[f"{BASE}members/pg1"].lease == new.id
        assert await stage.round() == "lead"


async def forever() -> None:
    """Work that ends only when it is cancelled."""
    await asyncio.Event().wait()


class TestTheGuard:
    async def test_a_primary_is_guarded_a_little_beyond_its_lease(self, stage: Stage) -> None:
        """The loop gets the first go: it stops, the guard kills."""
        await stage.led_by_us()
        await stage.round()
        margin = stage.rig.config.timing.margin
        assert stage.rig.guard.deadline == NOW + 5 - margin + margin / 2
        assert stage.rig.guard.deadline < NOW + 5

    async def test_every_renewal_puts_the_deadline_off_without_a_round(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        before = stage.rig.guard.deadline
        stage.rig.clock.now = NOW + 1
        await stage.rig.keeper.renew()
        assert before is not None
        assert stage.rig.guard.deadline == before + 1

    @pytest.mark.parametrize("instance", [standby(), stopped(), Instance(), starting()])
    async def test_what_cannot_write_is_not_guarded(self, stage: Stage, instance: Instance) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = instance
        await stage.round()
        assert stage.rig.guard.deadline is None
        await stage.rig.settle()

    async def test_it_is_guarded_from_before_it_is_promoted(self, stage: Stage) -> None:
        """An agent frozen just after that had no other round (history 1061 of the simulator)."""
        await stage.led_by_us()
        await stage.put(sync={"timeline": 2})
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        assert await stage.round() == "promote"
        assert stage.rig.guard.deadline is not None
        await stage.rig.settle()

    async def test_an_instance_that_does_not_answer_is_guarded(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = starting(in_recovery=None)
        await stage.round()
        assert stage.rig.guard.deadline is not None

    async def test_without_a_lease_the_deadline_of_the_last_one_stands(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        before = stage.rig.guard.deadline
        stage.rig.keeper.lease = None
        await stage.loop.observe()
        assert before is not None
        assert stage.rig.guard.deadline == before

    async def test_a_lease_without_the_key_puts_nothing_off(self, stage: Stage) -> None:
        """It would be renewed for ever beside another leader."""
        await stage.led_by_us()
        await stage.round()
        before = stage.rig.guard.deadline
        del stage.rig.etcd.keys[f"{BASE}leader"]
        stage.rig.clock.now = NOW + 1
        await stage.rig.keeper.renew()
        await stage.loop.observe()
        stage.rig.clock.now = NOW + 2
        await stage.rig.keeper.renew()
        assert before is not None
        assert stage.rig.guard.deadline == before + 1

    async def test_a_promotion_is_guarded_before_it_has_happened(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(sync={"timeline": 2})
        stage.rig.postgres.instance = standby()
        await stage.round()
        await stage.round()
        assert stage.loop.view.operation == "promote"
        assert stage.rig.guard.deadline is not None
        await stage.rig.settle()


class TestAStoppedInstance:
    async def test_a_crashed_leader_starts_again_and_counts_its_failures(
        self, stage: Stage
    ) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = stopped("in production")
        stage.rig.postgres.fails["start_primary"] = CommandError("postgres", 1, "FATAL: no")
        assert await stage.round() == "restart_crashed_primary"
        await stage.rig.settle()
        assert await stage.round() == "give_up_key"
        assert stage.key("leader") is None

    async def test_a_start_that_never_answered_is_a_failure(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = starting(in_recovery=None)
        await stage.round()
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "give_up_key"

    async def test_an_instance_that_answers_makes_up_for_failures(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = starting(in_recovery=None)
        await stage.round()
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "give_up_key"
        await stage.led_by_us()
        assert await stage.round() == "lead"
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "restart_crashed_primary"
        await stage.rig.settle()

    async def test_a_member_without_data_copies_the_leader(self, stage: Stage) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = Instance()
        assert await stage.round() == "clone"
        await stage.rig.settle()
        assert stage.calls == [("clone", "pg2"), ("start_standby", "pg2")]

    async def test_while_an_operation_runs_no_other_is_begun(self, stage: Stage) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = Instance()
        stage.loop.operations.begin("clone", forever())
        assert await stage.round() == "busy"
        assert stage.calls == []
        await stage.loop.operations.cancel()

    async def test_foreign_data_ends_the_agent_untouched(self, stage: Stage) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = stopped(system_id="666")
        assert await stage.round() == "refuse_foreign_data"
        assert isinstance(stage.loop.failure, ForeignDataError)
        assert "666" in str(stage.loop.failure)
        assert stage.loop.finished.is_set()
        assert stage.rig.postgres.calls == []
        assert stage.key("members/pg1") is None


class TestBirth:
    async def test_the_winner_of_the_race_creates_the_cluster_and_leads(self, stage: Stage) -> None:
        """R39."""
        await stage.rig.keeper.renew()
        stage.rig.postgres.instance = Instance(system_id=SYSTEM_ID)
        assert await stage.round() == "bootstrap"
        await stage.rig.settle()
        named = [call[0] for call in stage.calls]
        assert named == [
            "initdb", "start_primary", "wait_until_answering", "create_accounts", "query",
        ]  # fmt: skip
        assert (stage.key("initialize"), stage.key("leader")) == (SYSTEM_ID, ME)
        assert json.loads(stage.key("config") or "") == {"ttl": 30}

    async def test_a_failure_gives_the_claim_back(self, stage: Stage) -> None:
        await stage.rig.keeper.renew()
        stage.rig.postgres.instance = Instance()
        stage.rig.postgres.fails["initdb"] = CommandError("initdb", 1, "no space")
        assert await stage.round() == "bootstrap"
        await stage.rig.settle()
        assert stage.key("initialize") is None
        assert stage.calls == [("initdb",)]

    @pytest.mark.parametrize("step", ["start_primary", "wait_until_answering", "create_accounts"])
    async def test_what_initdb_made_is_kept_for_a_human_when_a_later_step_fails(
        self, stage: Stage, step: str
    ) -> None:
        await stage.rig.keeper.renew()
        stage.rig.postgres.instance = Instance()
        stage.rig.postgres.fails[step] = CommandError("postgres", 1, "no")
        await stage.round()
        await stage.rig.settle()
        assert stage.calls[-2:] == [("stop_now",), ("set_aside", "failed")]
        assert (stage.key("initialize"), stage.key("leader")) == (None, None)

    async def test_a_claim_that_was_lost_meanwhile_creates_no_cluster(self, stage: Stage) -> None:
        """Another member may have begun; two system identifiers must not meet."""

        class Slow(ScriptedPostgres):
            async def create_accounts(self) -> None:
                assert stage.rig.keeper.lease is not None
                await stage.rig.etcd.lease_revoke(stage.rig.keeper.lease.id)
                await stage.put(initialize="")

        await stage.rig.keeper.renew()
        slow = Slow(stage.rig.config, Instance(system_id=SYSTEM_ID))
        rig = stage.rig
        with pytest.raises(StoreError, match="lost"):
            await bootstrap(rig.config, rig.store, rig.keeper, slow, rig.loop.operations.tell)
        assert slow.calls[-2:] == [("stop_now",), ("set_aside", "failed")]
        assert (stage.key("initialize"), stage.key("leader")) == ("", None)

    async def test_the_loser_waits_for_the_winner(self, stage: Stage) -> None:
        await stage.rig.keeper.renew()
        await stage.put(initialize="")
        stage.rig.postgres.instance = Instance()
        assert await stage.round() == "wait_for_source"
        assert stage.calls == []
