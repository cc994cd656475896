# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision table: every rule fires, for the right view, in the right order.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pgherd.decide
import pgherd.rules
from agent.tests.builders import (
    ME,
    NOW,
    OURS,
    SYSTEM_ID,
    THEIRS,
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
from pgherd.actions import (
    Action,
    BeginRestart,
    BeginScheduledRestart,
    Bootstrap,
    ClearData,
    Clone,
    Demote,
    DropScheduledRestart,
    EndHandover,
    FinishStop,
    Follow,
    HandOver,
    KeepSlots,
    Lead,
    MoveRoll,
    Promote,
    Refuse,
    Rejoin,
    ReleaseKey,
    RestartPrimary,
    RestartStandby,
    Retire,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    StopReceiving,
    TakeKey,
    WriteSync,
)
from pgherd.decide import RULES, decide
from pgherd.handover import Handover
from pgherd.ledger import Entry
from pgherd.model import Cluster, Instance, LeaderKey, Member, SyncKey
from pgherd.rolling import Roll, Step
from pgherd.settings import Tags
from pgherd.wishes import Reinitialize, Restart, ScheduledRestart

if TYPE_CHECKING:
    from pgherd.view import View

PG2 = cluster().members["pg2"]
AHEAD = peer(position=0x4000)
FROM_PG2 = Handover("pg2", ME)
TO_PG2 = Handover(ME, "pg2")
# What we wrote as leader: one of pg2 and pg3 must have a commit, so two of us must vote.
OUR_SYNC = sync_key(ME, "pg2,pg3")
ANY_ONE = 'ANY 1 ("pg2","pg3")'
LED_BY_US = synchronous(ME, OUR_SYNC)
STANDBYS = cluster(ME, config={"standby_cluster": {"host": "remote"}})
FAILSAFE = {"pg1": "http://pg1:8008", "pg2": "http://pg2:8008", "pg3": "http://pg3:8008"}
# What `/sync` is after an election of a cluster whose commits wait for nobody.
NUMBERED = SyncKey("", timeline=2)
PROMISING = cluster(None, config={"failsafe_mode": True}, failsafe=FAILSAFE)


ROLLING = Entry("1", "rolling_restart")
DUE = ScheduledRestart(1767225600.0)


def answered(name: str) -> Member:
    """Return a member that reaches pg2 and pg3 and not us, who have asked."""
    reach = sorted({"pg2", "pg3"} - {name})
    return member(name, pgherd={"reach": reach, "asked": OUR_SYNC.revision})


def rolling(name: str) -> Cluster:
    """Return a cluster of which *name* is to be restarted in its turn."""
    roll = Roll(plan=(name,), servers={name: standby().started_at or ""})
    return cluster(ledger=(replace(ROLLING, details=roll.published()),))


# One view for every rule, and what is asked for then.
WORLD: dict[str, tuple[View, tuple[Action, ...]]] = {
    "hand_over_standbys": (
        view(
            standby(upstream="remote:5432", replication=(row("pg2"),)),
            cluster=replace(STANDBYS, handover=Handover(ME, "pg2")),
        ),
        (ReleaseKey(),),
    ),
    "demote_cluster": (view(primary(), cluster=STANDBYS), (Retire(),)),
    "lead_standbys": (view(standby(upstream="remote:5432"), cluster=STANDBYS), (Lead(),)),
    "stop_streaming": (view(tags=Tags(nostream=True)), (StopReceiving(),)),
    "demote_without_key": (view(primary()), (Demote(),)),
    "kill_hung": (view(primary(), cluster=cluster(ME), silent_seconds=10.1), (Demote(),)),
    "busy": (view(operation="clone"), ()),
    "stop": (view(stopping=True), (StopAndLeave(),)),
    "finish_stop": (view(primary(is_told_to_stop=True), cluster=cluster(ME)), (FinishStop(),)),
    "refuse_foreign_data": (
        view(stopped(system_id="666")),
        (Refuse(found="666", expected=SYSTEM_ID),),
    ),
    "wait_for_etcd": (view(stopped(), cluster=None), ()),
    "drop_scheduled_restart": (
        view(scheduled_restart=DUE, wall=DUE.at + 61),
        (DropScheduledRestart("its time has passed"),),
    ),
    "begin_scheduled_restart": (
        view(scheduled_restart=DUE, wall=DUE.at),
        (BeginScheduledRestart(),),
    ),
    "restart_primary": (
        view(primary(), cluster=cluster(ME), restart=Restart(NOW)),
        (RestartPrimary(),),
    ),
    "leave_sync_first": (
        view(restart=Restart(NOW), cluster=synchronous("pg2", sync_key())),
        (),
    ),
    "clear_data": (view(reinitialize=Reinitialize(NOW)), (ClearData(PG2),)),
    "restart_standby": (
        view(standby(upstream=None), restart=Restart(NOW)),
        (RestartStandby(PG2),),
    ),
    "paused": (view(stopped(), cluster=cluster(config={"pause": True})), ()),
    "take_turn": (view(cluster=rolling("pg1")), (BeginRestart(),)),
    "move_turn": (
        view(primary(), cluster=cluster(ME, ledger=(ROLLING,))),
        (MoveRoll(Step(Roll(), state="done", result="nothing waits for a restart")), Lead()),
    ),
    "give_up_key_in_pause": (
        view(stopped("in production"), cluster=cluster(ME, config={"pause": True})),
        (ReleaseKey(),),
    ),
    "wait_in_pause": (
        view(starting(in_recovery=None), cluster=cluster(ME, config={"pause": True})),
        (),
    ),
    "give_up_key_without_data": (view(Instance(), cluster=cluster(ME)), (Demote(), ReleaseKey())),
    "bootstrap": (unlocked(Instance(), cluster=cluster(None, initialize=None)), (Bootstrap(),)),
    "clone": (view(Instance()), (Clone(PG2),)),
    "restore": (unlocked(Instance(), restores=True), (Clone(None),)),
    "wait_for_source": (unlocked(Instance()), ()),
    "read_etcd_first": (
        view(stopped("in production"), cluster=cluster(ME), store_answers=False),
        (),
    ),
    "hand_over_crashed": (
        view(stopped("in production"), cluster=LED_BY_US),
        (Demote(), ReleaseKey()),
    ),
    "restart_crashed_primary": (
        view(stopped("in production"), cluster=cluster(ME)),
        (StartPrimary(),),
    ),
    "give_up_key": (
        view(stopped("in production"), cluster=cluster(ME), start_failures=1),
        (Demote(), ReleaseKey()),
    ),
    "wait_for_disk": (view(stopped(disk="it is full")), ()),
    "lead_restored": (
        unlocked(stopped("shut down", is_restored=True)),
        (TakeKey(SyncKey("", timeline=1)),),
    ),
    "rejoin": (view(stopped()), (Rejoin(PG2),)),
    "start_standby": (unlocked(stopped()), (StartStandby(),)),
    "start_takes_too_long": (
        view(starting(), cluster=cluster(ME), starting_since=NOW - 301),
        (Demote(), ReleaseKey()),
    ),
    "follow_while_starting": (view(starting(upstream="pg3:5432")), (Follow(PG2),)),
    "rejoin_while_starting": (
        view(starting(upstream=None), starting_since=NOW - 5.1),
        (Rejoin(PG2),),
    ),
    "wait_for_postgres": (view(starting()), ()),
    "hand_over_unfit": (
        view(primary(disk="it is full"), cluster=LED_BY_US),
        (Demote(), ReleaseKey()),
    ),
    "finish_handover": (
        view(primary(), cluster=cluster(ME, handover=FROM_PG2)),
        (EndHandover(FROM_PG2, "done", 'Successfully switched over to "pg1"'), Lead()),
    ),
    "refuse_handover": (
        view(primary(), cluster=cluster(ME, handover=TO_PG2)),
        (
            EndHandover(
                TO_PG2, "refused", "switchover is not possible: pg2 does not stream from pg1"
            ),
            Lead(),
        ),
    ),
    "hand_over": (
        view(
            primary(replication=(row("pg2"),)),
            cluster=cluster(ME, handover=TO_PG2),
        ),
        (HandOver(TO_PG2, member("pg2")), Lead()),
    ),
    "hand_over_cut_off": (
        view(
            primary(sync_names=ANY_ONE),
            cluster=synchronous(
                ME,
                replace(OUR_SYNC, isolated=True),
                members=[answered("pg2"), answered("pg3")],
            ),
            alone_since=NOW - 0.5,
        ),
        (Demote(), ReleaseKey()),
    ),
    "ask_others": (
        view(primary(sync_names=ANY_ONE), cluster=LED_BY_US, alone_since=NOW - 0.5),
        (WriteSync(replace(OUR_SYNC, isolated=True)), Lead()),
    ),
    "adjust_sync": (
        view(primary(replication=(row("pg2"), row("pg3"))), cluster=synchronous(ME)),
        (WriteSync(SyncKey(ME, timeline=1)), Lead()),
    ),
    "alone": (
        view(primary(sync_names=ANY_ONE), cluster=LED_BY_US, alone_since=NOW - 0.1),
        (Lead(),),
    ),
    "lead": (view(primary(), cluster=cluster(ME)), (Lead(),)),
    "lead_by_promise": (
        view(
            primary(),
            cluster=cluster(ME, config={"failsafe_mode": True}, failsafe=FAILSAFE),
            store_answers=False,
            lease=lease(0),
            failsafe_until=NOW + 1,
        ),
        (KeepSlots(),),
    ),
    "demote_behind_history": (
        unlocked(primary(), peers=peers(peer(role="primary"))),
        (Demote(),),
    ),
    "retake_key": (unlocked(primary()), (TakeKey(),)),
    "give_up_unelected_key": (
        view(standby(), cluster=synchronous(ME, sync_key("pg2"))),
        (ReleaseKey(),),
    ),
    "begin_sync": (
        view(standby(), cluster=synchronous(ME)),
        (WriteSync(SyncKey(ME, timeline=2)),),
    ),
    "promote": (view(standby(), cluster=cluster(ME, numbered=2)), (Promote(timeline=2),)),
    "reserve_timeline": (
        view(standby(), cluster=synchronous(ME, sync_key(ME, "pg2,pg3"))),
        (WriteSync(sync_key(ME, "pg2,pg3", timeline=2)),),
    ),
    "rejoin_diverged": (view(diverged=True), (Rejoin(PG2),)),
    "rejoin_stuck": (view(stuck=True), (Rejoin(PG2),)),
    "raise_limits": (
        view(standby(replay_paused=True, lacks_limits=True)),
        (BeginRestart(), KeepSlots()),
    ),
    "compare_first": (view(standby(upstream="pg3:5432"), diverged=None), ()),
    "follow": (view(standby(upstream="pg3:5432")), (Follow(PG2),)),
    "copy_slots": (
        view(
            slots_to_copy=("feed",),
            cluster=cluster(members=[member(ME, pgherd={"slots_to_copy": ["feed"]})]),
        ),
        (BeginRestart(), KeepSlots()),
    ),
    "stream": (view(), (KeepSlots(),)),
    "keep_promise": (
        unlocked(
            standby(upstream=None),
            cluster=synchronous(None, sync_key("pg2"), failsafe_mode=True),
            promised_to="pg2",
            promised=PG2,
        ),
        (Follow(PG2),),
    ),
    "wait_for_initialize": (unlocked(cluster=cluster(None, initialize=None)), ()),
    "inherit": (
        unlocked(cluster=cluster(None, status={"heir": {"name": ME, "position": 0x2F00}})),
        (TakeKey(NUMBERED),),
    ),
    "leave_it_to_heir": (
        unlocked(cluster=cluster(None, status={"heir": {"name": "pg2", "position": 0x2F00}})),
        (),
    ),
    "take_key_as_asked": (
        unlocked(cluster=cluster(None, handover=Handover(None, ME)), peers=peers(AHEAD)),
        (TakeKey(NUMBERED),),
    ),
    "leave_it_to_candidate": (unlocked(cluster=cluster(None, handover=Handover(None, "pg2"))), ()),
    "stop_receiving": (
        unlocked(standby(), cluster=synchronous(None, sync_key())),
        (StopReceiving(),),
    ),
    "cannot_lead": (unlocked(tags=Tags(nofailover=True)), ()),
    "primary_still_alive": (unlocked(peers=peers(peer(role="primary"))), ()),
    "promised": (unlocked(cluster=PROMISING, promised_to="pg2"), ()),
    "minority": (unlocked(cluster=PROMISING), ()),
    "peer_is_ahead": (unlocked(peers=peers(AHEAD)), ()),
    "votes_missing": (
        unlocked(
            standby(upstream=None, receiver_status=None),
            cluster=synchronous(None, sync_key()),
        ),
        (),
    ),
    "peer_is_preferred": (unlocked(peers=peers(peer(priority=2))), ()),
    "take_key": (unlocked(), (TakeKey(NUMBERED),)),
    "wait": (view(store_answers=False, cluster=cluster(None)), ()),
}


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


def test_every_rule_fires_for_some_view() -> None:
    assert {fired(seen) for seen, _ in WORLD.values()} == {rule.name for rule in RULES}


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_a_rule_fires_for_its_view_and_asks_for_its_actions(name: str) -> None:
    seen, actions = WORLD[name]
    decision = decide(seen)
    assert (decision.rule.name, decision.actions) == (name, actions)


def test_every_rule_has_a_name_of_its_own_and_says_why() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert len({rule.why for rule in RULES}) == len(RULES)


class TestTheOrderOfTheRules:
    """Where two rules match, the first one decides; these pairs carry the safety of the whole."""

    def test_losing_the_key_comes_before_being_busy(self) -> None:
        """R6: a long operation must not keep a primary alive that has no lease."""
        seen = view(primary(), operation="start primary", lease=None)
        assert fired(seen) == "demote_without_key"

    def test_losing_the_key_comes_before_a_stop(self) -> None:
        """A stop in fast mode may take minutes, the lease does not last that long."""
        assert fired(view(primary(), stopping=True)) == "demote_without_key"

    def test_a_stop_comes_before_the_lead(self) -> None:
        """R18."""
        assert fired(view(primary(), cluster=cluster(ME), stopping=True)) == "stop"

    def test_foreign_data_comes_before_recovery(self) -> None:
        """4.1 step 10: nothing may be done to a directory that is not ours."""
        foreign = stopped("in production", system_id="666")
        assert fired(view(foreign, cluster=cluster(ME))) == "refuse_foreign_data"

    def test_a_dead_leader_of_a_running_start_is_not_waited_for(self) -> None:
        """R20: primary_start_timeout ends the wait for PostgreSQL."""
        seen = view(starting(), cluster=cluster(ME), starting_since=NOW - 299)
        assert fired(seen) == "wait_for_postgres"
        assert fired(replace(seen, now=NOW + 2, lease=lease(9))) == "start_takes_too_long"

    def test_a_later_history_comes_before_the_free_key(self) -> None:
        """R7: a primary that was left behind does not retake the key."""
        newer = peer(timeline=2, position=0)
        assert fired(unlocked(primary(), peers=peers(newer))) == "demote_behind_history"


class TestSafety:
    @pytest.mark.parametrize(
        "held",
        [None, lease(0), lease(-1), lease(number=THEIRS + 1)],
        ids=["no lease", "lease ends now", "lease is over", "another lease"],
    )
    def test_a_primary_whose_key_hangs_on_no_good_lease_of_ours_steps_down(self, held: Any) -> None:
        """R1, R6: the name in the leader key proves nothing, its lease does."""
        assert fired(view(primary(), cluster=cluster(ME), lease=held)) == "demote_without_key"

    def test_a_primary_stays_while_its_lease_lasts_though_etcd_is_silent(self) -> None:
        """Section 7 number 9: the deadline is the lease's, not that of a request."""
        assert fired(view(primary(), cluster=cluster(ME), store_answers=False)) == "lead"

    def test_an_instance_that_does_not_answer_counts_as_a_primary(self) -> None:
        """A slow primary is still a primary; only one started in recovery is none."""
        assert fired(view(starting(in_recovery=None))) == "demote_without_key"
        assert fired(view(starting(in_recovery=True))) == "wait_for_postgres"

    def test_a_free_key_last_seen_before_etcd_fell_silent_is_not_counted_on(self) -> None:
        assert fired(unlocked(primary(), store_answers=False)) == "demote_without_key"

    def test_a_primary_tagged_nofailover_does_not_retake_a_free_key(self) -> None:
        """4.3: nofailover keeps a member out of the race, also one that led before."""
        seen = unlocked(primary(), tags=Tags(nofailover=True))
        assert decide(seen).actions == (Demote(),)

    def test_a_paused_primary_without_a_key_is_left_alone(self) -> None:
        """R42."""
        seen = view(primary(), cluster=cluster(config={"pause": True}), lease=None)
        assert fired(seen) == "paused"

    def test_the_paused_leader_goes_on_leading(self) -> None:
        """R42: the leader keeps refreshing the lock while PostgreSQL is a primary."""
        assert fired(view(primary(), cluster=cluster(ME, config={"pause": True}))) == "lead"

    @pytest.mark.parametrize("initialize", [None, ""])
    def test_data_is_not_foreign_while_the_cluster_has_no_identifier(
        self, initialize: str | None
    ) -> None:
        seen = unlocked(standby(system_id="666"), cluster=cluster(None, initialize=initialize))
        assert fired(seen) != "refuse_foreign_data"

    def test_data_is_not_called_foreign_by_what_etcd_said_long_ago(self) -> None:
        assert fired(view(standby(system_id="666"), store_answers=False)) == "stream"


def decision_sources() -> list[Path]:
    """Return the files that make up the decision."""
    folder = Path(pgherd.decide.__file__).parent
    names = "decide actions model view settings slot_settings quorum handover ledger units relays"
    return [folder / f"{name}.py" for name in names.split()] + sorted(
        (folder / "rules").glob("*.py")
    )


@pytest.mark.parametrize("path", decision_sources(), ids=lambda path: path.name)
def test_the_decision_imports_no_clock_no_effect_no_log_and_no_dice(path: Path) -> None:
    allowed = {"__future__", "collections.abc", "dataclasses", "enum", "re", "typing"}
    allowed |= {"urllib.parse", "math"}
    pure = {"pgherd.actions", "pgherd.model", "pgherd.quorum", "pgherd.rules"}
    pure |= {"pgherd.settings", "pgherd.view", "pgherd.handover", "pgherd.ledger"}
    pure |= {"pgherd.wishes", "pgherd.rolling", "pgherd.slot_settings"}
    pure |= {"pgherd.units"}
    pure |= {"pgherd.relays"}
    pure |= {f"pgherd.rules.{name}" for name in ("handover", "rule", "successors", "towards")}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert found <= allowed | pure


def test_the_world_holds_the_lease_it_says() -> None:
    """Guards the builders: a leader key of pg1 hangs on our lease, one of pg2 does not."""
    assert view(primary(), cluster=cluster(ME)).holds_key
    assert cluster(ME).leader == LeaderKey(ME, OURS, 5)
    assert not view(primary(), cluster=cluster("pg2")).holds_key
