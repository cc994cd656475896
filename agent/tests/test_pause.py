# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance mode (R42): nobody is elected, and PostgreSQL is neither started nor stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    lease,
    member,
    peer,
    peers,
    primary,
    row,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from agent.tests.stage import Stage
from pgherd.actions import Follow, Lead, Promote, ReleaseKey, TakeKey
from pgherd.decide import decide
from pgherd.handover import Handover
from pgherd.model import Instance
from pgherd.pauses import PauseNote

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.view import View

PAUSED = {"pause": True}
TO_US = Handover("pg2", ME, id="1")


def fired(seen: View) -> str:
    return decide(seen).rule.name


def paused(instance: Instance | None = None, leader: str | None = "pg2", **changes: Any) -> View:
    """Return what pg1 sees in maintenance mode."""
    return view(instance, cluster=cluster(leader, config=PAUSED), **changes)


class TestAPrimary:
    def test_it_leads_on_and_keeps_its_key(self) -> None:
        assert decide(paused(primary(), ME)).actions == (Lead(),)

    @pytest.mark.parametrize("held", [None, lease(0)])
    def test_it_runs_on_without_a_lease(self, held: Any) -> None:
        assert fired(paused(primary(), ME, lease=held)) == "paused"
        assert fired(paused(primary(), None, lease=held)) == "paused"

    def test_it_runs_on_beside_another_leader(self) -> None:
        assert fired(paused(primary())) == "paused"

    def test_it_runs_on_without_etcd(self) -> None:
        assert fired(paused(primary(), ME, lease=None, store_answers=False)) == "paused"

    def test_it_retakes_a_key_that_got_lost(self) -> None:
        assert decide(paused(primary(), None)).actions == (TakeKey(),)

    @pytest.mark.parametrize("other", [peer(role="primary"), peer(timeline=2)])
    def test_it_takes_no_key_when_the_cluster_has_gone_on(self, other: Any) -> None:
        assert fired(paused(primary(), None, peers=peers(other))) == "paused"

    def test_one_that_was_succeeded_takes_no_key(self) -> None:
        seen = unlocked(primary(), cluster=synchronous(None, sync_key("pg2"), pause=True))
        assert fired(seen) == "paused"

    def test_a_sick_disk_or_a_side_of_others_costs_it_nothing(self) -> None:
        ours = synchronous(ME, sync_key(ME, "pg2,pg3"), pause=True)
        sick = view(primary(disk="it is full", replication=(row("pg2"),)), cluster=ours)
        assert ReleaseKey() not in decide(sick).actions
        assert fired(replace(sick, cluster=replace(ours, config={}))) == "hand_over_unfit"
        asked = replace(sync_key(ME, "pg2,pg3"), isolated=True)
        members = [
            member(name, pgherd={"reach": [other], "asked": asked.revision})
            for name, other in (("pg2", "pg3"), ("pg3", "pg2"))
        ]
        cut = view(
            primary(sync_names='ANY 1 ("pg2","pg3")'),
            cluster=synchronous(ME, asked, members=members),
            alone_since=NOW - 0.5,
        )
        assert fired(cut) == "hand_over_cut_off"
        held = synchronous(ME, asked, members=members, pause=True)
        assert ReleaseKey() not in decide(replace(cut, cluster=held)).actions

    def test_who_acknowledges_goes_on_being_kept_right(self) -> None:
        seen = view(
            primary(replication=(row("pg2"), row("pg3"))), cluster=synchronous(ME, pause=True)
        )
        assert fired(seen) == "adjust_sync"

    def test_one_that_hangs_is_not_killed(self) -> None:
        assert fired(paused(primary(), ME, silent_seconds=1000)) == "lead"

    def test_one_that_is_stopped_stays_so_and_gives_the_key_up(self) -> None:
        """R3."""
        dead = paused(stopped("in production"), ME)
        assert decide(dead).actions == (ReleaseKey(),)
        assert fired(replace(dead, store_answers=False)) == "wait_in_pause"
        assert fired(paused(stopped("in production"), None)) == "paused"

    def test_one_that_somebody_starts_has_all_the_time_it_needs(self) -> None:
        seen = paused(starting(in_recovery=None), ME, starting_since=NOW - 1000)
        assert fired(seen) == "wait_in_pause"

    def test_one_stopped_by_an_operation_of_ours_is_brought_back(self) -> None:
        failed = cluster(ME, config=PAUSED, handover=Handover(ME, "pg2", id="1"))
        assert fired(view(stopped("shut down"), cluster=failed)) == "restart_crashed_primary"

    def test_data_of_another_cluster_is_left_alone_without_the_key(self) -> None:
        """An operator may be about to make this another cluster."""
        foreign = primary(system_id="666")
        assert decide(paused(foreign, ME)).actions == (ReleaseKey(),)
        assert fired(paused(foreign, None)) == "paused"
        assert fired(paused(standby(system_id="666"))) == "paused"
        assert fired(view(foreign, cluster=cluster(ME))) == "refuse_foreign_data"


