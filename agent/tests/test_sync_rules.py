# SPDX-License-Identifier: GPL-3.0-or-later
"""Synchronous replication: who acknowledges, in which steps that changes, and being alone.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

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
    primary,
    row,
    sync_key,
    synchronous,
    view,
)
from pgherd.actions import Action, Demote, Lead, ReleaseKey, SetSyncNames, WriteSync
from pgherd.decide import decide
from pgherd.model import SyncKey
from pgherd.quorum import NOBODY_ACKNOWLEDGES, Electing
from pgherd.rules.sync import (
    AFTER_PROMOTION_SECONDS,
    ALONE_SECONDS,
    ANSWER_SECONDS,
    ASK_AFTER_PROMOTION_SECONDS,
    ASK_AFTER_SECONDS,
    change,
    other_side,
    standbys,
)

if TYPE_CHECKING:
    from pgherd.view import View

BOTH = (row("pg2"), row("pg3"))
ANY_ONE = 'ANY 1 ("pg2","pg3")'
ALONE = sync_key(ME, "", 0)
# Whoever acknowledges, everybody must vote: from here every choice shows as the next names.
EVERYBODY = sync_key(ME, "pg2,pg3,pg4", 3)
STEADY = sync_key(ME, "pg2,pg3")


def leads(*rows: Any, sync: SyncKey | None = ALONE, names: str = "", **changes: Any) -> View:
    """Return what pg1 sees as the leader of standbys *rows*, the setting *names* being settled.

    :param changes: of the view; those of the cluster's settings stand under `settings`.
    """
    settings = changes.pop("settings", {})
    members = changes.pop("members", ())
    instance = primary(replication=rows, sync_names=names, disk=changes.pop("disk", ""))
    led = synchronous(ME, sync, members=members, **settings)
    return view(instance, **{"cluster": led, "settled": True, **changes})


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


def asked(seen: View) -> Action:
    """Return the step that is asked for, beside the lead."""
    [action, lead] = decide(seen).actions
    assert lead == Lead()
    return action


def written(voters: str, quorum: int) -> WriteSync:
    """Return the order to write `/sync` so."""
    return WriteSync(sync_key(ME, voters, quorum))


def chosen(*rows: Any, **changes: Any) -> str:
    """Return the names that a leader with nobody so far asks for."""
    action = asked(leads(*rows, sync=EVERYBODY, settled=False, **changes))
    assert isinstance(action, SetSyncNames)
    return action.names


class TestWhoCouldAcknowledge:
    @pytest.mark.parametrize(
        "found",
        [
            row("pg9"),
            row(ME),
            row("pg2", state="catchup"),
            row("pg2", state="backup"),
            row("pg2", flush=None),
            row("pgherd"),
        ],
        ids=["no member", "ourselves", "catching up", "copying", "nothing flushed", "a client"],
    )
    def test_not_every_connection_is_a_standby(self, found: Any) -> None:
        assert standbys(leads(found)) == []

    def test_a_member_with_nosync_does_not(self) -> None:
        tagged = member("pg2", tags={"nosync": True})
        assert standbys(leads(row("pg2"), members=[tagged])) == []

    def test_a_stalled_one_does_not(self) -> None:
        found = standbys(leads(*BOTH, stalled=frozenset({"pg2"})))
        assert [each.name for each, _ in found] == ["pg3"]

    @pytest.mark.parametrize(
        ("limit", "behind", "counts"),
        [(-1, 2**30, True), (100, 100, True), (100, 101, False), (0, 1, False), (0, 0, True)],
    )
    def test_maximum_lag_on_syncnode_leaves_those_far_behind_out(
        self, limit: int, behind: int, *, counts: bool
    ) -> None:
        """R31."""
        late = row("pg2", 0x3000 - behind)
        seen = leads(late, settings={"maximum_lag_on_syncnode": limit})
        assert bool(standbys(seen)) is counts


class TestTheChoice:
    """R30, R31."""

    def test_quorum_counts_everybody_who_can_acknowledge(self) -> None:
        assert chosen(*BOTH) == ANY_ONE

    def test_on_names_as_many_as_are_asked_for(self) -> None:
        assert chosen(*BOTH, settings={"synchronous_mode": "on"}) == '1 ("pg2")'
        two = {"synchronous_mode": "on", "synchronous_node_count": 2}
        assert chosen(*BOTH, settings=two) == '2 ("pg2","pg3")'

    @pytest.mark.parametrize("mode", ["on", "quorum"])
    def test_no_more_are_asked_for_than_there_are(self, mode: str) -> None:
        few = {"synchronous_mode": mode, "synchronous_node_count": 2}
        prefix = "ANY " if mode == "quorum" else ""
        assert chosen(row("pg3"), settings=few) == f'{prefix}1 ("pg3")'

    def test_quorum_may_need_more_than_one_of_them(self) -> None:
        rows = (*BOTH, row("pg4"))
        wanted = chosen(*rows, members=[member("pg4")], settings={"synchronous_node_count": 2})
        assert wanted == 'ANY 2 ("pg2","pg3","pg4")'

    def test_the_preferred_one_comes_first(self) -> None:
        preferred = member("pg3", tags={"sync_priority": 2})
        settings = {"synchronous_mode": "on"}
        assert chosen(*BOTH, members=[preferred], settings=settings) == '1 ("pg3")'

    def test_one_further_on_comes_first_among_equals(self) -> None:
        rows = (row("pg2", 0x2000), row("pg3", 0x2001))
        assert chosen(*rows, settings={"synchronous_mode": "on"}) == '1 ("pg3")'

    def test_who_acknowledges_already_stays_though_another_is_ahead(self) -> None:
        rows = (row("pg2", 0x3000), row("pg3", 0x2000))
        sync = sync_key(ME, "pg3", 0)
        seen = leads(*rows, sync=sync, names='1 ("pg3")', settings={"synchronous_mode": "on"})
        assert fired(seen) == "lead"

    @pytest.mark.parametrize("mode", ["on", "quorum"])
    def test_one_that_may_not_lead_acknowledges_only_when_needed(self, mode: str) -> None:
        """What only it has could not be elected."""
        tagged = member("pg2", tags={"nofailover": True, "sync_priority": 9})
        prefix = "ANY " if mode == "quorum" else ""
        settings = {"synchronous_mode": mode}
        assert chosen(*BOTH, members=[tagged], settings=settings) == f'{prefix}1 ("pg3")'
        assert chosen(row("pg2"), members=[tagged], settings=settings) == f'{prefix}1 ("pg2")'
        two = {**settings, "synchronous_node_count": 2}
        assert chosen(*BOTH, members=[tagged], settings=two) == f'{prefix}2 ("pg2","pg3")'


class TestSteps:
    """One change a round, and only etcd's or only PostgreSQL's."""

    def test_a_leader_without_sync_writes_that_nobody_else_may_lead(self) -> None:
        for sync in (None, sync_key("pg2")):
            assert asked(leads(*BOTH, sync=sync)) == WriteSync(SyncKey(ME, timeline=1))

    def test_the_first_standbys_acknowledge_before_they_may_lead(self) -> None:
        assert asked(leads(*BOTH)) == written("pg2,pg3", 2)
        all_of_them = sync_key(ME, "pg2,pg3", 2)
        assert asked(leads(*BOTH, sync=all_of_them)) == SetSyncNames(ANY_ONE)
        assert asked(leads(*BOTH, sync=all_of_them, names=ANY_ONE)) == written("pg2,pg3", 1)
        assert fired(leads(*BOTH, names=ANY_ONE, sync=STEADY)) == "lead"

    def test_nobody_may_lead_before_the_setting_is_settled(self) -> None:
        """What was acknowledged before it came into force is on nobody else for certain."""
        seen = leads(*BOTH, sync=sync_key(ME, "pg2,pg3", 2), names=ANY_ONE, settled=False)
        assert fired(seen) == "lead"

    def test_one_standby_acknowledges_before_it_may_lead(self) -> None:
        one = 'ANY 1 ("pg2")'
        assert asked(leads(row("pg2"))) == SetSyncNames(one)
        assert fired(leads(row("pg2"), names=one, settled=False)) == "lead"
        assert asked(leads(row("pg2"), names=one)) == written("pg2", 0)

    def test_a_lost_standby_is_taken_out_of_the_names_first(self) -> None:
        one = 'ANY 1 ("pg2")'
        assert asked(leads(row("pg2"), names=ANY_ONE, sync=STEADY)) == SetSyncNames(one)
        assert fired(leads(row("pg2"), names=one, sync=STEADY, settled=False)) == "lead"
        assert asked(leads(row("pg2"), names=one, sync=STEADY)) == written("pg2", 0)

    def test_one_that_comes_back_votes_before_it_acknowledges(self) -> None:
        one, few = 'ANY 1 ("pg2")', sync_key(ME, "pg2", 0)
        assert asked(leads(*BOTH, names=one, sync=few)) == written("pg2,pg3", 1)
        assert asked(leads(*BOTH, names=one, sync=STEADY)) == SetSyncNames(ANY_ONE)

    def test_the_step_that_asks_for_more_votes_needs_no_knowledge_of_the_past(self) -> None:
        few = sync_key(ME, "pg2", 0)
        seen = leads(*BOTH, names='ANY 1 ("pg2")', sync=few, settled=False)
        assert asked(seen) == written("pg2,pg3", 1)

    @pytest.mark.parametrize(
        ("mode", "before", "after"),
        [("on", 'ANY 1 ("pg2")', '1 ("pg2")'), ("quorum", '1 ("pg2")', 'ANY 1 ("pg2")')],
    )
    def test_the_other_mode_is_only_another_spelling(
        self, mode: str, before: str, after: str
    ) -> None:
        sync = sync_key(ME, "pg2", 0)
        seen = leads(row("pg2"), names=before, sync=sync, settings={"synchronous_mode": mode})
        assert asked(seen) == SetSyncNames(after)

    def test_from_quorum_to_on_the_others_leave(self) -> None:
        on = {"synchronous_mode": "on"}
        step = leads(*BOTH, names=ANY_ONE, sync=STEADY, settings=on)
        assert asked(step) == SetSyncNames('1 ("pg2")')
        step = leads(*BOTH, names='1 ("pg2")', sync=STEADY, settings=on)
        assert asked(step) == written("pg2", 0)

    def test_switched_off_the_key_goes_first_and_then_the_names(self) -> None:
        off = {"synchronous_mode": "off"}
        unnamed = WriteSync(SyncKey("", timeline=STEADY.timeline))
        assert asked(leads(*BOTH, names=ANY_ONE, sync=STEADY, settings=off)) == unnamed
        assert asked(leads(*BOTH, names=ANY_ONE, sync=None, settings=off)) == SetSyncNames("")
        assert fired(leads(*BOTH, sync=None, settings=off)) == "lead"

    def test_switched_off_the_number_of_the_timeline_stays(self) -> None:
        kept = replace(cluster(ME), sync_revision=8, numbered=3)
        assert fired(view(primary(timeline=2), cluster=kept)) == "lead"

    def test_switched_on_it_is_not_given_again(self) -> None:
        """Whoever was given it may have used it, and come back."""
        kept = replace(synchronous(ME), sync_revision=8, numbered=3)
        begun = asked(view(primary(timeline=2, replication=BOTH), cluster=kept))
        assert begun == WriteSync(SyncKey(ME, timeline=3))

    def test_switched_off_a_key_that_cannot_be_read_goes_too(self) -> None:
        damaged = replace(cluster(ME), sync_revision=8)
        assert asked(view(primary(), cluster=damaged)) == WriteSync(None)

    @pytest.mark.parametrize(
        "changes",
        [{"store_answers": False}, {"lease": lease(0)}, {"lease": None}],
        ids=["etcd silent", "lease over", "no lease"],
    )
    def test_who_does_not_lead_for_certain_changes_nothing(self, changes: dict[str, Any]) -> None:
        actions = decide(leads(*BOTH, **changes)).actions
        assert not any(isinstance(each, WriteSync | SetSyncNames) for each in actions)

    def test_no_step_is_taken_before_names_that_were_written_are_in_force(self) -> None:
        """History 5 of the simulator with rolling restarts: pg4 left just after it had come.

        The names it is in came into force when nobody counted its vote any more.
        """
        three = sync_key(ME, "pg2,pg3,pg4", 2)
        come = 'ANY 1 ("pg2","pg3","pg4")'
        seen = leads(*BOTH, names=ANY_ONE, sync=three)
        assert asked(seen) == written("pg2,pg3", 1)
        assert asked(replace(seen, names_asked=come)) == SetSyncNames(come)
        assert asked(replace(seen, names_asked=ANY_ONE)) == written("pg2,pg3", 1)
        assert asked(replace(seen, names_asked='ANY 1 ("pg4","pg5")')) == written("pg2,pg3", 1)

    @pytest.mark.parametrize("settled", [True, False])
    def test_names_that_fit_nobody_s_vote_are_not_answered_for_ever(self, *, settled: bool) -> None:
        """With nobody elected but us there is nothing left to take back."""
        seen = leads(*BOTH, names=ANY_ONE, sync=ALONE, settled=settled)
        assert asked(seen) == written("pg2,pg3", 1) if settled else fired(seen) == "lead"

    def test_paused_the_leader_goes_on_adjusting(self) -> None:
        assert fired(leads(*BOTH, settings={"pause": True})) == "adjust_sync"


def lonely(
    seconds: float = 0.0,
    *,
    sync: SyncKey = STEADY,
    names: str = ANY_ONE,
    promoted: bool = False,
    **changes: Any,
) -> View:
    """Return what a leader sees that has had no standby for *seconds*.

    :param promoted: it has had none since it was promoted; else it lost them later.
    """
    since = NOW - seconds
    known = {"alone_since": since, "promoted_at": since if promoted else since - 100}
    return leads(sync=sync, names=names, **{**known, **changes})


# Alone for long enough to ask the others, and to go on without them.
SHORT, LONG = ASK_AFTER_SECONDS + 0.01, ANSWER_SECONDS + 0.01
GONE = (member("pg2", state="stopped"), member("pg3", state="stopped"))
ASKED = replace(STEADY, isolated=True)


class TestAlone:
    def test_for_a_moment_nothing_is_done(self) -> None:
        assert fired(lonely(ASK_AFTER_SECONDS - 0.01)) == "alone"

    def test_then_the_others_are_asked_whom_they_reach(self) -> None:
        assert asked(lonely(SHORT)) == WriteSync(ASKED)

    def test_they_are_asked_once(self) -> None:
        assert fired(lonely(SHORT, sync=ASKED)) == "alone"

    def test_when_its_patience_is_over_it_goes_on_alone(self) -> None:
        """In steps: nobody but us may lead, then nobody is waited for."""
        assert fired(lonely(ANSWER_SECONDS - 0.01, sync=ASKED)) == "alone"
        assert asked(lonely(LONG, sync=ASKED)) == WriteSync(
            replace(ASKED, electing=Electing(frozenset({"pg2", "pg3"}), 2))
        )
        all_of_them = replace(ASKED, electing=Electing(frozenset({"pg2", "pg3"}), 2))
        assert asked(lonely(LONG, sync=all_of_them)) == SetSyncNames("")
        assert asked(lonely(LONG, sync=all_of_them, names="")) == WriteSync(
            replace(ASKED, electing=Electing())
        )
        nobody = replace(ASKED, electing=Electing())
        assert fired(lonely(LONG, sync=nobody, names="")) == "lead"

    @pytest.mark.parametrize(
        ("reach", "waited", "rule"),
        [
            (["pg1", "pg3"], ALONE_SECONDS - 0.01, "alone"),
            (["pg1", "pg3"], ALONE_SECONDS + 0.01, "adjust_sync"),
            (None, ALONE_SECONDS + 0.01, "alone"),
        ],
    )
    def test_when_all_have_answered_it_need_not_wait_as_long(
        self, reach: list[str] | None, waited: float, rule: str
    ) -> None:
        extra = {"reach": reach, "asked": ASKED.revision} if reach else {}
        others = [member("pg2", pgherd=extra), member("pg3", pgherd=extra)]
        assert fired(lonely(waited, sync=ASKED, members=others)) == rule

    def test_the_last_of_them_leaves_in_two_steps(self) -> None:
        last = sync_key(ME, "pg2", 0, isolated=True)
        one = 'ANY 1 ("pg2")'
        assert asked(lonely(LONG, sync=last, names=one)) == WriteSync(
            replace(last, electing=Electing())
        )
        nobody = replace(last, electing=Electing())
        assert asked(lonely(LONG, sync=nobody, names=one)) == SetSyncNames("")

    def test_nobody_is_waited_for_when_no_member_lives(self) -> None:
        assert asked(lonely(members=GONE)) == WriteSync(
            replace(STEADY, electing=Electing(frozenset({"pg2", "pg3"}), 2))
        )

    @pytest.mark.parametrize("changes", [{"state": "stopped"}, {"tags": {"nosync": True}}])
    def test_who_cannot_acknowledge_is_not_awaited(self, changes: dict[str, Any]) -> None:
        others = [member("pg2", **changes), member("pg3", **changes)]
        assert fired(lonely(members=others)) == "adjust_sync"

    def test_one_that_starts_is_awaited(self) -> None:
        others = [member("pg2", state="starting"), GONE[1]]
        assert fired(lonely(members=others)) == "alone"

    def test_a_new_primary_has_more_patience(self) -> None:
        """The others have to find it first."""
        assert fired(lonely(ASK_AFTER_PROMOTION_SECONDS - 0.01, promoted=True)) == "alone"
        assert asked(lonely(ASK_AFTER_PROMOTION_SECONDS + 0.01, promoted=True)) == WriteSync(ASKED)
        seen = lonely(AFTER_PROMOTION_SECONDS - 0.01, sync=ASKED, promoted=True)
        assert fired(seen) == "alone"
        seen = lonely(AFTER_PROMOTION_SECONDS + 0.01, sync=ASKED, promoted=True)
        assert fired(seen) == "adjust_sync"

    @pytest.mark.parametrize("others", [(), GONE])
    def test_in_strict_mode_it_never_goes_on_alone(self, others: Any) -> None:
        strict = {"synchronous_mode_strict": True}
        seen = lonely(10_000, sync=ASKED, settings=strict, members=others)
        assert fired(seen) == "alone"

    def test_strict_mode_that_begins_alone_waits_for_nobody_in_particular(self) -> None:
        strict = {"synchronous_mode_strict": True}
        seen = lonely(10, sync=ALONE, names="", settings=strict)
        assert change(seen) == SetSyncNames(NOBODY_ACKNOWLEDGES)
        waits = lonely(10, sync=ALONE, names=NOBODY_ACKNOWLEDGES, settings=strict)
        assert change(waits) is None

    def test_the_first_standby_takes_the_place_of_nobody(self) -> None:
        strict = {"synchronous_mode_strict": True}
        seen = leads(row("pg2"), sync=ALONE, names=NOBODY_ACKNOWLEDGES, settings=strict)
        assert asked(seen) == SetSyncNames('ANY 1 ("pg2")')

    def test_with_a_standby_again_the_question_is_taken_back_last(self) -> None:
        nobody = replace(ASKED, electing=Electing())
        back = leads(row("pg2"), sync=nobody)
        assert asked(back) == SetSyncNames('ANY 1 ("pg2")')
        led = sync_key(ME, "pg2", 0, isolated=True)
        back = leads(row("pg2"), sync=led, names='ANY 1 ("pg2")')
        assert asked(back) == WriteSync(replace(led, isolated=False))

    def test_without_synchronous_replication_being_alone_is_nothing(self) -> None:
        off = {"synchronous_mode": "off"}
        assert fired(lonely(100, names="", settings=off, cluster=cluster(ME))) == "lead"


def answer(name: str, *reach: str, asked: int = ASKED.revision, **data: Any) -> Any:
    """Return the member key of *name* that reaches *reach*."""
    return member(name, pgherd={"reach": list(reach), "asked": asked}, **data)


MUTUAL = (answer("pg2", "pg3"), answer("pg3", "pg2"))


class TestCutOff:
    def test_voters_that_reach_one_another_and_not_us_take_over(self) -> None:
        seen = lonely(SHORT, sync=ASKED, members=MUTUAL)
        assert other_side(seen) == {"pg2", "pg3"}
        assert decide(seen).actions == (Demote(), ReleaseKey())

    def test_they_do_so_in_strict_mode_too_and_however_late(self) -> None:
        strict = {"synchronous_mode_strict": True}
        seen = lonely(10_000, sync=ASKED, members=MUTUAL, settings=strict)
        assert fired(seen) == "hand_over_cut_off"

    @pytest.mark.parametrize(
        "others",
        [
            (answer("pg2", "pg3"), answer("pg3")),
            (answer("pg2"), answer("pg3")),
            (answer("pg2", "pg3", ME), answer("pg3", "pg2")),
            (answer("pg2", "pg3"), member("pg3")),
            (answer("pg2", "pg3"), answer("pg3", "pg2", asked=ASKED.revision - 1)),
            (answer("pg2", "pg3"), answer("pg3", "pg2", state="starting")),
            (answer("pg2", "pg3"), answer("pg3", "pg2", tags={"nofailover": True})),
            (answer("pg2", "pg3"),),
        ],
        ids=[
            "one way only", "nobody reaches anybody", "one reaches us", "one does not answer",
            "answers an older question", "starts", "may not lead", "alone",
        ],
    )  # fmt: skip
    def test_less_than_that_is_no_other_side(self, others: Any) -> None:
        seen = lonely(SHORT, sync=ASKED, members=others)
        assert fired(seen) == "alone"

    def test_an_answer_that_came_before_the_question_is_none(self) -> None:
        assert other_side(lonely(1, members=MUTUAL)) == frozenset()

    def test_a_side_of_one_is_none(self) -> None:
        """It would have no second copy either, and would hand the key back in its turn."""
        sync = sync_key(ME, "pg2", 0, isolated=True)
        seen = lonely(0.5, sync=sync, names='ANY 1 ("pg2")', members=[answer("pg2")])
        assert other_side(seen) == {"pg2"}
        assert fired(seen) == "alone"

    def test_a_voter_that_reaches_nobody_is_no_part_of_the_side_of_the_others(self) -> None:
        sync = sync_key(ME, "pg2,pg3,pg4", 1, isolated=True)
        seen = lonely(SHORT, sync=sync, members=[*MUTUAL, answer("pg4")])
        assert other_side(seen) == {"pg2", "pg3"}
        assert fired(seen) == "hand_over_cut_off"

    def test_two_sides_that_do_not_reach_each_other_are_not_one(self) -> None:
        sync = sync_key(ME, "pg2,pg3,pg4,pg5", 3, isolated=True)
        apart = [answer("pg4", "pg5"), answer("pg5", "pg4")]
        names = 'ANY 1 ("pg2","pg3","pg4","pg5")'
        seen = lonely(SHORT, sync=sync, names=names, members=[*MUTUAL, *apart])
        assert len(other_side(seen)) == 2
        assert fired(seen) == "alone"

    def test_who_is_no_voter_does_not_count(self) -> None:
        sync = sync_key(ME, "pg2,pg4", 1, isolated=True)
        seen = lonely(1, sync=sync, names='ANY 1 ("pg2","pg4")', members=MUTUAL)
        assert "pg3" not in other_side(seen)
        assert fired(seen) != "hand_over_cut_off"

    def test_with_a_standby_left_nobody_hands_over(self) -> None:
        seen = leads(row("pg2"), sync=ASKED, names=ANY_ONE, members=MUTUAL)
        assert fired(seen) == "adjust_sync"

    def test_a_damaged_answer_is_none(self) -> None:
        odd = [member("pg2", pgherd="x"), member("pg3", pgherd={"asked": ASKED.revision})]
        assert other_side(lonely(1, sync=ASKED, members=odd)) <= {"pg3"}
