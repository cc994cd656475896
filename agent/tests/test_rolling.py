# SPDX-License-Identifier: GPL-3.0-or-later
"""A rolling restart: whose turn it is, and what comes next, whoever leads by then."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    cluster,
    member,
    primary,
    row,
    standby,
    sync_key,
    view,
)
from pgherd.decide import decide
from pgherd.ledger import Entry, parse_ledger
from pgherd.published import cluster_body
from pgherd.rolling import (
    INFORM_SECONDS,
    KIND,
    MISSED_SECONDS,
    Roll,
    find_roll,
    is_my_turn,
    next_step,
)
from pgherd.rolls import delete_rolling_restart, post_rolling_restart
from pgherd.settings import Settings

if TYPE_CHECKING:
    from agent.tests.stage import Stage
    from pgherd.model import Member
    from pgherd.view import View

OLD, NEW = "2026-01-01 00:00:00.5+00", "2026-01-02 00:00:00+00"
ALL_OLD = {"pg1": OLD, "pg2": OLD, "pg3": OLD}
AT = 1767225600.0
LIMIT = Settings().primary_start_timeout + 120


def each(name: str, started: str = OLD, reasons: Any = None, **data: Any) -> Member:
    """Return the key of a member whose postmaster was *started* then."""
    if reasons is not None:
        data |= {"pending_restart": True, "pending_restart_reason": reasons}
    role = "primary" if name == ME else "replica"
    return member(name, role=role, pgherd={"started": started}, **data)


def leading(roll: Roll, *members: Member, **changes: Any) -> View:
    """Return what pg1 sees, which leads; pg2 and pg3 stream from it."""
    entry = Entry("1", KIND, details=roll.published())
    named = {name: each(name) for name in ("pg1", "pg2", "pg3")}
    named.update({known.name: known for known in members})
    known = cluster(ME, members=named.values(), ledger=(entry,))
    instance = primary(replication=(row("pg2"), row("pg3")))
    return view(instance, **{"cluster": known, "wall": AT, **changes})


def changed(name: str, old: int, new: int) -> dict[str, dict[str, str]]:
    return {name: {"old_value": str(old), "new_value": str(new)}}


RAISED = changed("max_connections", 100, 200)
LOWERED = changed("max_connections", 100, 50)
OTHER = changed("shared_buffers", 1, 2)


class TestThePlan:
    def test_standbys_come_first_and_the_lead_is_handed_over(self) -> None:
        step = next_step(leading(Roll()))
        assert step is not None
        assert step.roll == Roll(plan=("pg2", "pg3", "pg1"), servers=ALL_OLD, since=AT)

    @pytest.mark.parametrize("reasons", [RAISED, OTHER])
    def test_what_is_raised_is_raised_on_standbys_first(self, reasons: Any) -> None:
        step = next_step(leading(Roll(), each("pg1", reasons=reasons)))
        assert step is not None
        assert (step.roll.plan, step.roll.in_place) == (("pg2", "pg3", "pg1"), False)

    def test_what_is_lowered_is_lowered_on_the_primary_first_in_place(self) -> None:
        step = next_step(leading(Roll(pending=True), each("pg1", reasons=LOWERED)))
        assert step is not None
        assert (step.roll.plan, step.roll.in_place) == (("pg1", "pg2", "pg3"), True)

    def test_both_need_two_restarts_of_the_standbys(self) -> None:
        both = {**LOWERED, **changed("max_wal_senders", 10, 20)}
        step = next_step(leading(Roll(), each("pg1", reasons=both)))
        assert step is not None
        assert step.roll.plan == ("pg2", "pg3", "pg1", "pg2", "pg3")
        assert step.roll.in_place

    def test_only_those_with_something_pending_if_asked(self) -> None:
        step = next_step(leading(Roll(pending=True), each("pg3", reasons=OTHER)))
        assert step is not None
        assert step.roll.plan == ("pg3",)
        step = next_step(leading(Roll(pending=True)))
        assert step is not None
        assert (step.state, step.result) == ("done", "nothing waits for a restart")

    def test_who_does_not_run_needs_none(self) -> None:
        step = next_step(leading(Roll(), each("pg2", state="stopped")))
        assert step is not None
        assert step.roll.plan == ("pg3", "pg1")

    def test_a_single_member_is_restarted_in_place(self) -> None:
        seen = leading(Roll())
        assert seen.cluster is not None
        alone = replace(seen.cluster, members={ME: each(ME)})
        step = next_step(replace(seen, cluster=alone))
        assert step is not None
        assert (step.roll.plan, step.roll.in_place) == ((ME,), True)


class TestAChangeJustBefore:
    """The key of the configuration has revision 9; pg3 tells of the one before."""

    ROLL = Roll(pending=True)

    def seen(self, roll: Roll, *told: Member, **changes: Any) -> View:
        known = leading(roll, *told, **changes)
        assert known.cluster is not None
        return replace(known, cluster=replace(known.cluster, config_revision=9))

    def told(self, name: str, revision: int, **data: Any) -> Member:
        known = each(name, **data)
        ours = {**known.ours, "config_revision": revision}
        return replace(known, data={**known.data, "pgherd": ours})

    def test_nobody_is_judged_before_it_has_taken_it_in(self) -> None:
        late = self.told("pg3", 8)
        step = next_step(self.seen(self.ROLL, self.told("pg2", 9, reasons=OTHER), late))
        assert step is not None
        assert step.roll == replace(self.ROLL, since=AT)
        assert (step.state, step.result) == ("running", "")
        asked = step.roll
        pg2 = self.told("pg2", 9, reasons=OTHER)
        assert next_step(self.seen(asked, pg2, late, wall=AT + 1)) is None
        informed = self.told("pg3", 9, reasons=OTHER)
        step = next_step(self.seen(asked, pg2, informed, wall=AT + 2))
        assert step is not None
        assert (step.roll.plan, step.roll.since) == (("pg2", "pg3"), AT + 2)

    def test_one_that_never_takes_it_in_ends_it(self) -> None:
        asked = replace(self.ROLL, since=AT)
        late = self.told("pg3", 8)
        step = next_step(self.seen(asked, late, wall=AT + INFORM_SECONDS + 1))
        assert step is not None
        assert step.state == "failed"
        assert "pg3 did not take in the configuration within 30 s" in step.result

    def test_who_does_not_run_or_does_not_tell_is_not_waited_for(self) -> None:
        stopped = self.told("pg3", 8, state="stopped")
        step = next_step(self.seen(self.ROLL, each("pg2", reasons=OTHER), stopped))
        assert step is not None
        assert step.roll.plan == ("pg2",)

    def test_a_restart_of_everybody_only_rests_on_the_leaders_word(self) -> None:
        step = next_step(self.seen(Roll(), self.told("pg3", 8)))
        assert step is not None
        assert step.roll.plan == ("pg2", "pg3", "pg1")
        step = next_step(self.seen(Roll(), self.told("pg1", 8)))
        assert step is not None
        assert step.roll == Roll(since=AT)

    async def test_a_member_tells_when_it_knows_what_waits_for_a_restart(
        self, stage: Stage
    ) -> None:
        await led_and_informed(stage)
        assert stage.loop._is_steady()
        stage.rig.postgres.is_informed = False
        await stage.put(config={"ttl": 30, "postgresql": {"parameters": {"work_mem": "9MB"}}})
        await stage.round()
        await stage.round()
        assert not stage.loop._is_steady(), "it looks again soon"
        cluster = await stage.rig.store.load()
        assert cluster.uninformed == (ME,)
        assert cluster_body(cluster, "demo")["pgherd"] == {"uninformed": [ME]}
        stage.rig.postgres.is_informed = True
        await stage.round()
        assert (await stage.rig.store.load()).uninformed == ()
        stage.loop.reconfigure(stage.loop.config)
        await stage.round()
        assert (await stage.rig.store.load()).uninformed == (ME,), "its files were read anew"


class TestATurn:
    ROLL = Roll(plan=("pg2", "pg3", "pg1"), servers=ALL_OLD, since=AT)

    def test_the_next_one_comes_when_the_former_streams_again(self) -> None:
        assert next_step(leading(self.ROLL)) is None
        back = leading(self.ROLL, each("pg2", NEW), wall=AT + 5)
        step = next_step(back)
        assert step is not None
        assert (step.roll.name, step.roll.since) == ("pg3", AT + 5)
        silent = replace(back, instance=primary(replication=(row("pg3"),)))
        assert next_step(silent) is None
        lags = primary(location=1 << 30, replication=(row("pg2"), row("pg3")))
        assert next_step(replace(back, instance=lags)) is None

    def test_it_has_to_acknowledge_again(self) -> None:
        seen = leading(self.ROLL, each("pg2", NEW))
        assert seen.cluster is not None
        quorum = {"synchronous_mode": "quorum"}
        without = replace(seen.cluster, config=quorum, sync=sync_key(ME, "pg3"))
        assert next_step(replace(seen, cluster=without)) is None
        with_it = replace(seen.cluster, config=quorum, sync=sync_key(ME, "pg2,pg3"))
        assert next_step(replace(seen, cluster=with_it)) is not None

    @pytest.mark.parametrize("tag", ["nofailover", "nosync"])
    def test_one_that_need_not_acknowledge_only_has_to_stream(self, tag: str) -> None:
        """Where others can lead commits do not wait for it (history 17 of the simulator)."""
        seen = leading(self.ROLL, each("pg2", NEW, tags={tag: True}))
        assert seen.cluster is not None
        known = replace(
            seen.cluster, config={"synchronous_mode": "quorum"}, sync=sync_key(ME, "pg3")
        )
        assert next_step(replace(seen, cluster=known)) is not None

    def test_one_that_does_not_come_back_ends_it(self) -> None:
        late = leading(self.ROLL, each("pg2", NEW, state="starting"), wall=AT + LIMIT + 1)
        step = next_step(late)
        assert step is not None
        assert step.state == "failed"
        assert "pg2 is not back" in step.result
        assert step.result.endswith("its state is starting")

    def test_the_lead_goes_to_one_that_was_restarted(self) -> None:
        roll = replace(self.ROLL, turn=2)
        step = next_step(leading(roll, each("pg3", NEW)))
        assert step is not None
        assert step.heir == "pg3"
        asked = replace(roll, handover="7")
        running = Entry("7", "switchover", leader=ME, candidate="pg3")
        seen = leading(asked, each("pg3", NEW))
        assert seen.cluster is not None
        ledger = (*seen.cluster.ledger, running)
        assert next_step(replace(seen, cluster=replace(seen.cluster, ledger=ledger))) is None
        failed = running.ended("failed", "it hung", "2026-01-01")
        ledger = (*seen.cluster.ledger, failed)
        step = next_step(replace(seen, cluster=replace(seen.cluster, ledger=ledger)))
        assert step is not None
        assert step.result == "rolling restart failed: it hung"

    def test_the_next_leader_goes_on_and_ends_it(self) -> None:
        roll = replace(self.ROLL, plan=("pg1", "pg3", "pg2"), turn=2, handover="7")
        servers = {"pg1": "2025", "pg2": OLD, "pg3": OLD}
        step = next_step(leading(replace(roll, servers=servers), each("pg2", NEW)))
        assert step is not None
        assert (step.state, step.result) == ("done", "restarted pg1, pg3, pg2")

    def test_a_second_restart_is_one_of_the_server_that_runs_then(self) -> None:
        roll = Roll(plan=("pg2", "pg1", "pg2"), servers={"pg2": "2025", "pg1": "2025"}, turn=1)
        step = next_step(leading(replace(roll, in_place=True), each("pg2", NEW)))
        assert step is not None
        assert (step.roll.name, step.roll.servers["pg2"]) == ("pg2", NEW)

    def test_a_pause_ends_it(self) -> None:
        seen = leading(self.ROLL)
        assert seen.cluster is not None
        paused = replace(seen.cluster, config={"pause": True})
        step = next_step(replace(seen, cluster=paused))
        assert step is not None
        assert step.result == "rolling restart failed: the cluster is paused"


class TestWhoseTurnItIs:
    def test_a_standby_restarts_when_its_server_is_the_old_one(self) -> None:
        roll = Roll(plan=("pg1",), servers={"pg1": OLD})
        entry = Entry("1", KIND, details=roll.published())
        seen = view(cluster=cluster(ledger=(entry,)))
        assert is_my_turn(seen)
        assert not is_my_turn(replace(seen, instance=standby(started_at=NEW)))
        ended = entry.ended("cancelled", "", "")
        assert not is_my_turn(view(cluster=cluster(ledger=(ended,))))
        assert decide(replace(seen, store_answers=False)).rule.name == "stream"

    def test_a_leader_restarts_only_in_place(self) -> None:
        roll = Roll(plan=("pg1",), servers={"pg1": OLD})
        assert not is_my_turn(leading(roll))
        assert is_my_turn(leading(replace(roll, in_place=True)))


class TestASchedule:
    ENTRY = Entry("1", KIND, state="scheduled", scheduled_at="2026-01-01T00:00:00+00:00")

    @pytest.mark.parametrize(
        ("late", "state"), [(-1, None), (0, "running"), (MISSED_SECONDS + 1, "failed")]
    )
    def test_it_begins_in_time_or_not_at_all(self, late: float, state: str | None) -> None:
        seen = leading(Roll(), wall=AT + late)
        assert seen.cluster is not None
        known = replace(seen.cluster, ledger=(self.ENTRY,))
        step = next_step(replace(seen, cluster=known))
        assert (step.state if step else None) == state


def test_damaged_details_are_those_of_one_that_has_not_begun() -> None:
    raw: dict[str, Any] = {"plan": "pg1", "servers": [], "turn": "x", "since": None}
    assert Roll.parse(raw) == Roll()
    assert Roll.parse(TestATurn.ROLL.published()) == TestATurn.ROLL


def entry_of(stage: Stage) -> Entry:
    [entry] = parse_ledger(json.loads(stage.key("operations") or "[]"))
    return entry


async def led_and_informed(stage: Stage) -> None:
    """Have us lead, the configuration taken in and that published."""
    await stage.led_by_us()
    await stage.round()
    await stage.round()


class TestRequests:
    async def test_a_single_member_is_restarted_and_its_outcome_written(self, stage: Stage) -> None:
        await led_and_informed(stage)
        answer = await post_rolling_restart(stage.loop, {"pending": False})
        assert answer.status == 202
        assert answer.headers["X-Pgherd-Operation"] == entry_of(stage).id == answer.body["id"]
        assert (await post_rolling_restart(stage.loop, {})).status == 409
        assert await stage.round() == "move_turn"
        assert not stage.loop._is_steady()
        assert await stage.round() == "take_turn"
        assert await stage.round() == "restart_primary"
        await stage.rig.settle()
        stage.rig.postgres.instance = primary(started_at=NEW)
        assert await stage.round() == "lead"
        assert await stage.round() == "move_turn"
        entry = entry_of(stage)
        assert (entry.state, entry.result) == ("done", "restarted pg1")
        assert entry.finished_at
        assert await stage.round() == "lead"

    async def test_the_lead_is_handed_over_by_a_switchover_of_its_own(self, stage: Stage) -> None:
        await led_and_informed(stage)
        await stage.put(members__pg2=dict(each("pg2").data))
        stage.streamed_by("pg2")
        await stage.round()
        await post_rolling_restart(stage.loop, {})
        assert await stage.round() == "move_turn"
        assert await stage.round() in ("lead", "adjust_sync")
        await stage.put(members__pg2=dict(each("pg2", NEW).data))
        assert await stage.round() == "move_turn"
        assert await stage.round() == "move_turn"
        request = json.loads(stage.key("failover") or "{}")
        assert (request["leader"], request["member"]) == (ME, "pg2")
        ledger = parse_ledger(json.loads(stage.key("operations") or "[]"))
        assert [each.kind for each in ledger] == [KIND, "switchover"]
        assert Roll.parse(ledger[0].details).handover == ledger[1].id == request["id"]
        assert await stage.round() == "hand_over"

    async def test_it_can_be_called_off(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        assert (await delete_rolling_restart(stage.loop, {})).status == 404
        at = {"scheduled_at": "2099-01-01T00:00:00Z"}
        answer = await post_rolling_restart(stage.loop, at)
        assert answer.body["state"] == "scheduled"
        answer = await delete_rolling_restart(stage.loop, {})
        assert (answer.status, answer.body) == (200, "rolling restart cancelled")
        assert entry_of(stage).state == "cancelled"
        await stage.round()
        assert find_roll(stage.loop.view) is None

    async def test_it_is_refused_without_a_leader_and_in_pause(self, stage: Stage) -> None:
        await stage.initialized()
        assert (await post_rolling_restart(stage.loop, {})).status == 503
        await stage.led_by_us()
        await stage.put(config={"pause": True})
        assert (await post_rolling_restart(stage.loop, {})).status == 412
        bad = {"scheduled_at": "tomorrow"}
        assert (await post_rolling_restart(stage.loop, bad)).status == 422

    async def test_without_etcd_nothing_is_promised(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.etcd.is_down = True
        assert (await post_rolling_restart(stage.loop, {})).status == 503
        assert (await delete_rolling_restart(stage.loop, {})).status == 503