class TestAStandby:
    def test_it_does_not_stand_for_election(self) -> None:
        assert fired(paused(standby(), None)) == "paused"

    def test_it_follows_another_leader_but_is_not_stopped_for_it(self) -> None:
        elsewhere = paused(standby(upstream="pg3:5432"))
        [action] = decide(elsewhere).actions
        assert isinstance(action, Follow)
        assert fired(replace(elsewhere, diverged=True)) == "paused"
        assert fired(replace(elsewhere, diverged=None)) == "compare_first"
        assert fired(paused(standby(), stuck=True)) == "paused"

    def test_it_is_not_started(self) -> None:
        assert fired(paused(stopped())) == "paused"
        assert fired(paused(stopped(), None)) == "paused"

    def test_with_the_key_it_is_promoted_only_when_asked_for(self) -> None:
        unasked = paused(standby(), ME)
        assert decide(unasked).actions == (ReleaseKey(),)
        asked = view(standby(), cluster=cluster(ME, config=PAUSED, handover=TO_US, numbered=2))
        assert decide(asked).actions == (Promote(timeline=2),)

    def test_the_leader_of_a_standby_cluster_leads_on(self) -> None:
        remote = {"standby_cluster": {"host": "192.0.2.9", "port": 5432}, **PAUSED}
        seen = view(standby(), cluster=cluster(ME, config=remote), diverged=False)
        assert Lead() in decide(seen).actions
        demoted = view(primary(), cluster=cluster(ME, config=remote))
        assert decide(demoted).actions == (Lead(),)

    def test_no_cluster_is_created(self) -> None:
        empty = unlocked(Instance(), cluster=cluster(None, initialize=None, config=PAUSED))
        assert fired(empty) == "paused"


class TestTheAgent:
    async def test_the_guard_is_off_while_paused_and_on_again_after(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        assert stage.rig.guard.deadline is not None
        await stage.put(config=PAUSED)
        await stage.round()
        deadlines = [stage.rig.guard.deadline]
        await stage.put(config={"ttl": 30})
        await stage.round()
        deadlines.append(stage.rig.guard.deadline)
        assert [deadline is None for deadline in deadlines] == [True, False]

    async def test_what_failed_in_pause_is_judged_anew(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config=PAUSED)
        stage.rig.postgres.instance = starting(in_recovery=None)
        await stage.round()
        stage.rig.postgres.instance = stopped("in production")
        assert await stage.round() == "give_up_key_in_pause"
        assert stage.loop.view.start_failures == 0

    async def test_it_says_so_in_its_key(self, stage: Stage) -> None:
        """`patronictl pause --wait` looks for it."""
        await stage.led_by_us()
        await stage.put(config=PAUSED)
        await stage.round()
        assert '"pause":true' in (stage.key(f"members/{ME}") or "")

    async def test_one_that_starts_without_etcd_remembers_it(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        await stage.led_by_us()
        await stage.put(config=PAUSED)
        await stage.round()
        successor = Stage(tmp_path)
        successor.rig.postgres.instance = primary()
        successor.rig.etcd.is_down = True
        assert await successor.round() != "demote_without_key"
        assert ("stop_now",) not in successor.calls
        await stage.put(config={"ttl": 30})
        await stage.round()
        later = Stage(tmp_path)
        later.rig.postgres.instance = primary()
        later.rig.etcd.is_down = True
        assert await later.round() == "demote_without_key"


def test_a_note_that_cannot_be_written_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = PauseNote(tmp_path / "missing" / "note")
    note.update(True)
    assert note.is_paused
    assert "without etcd" in caplog.text
