# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision table: every rule fires, for the right view, in the right order.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import ast
import itertools
from copy import deepcopy
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
    standby,
    starting,
    stopped,
    unlocked,
    view,
)
from pgherd.actions import (
    Action,
    Bootstrap,
    Clone,
    Demote,
    Follow,
    KeepSlots,
    Lead,
    Promote,
    Refuse,
    Rejoin,
    ReleaseKey,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    TakeKey,
)
from pgherd.decide import RULES, decide
from pgherd.model import Instance, LeaderKey, Process, Tags, View

if TYPE_CHECKING:
    from collections.abc import Iterator

PG2 = cluster().members["pg2"]
AHEAD = peer(position=0x4000)

# One view for every rule, and what is asked for then.
WORLD: dict[str, tuple[View, tuple[Action, ...]]] = {
    "demote_without_key": (view(primary()), (Demote(),)),
    "busy": (view(operation="clone"), ()),
    "stop": (view(stopping=True), (StopAndLeave(),)),
    "refuse_foreign_data": (
        view(stopped(system_id="666")),
        (Refuse(found="666", expected=SYSTEM_ID),),
    ),
    "wait_for_etcd": (view(stopped(), cluster=None), ()),
    "paused": (view(stopped(), cluster=cluster(config={"pause": True})), ()),
    "give_up_key_without_data": (view(Instance(), cluster=cluster(ME)), (Demote(), ReleaseKey())),
    "bootstrap": (unlocked(Instance(), cluster=cluster(None, initialize=None)), (Bootstrap(),)),
    "clone": (view(Instance()), (Clone(PG2),)),
    "wait_for_source": (unlocked(Instance()), ()),
    "restart_crashed_primary": (
        view(stopped("in production"), cluster=cluster(ME)),
        (StartPrimary(),),
    ),
    "give_up_key": (
        view(stopped("in production"), cluster=cluster(ME), start_failures=1),
        (ReleaseKey(),),
    ),
    "rejoin": (view(stopped()), (Rejoin(PG2),)),
    "start_standby": (unlocked(stopped()), (StartStandby(),)),
    "start_takes_too_long": (
        view(starting(), cluster=cluster(ME), starting_since=NOW - 301),
        (Demote(), ReleaseKey()),
    ),
    "follow_while_starting": (view(starting(upstream="pg3:5432")), (Follow(PG2),)),
    "wait_for_postgres": (view(starting()), ()),
    "lead": (view(primary(), cluster=cluster(ME)), (Lead(),)),
    "demote_behind_history": (
        unlocked(primary(), peers=peers(peer(role="primary"))),
        (Demote(),),
    ),
    "retake_key": (unlocked(primary()), (TakeKey(),)),
    "promote": (view(standby(), cluster=cluster(ME)), (Promote(),)),
    "rejoin_diverged": (view(diverged=True), (Rejoin(PG2),)),
    "follow": (view(standby(upstream="pg3:5432")), (Follow(PG2),)),
    "stream": (view(), (KeepSlots(),)),
    "cannot_lead": (unlocked(tags=Tags(nofailover=True)), ()),
    "primary_still_alive": (unlocked(peers=peers(peer(role="primary"))), ()),
    "peer_is_ahead": (unlocked(peers=peers(AHEAD)), ()),
    "peer_is_preferred": (unlocked(peers=peers(peer(priority=2))), ()),
    "take_key": (unlocked(), (TakeKey(),)),
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

    def test_foreign_data_comes_before_pause_and_recovery(self) -> None:
        """4.1 step 10: nothing may be done to a directory that is not ours."""
        foreign = stopped("in production", system_id="666")
        assert fired(view(foreign, cluster=cluster(config={"pause": True}))) == (
            "refuse_foreign_data"
        )
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
        assert fired(seen) == "take_key"

    def test_data_is_not_called_foreign_by_what_etcd_said_long_ago(self) -> None:
        assert fired(view(standby(system_id="666"), store_answers=False)) == "stream"


class TestAMemberWithoutData:
    @pytest.mark.parametrize(
        "changes",
        [
            {"lease": None},
            {"lease": lease(0)},
            {"tags": Tags(nofailover=True)},
            {"store_answers": False},
            {"cluster": cluster(None, initialize="")},
            {"cluster": cluster(None, initialize=SYSTEM_ID)},
        ],
        ids=["no lease", "lease over", "nofailover", "etcd silent", "claimed", "initialized"],
    )
    def test_the_cluster_is_not_created_twice_nor_by_the_wrong_member(
        self, changes: dict[str, Any]
    ) -> None:
        """R39."""
        seen = unlocked(Instance(), **{"cluster": cluster(None, initialize=None), **changes})
        assert fired(seen) == "wait_for_source"

    def test_a_clonefrom_member_spares_the_leader(self) -> None:
        """R40."""
        willing = member("pg3", tags={"clonefrom": True})
        assert decide(view(Instance(), cluster=cluster(members=[willing]))).actions == (
            Clone(willing),
        )

    def test_a_clonefrom_member_that_does_not_run_is_no_source(self) -> None:
        """R40."""
        ill = member("pg3", tags={"clonefrom": True}, state="starting")
        assert decide(view(Instance(), cluster=cluster(members=[ill]))).actions == (Clone(PG2),)

    def test_a_leader_that_does_not_run_yet_is_awaited(self) -> None:
        seen = view(Instance(), cluster=cluster(members=[member("pg2", state="starting")]))
        assert fired(seen) == "wait_for_source"

    def test_a_leader_that_has_not_published_itself_is_awaited(self) -> None:
        unknown = replace(cluster(), members={ME: member(ME)})
        assert fired(view(Instance(), cluster=unknown)) == "wait_for_source"

    def test_a_leader_that_lost_its_data_hands_the_key_over(self) -> None:
        """4.1 step 9: kept, the key would leave the cluster without a primary for good."""
        assert decide(view(Instance(), cluster=cluster(ME))).actions == (Demote(), ReleaseKey())


class TestAStoppedInstance:
    @pytest.mark.parametrize(
        "state", ["in production", "shutting down", "shut down", "in crash recovery"]
    )
    def test_a_crashed_primary_goes_on_where_it_was_while_the_key_is_its_own(
        self, state: str
    ) -> None:
        """R21: the timeline does not change."""
        seen = view(stopped(state), cluster=cluster(ME))
        assert fired(seen) == "restart_crashed_primary"

    @pytest.mark.parametrize("state", ["shut down in recovery", "in archive recovery"])
    def test_a_stopped_standby_that_holds_the_key_comes_up_in_recovery(self, state: str) -> None:
        """R22: it is promoted from there, on a timeline of its own."""
        assert fired(view(stopped(state), cluster=cluster(ME))) == "start_standby"

    def test_a_damaged_control_file_is_no_ground_to_start_as_a_primary(self) -> None:
        """R21, R23."""
        assert fired(view(stopped(control=None), cluster=cluster(ME))) == "start_standby"

    def test_a_crashed_primary_whose_key_is_gone_comes_up_in_recovery(self) -> None:
        """R23: never a primary without the key."""
        assert fired(unlocked(stopped("in production"))) == "start_standby"

    @pytest.mark.parametrize(
        "leader",
        [
            member("pg2", role="replica"),
            member("pg2", role="primary", state="starting"),
            member("pg2", role="primary", checkpoint_after_promote=False),
        ],
        ids=["not promoted", "starting", "no checkpoint"],
    )
    def test_nobody_rejoins_a_leader_that_has_not_settled(self, leader: Any) -> None:
        """R26: pg_rewind reads the control file, which names the new timeline after a checkpoint."""
        assert fired(view(stopped(), cluster=cluster(members=[leader]))) == "start_standby"

    def test_nobody_rejoins_on_what_etcd_said_long_ago(self) -> None:
        assert fired(view(stopped(), store_answers=False)) == "start_standby"

    def test_a_standby_that_starts_towards_nobody_is_left_to_start(self) -> None:
        assert fired(view(starting(upstream=None))) == "wait_for_postgres"

    def test_a_standby_that_starts_towards_the_leader_is_left_to_start(self) -> None:
        assert fired(view(starting(upstream="pg2:5432"))) == "wait_for_postgres"

    def test_a_start_without_the_key_has_no_bound(self) -> None:
        seen = view(starting(), starting_since=NOW - 10_000)
        assert fired(seen) == "wait_for_postgres"

    def test_the_bound_of_a_start_is_the_clusters(self) -> None:
        """R20."""
        hasty = cluster(ME, config={"primary_start_timeout": 10})
        seen = view(starting(), cluster=hasty, starting_since=NOW - 11)
        assert fired(seen) == "start_takes_too_long"


class TestARunningStandby:
    def test_a_diverged_standby_waits_for_its_leader_to_settle(self) -> None:
        """R26."""
        young = member("pg2", role="primary", checkpoint_after_promote=False)
        seen = view(diverged=True, cluster=cluster(members=[young]))
        assert fired(seen) == "stream"

    def test_a_leader_without_an_address_cannot_be_followed(self) -> None:
        unknown = replace(cluster(), members={ME: member(ME)})
        assert fired(view(standby(upstream="pg3:5432"), cluster=unknown)) == "stream"

    def test_a_standby_that_follows_nobody_follows_the_leader(self) -> None:
        """R41."""
        assert fired(view(standby(upstream=None))) == "follow"

    def test_only_the_holder_of_the_key_is_promoted(self) -> None:
        """R4: the name in the key is not enough."""
        named = replace(cluster(ME), leader=LeaderKey(ME, THEIRS, 5))
        assert "promote" not in fired(view(standby(), cluster=named))


class TestElection:
    """R7 to R12."""

    @pytest.mark.parametrize(("behind", "rule"), [(1048576, "take_key"), (1048577, "cannot_lead")])
    def test_maximum_lag_on_failover_is_counted_from_what_the_leader_published(
        self, behind: int, rule: str
    ) -> None:
        """R8."""
        seen = unlocked(standby(received=0x3000), cluster=cluster(None, optime=0x3000 + behind))
        assert fired(seen) == rule

    def test_maximum_lag_on_failover_is_the_clusters(self) -> None:
        """R8."""
        strict = cluster(None, optime=0x3001, config={"maximum_lag_on_failover": 0})
        assert fired(unlocked(cluster=strict)) == "cannot_lead"

    @pytest.mark.parametrize(
        ("wanted", "timeline", "rule"),
        [
            (True, 2, "cannot_lead"),
            (True, None, "cannot_lead"),
            (True, 3, "take_key"),
            (False, 2, "take_key"),
        ],
    )
    def test_check_timeline_keeps_those_of_an_ended_timeline_out(
        self, wanted: bool, timeline: int | None, rule: str
    ) -> None:
        """R8."""
        history = ((1, 10, "no recovery target specified"), (2, 20, "no recovery target specified"))
        ended = cluster(None, history=history, config={"check_timeline": wanted})
        assert fired(unlocked(standby(timeline=timeline), cluster=ended)) == rule

    @pytest.mark.parametrize("held", [None, lease(0)], ids=["none", "over"])
    def test_nobody_runs_without_a_good_lease(self, held: Any) -> None:
        assert fired(unlocked(lease=held)) == "cannot_lead"

    @pytest.mark.parametrize("can_lead", [True, False])
    def test_a_live_primary_ends_the_race_whatever_its_limits(self, can_lead: bool) -> None:
        """R9, without its hole: a primary tagged nofailover is noticed as well."""
        alive = peer(role="primary", can_lead=can_lead, timeline=None, position=0)
        assert fired(unlocked(peers=peers(alive))) == "primary_still_alive"

    def test_a_longer_history_beats_more_wal(self) -> None:
        """R12: the timeline comes first."""
        newer = peer(timeline=2, position=0x10)
        assert fired(unlocked(peers=peers(newer))) == "peer_is_ahead"
        older = peer(timeline=1, position=0x9000)
        assert fired(unlocked(standby(timeline=2), peers=peers(older))) == "take_key"

    def test_nobody_waits_for_a_peer_that_cannot_lead(self) -> None:
        """R9: those with nofailover are not counted."""
        unfit = peer(position=0x9000, can_lead=False)
        assert fired(unlocked(peers=peers(unfit))) == "take_key"

    @pytest.mark.parametrize(
        ("answer", "rule"),
        [
            (peer("pg0"), "peer_is_preferred"),
            (peer("pg2"), "take_key"),
            (peer("pg2", priority=2), "peer_is_preferred"),
            (peer("pg0", priority=0), "take_key"),
            (peer("pg0", position=0x2FFF), "take_key"),
        ],
    )
    def test_equals_are_ordered_by_priority_then_by_name(self, answer: Any, rule: str) -> None:
        """R9."""
        assert fired(unlocked(peers=peers(answer))) == rule

    def test_the_preferred_one_of_two_equals_has_no_veto(self) -> None:
        seen = unlocked(peers=peers(peer("pg0")), unlocked_since=NOW - 1.99)
        assert fired(seen) == "peer_is_preferred"
        assert fired(replace(seen, unlocked_since=NOW - 2)) == "take_key"


def candidates(count: int) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """Yield every world of *count* members with (timeline, position, priority) each."""
    histories = ((1, 0x3000), (2, 0x2000), (2, 0x3000))
    kinds = [(*history, priority) for history in histories for priority in (1, 2)]
    return itertools.product(kinds, repeat=count)


def seen_by(
    index: int, world: tuple[tuple[int, int, int], ...], hears: set[int], waited: float
) -> View:
    """Return what member *index* of *world* sees when only the members *hears* answer."""
    timeline, position, priority = world[index]
    answers = [
        peer(f"pg{other}", timeline=world[other][0], position=world[other][1],
             priority=world[other][2])
        for other in hears - {index}
    ]  # fmt: skip
    return unlocked(
        standby(timeline=timeline, received=position, replayed=position),
        me=f"pg{index}",
        tags=Tags(failover_priority=priority),
        peers=peers(*answers),
        unlocked_since=NOW - waited,
    )


def takers(world: tuple[tuple[int, int, int], ...], waited: float) -> list[int]:
    """Return who takes the key when everybody hears everybody."""
    everybody = set(range(len(world)))
    return [
        index
        for index in everybody
        if TakeKey() in decide(seen_by(index, world, everybody, waited)).actions
    ]


class TestEveryElectionOfTwoAndThree:
    @pytest.mark.parametrize("count", [2, 3])
    def test_exactly_one_takes_the_key_at_once(self, count: int) -> None:
        wrong = [world for world in candidates(count) if len(takers(world, 0)) != 1]
        assert wrong == []

    @pytest.mark.parametrize("count", [2, 3])
    def test_after_the_grace_of_ties_only_the_best_histories_take_it(self, count: int) -> None:
        """Equals may all try: etcd creates the key once."""
        for world in candidates(count):
            best = max(history[:2] for history in world)
            won = takers(world, 2.0)
            assert won
            assert {world[index][:2] for index in won} == {best}

    def test_the_best_one_takes_it_whoever_it_hears(self) -> None:
        subsets = [set(chosen) for size in range(4) for chosen in
                   itertools.combinations(range(3), size)]  # fmt: skip
        for world in candidates(3):
            order = sorted(range(3), key=lambda each: (world[each], -each), reverse=True)
            for hears in subsets:
                decision = decide(seen_by(order[0], world, hears, 0))
                assert decision.actions == (TakeKey(),), (world, hears)


def many_views() -> Iterator[View]:
    """Yield some ten thousand views: every sort of instance with every sort of cluster."""
    instances = [
        Instance(), stopped(), stopped("in production"), stopped(system_id="666"), starting(),
        starting(upstream="pg3:5432"), starting(in_recovery=None), primary(), standby(), standby(upstream="pg3:5432"),
    ]  # fmt: skip
    clusters = [
        None, cluster(), cluster(ME), cluster(None), cluster(None, initialize=None),
        cluster(ME, config={"pause": True}), cluster(None, config={"pause": True}),
        replace(cluster(), members={}), replace(cluster(ME), leader=LeaderKey(ME, THEIRS, 5)),
    ]  # fmt: skip
    answers = [peers(), peers(AHEAD), peers(peer(role="primary")), peers(peer("pg0"))]
    leases = [None, lease(0), lease()]
    flags = itertools.product([True, False], repeat=2)
    extras: list[dict[str, Any]] = [
        {},
        {"operation": "rejoin"},
        {"stopping": True},
        {"diverged": True},
        {"start_failures": 1, "starting_since": NOW - 400},
    ]
    dimensions = (instances, clusters, answers, leases, list(flags), extras)
    for instance, known, answered, held, (is_there, nofailover), extra in itertools.product(
        *dimensions
    ):
        yield view(
            instance,
            cluster=known,
            peers=answered,
            lease=held,
            store_answers=is_there,
            tags=Tags(nofailover=nofailover),
            unlocked_since=NOW,
            **extra,
        )


VIEWS = [(seen, decide(seen)) for seen in many_views()]


class TestWhateverTheView:
    def test_a_primary_without_a_good_lease_is_demoted_unless_paused(self) -> None:
        """R1, R6."""
        wrong = [
            (seen, decision.rule.name)
            for seen, decision in VIEWS
            if seen.instance.may_write
            and not seen.has_lease
            and not seen.settings.pause
            and decision.actions != (Demote(),)
        ]
        assert wrong == []

    def test_a_primary_is_left_running_only_with_its_key_or_about_to_take_it(self) -> None:
        for seen, decision in VIEWS:
            if seen.instance.may_write and not seen.settings.pause and not seen.holds_key:
                stays = Demote() not in decision.actions and StopAndLeave() not in decision.actions
                is_free = seen.is_unlocked and seen.has_lease
                assert is_free or not stays, decision.rule.name

    @pytest.mark.parametrize("action", [Promote(), StartPrimary(), Lead(), ReleaseKey()])
    def test_only_the_holder_of_the_key_acts_as_a_leader(self, action: Action) -> None:
        """R4, R23."""
        asked = [seen for seen, decision in VIEWS if action in decision.actions]
        assert asked
        assert all(seen.holds_key for seen in asked)

    def test_the_key_is_taken_only_when_it_is_free_and_by_one_who_may_lead(self) -> None:
        """R8."""
        asked = [seen for seen, decision in VIEWS if TakeKey() in decision.actions]
        assert asked
        for seen in asked:
            assert seen.is_unlocked
            assert seen.has_lease
            assert seen.instance.process is Process.RUNNING
            assert not seen.tags.nofailover
            assert not any(peer.is_primary for peer in seen.peers.values())

    def test_foreign_data_is_never_touched(self) -> None:
        touching = (Rejoin, StartStandby, StartPrimary, Clone, Bootstrap, Promote, Follow)
        for seen, decision in VIEWS:
            if seen.instance.system_id == "666" and seen.store_answers and seen.cluster:
                if seen.cluster.initialize:
                    assert not any(isinstance(each, touching) for each in decision.actions)

    def test_the_same_view_gives_the_same_decision_and_stays_as_it_was(self) -> None:
        for seen, decision in VIEWS[::7]:
            before = deepcopy(seen)
            assert decide(seen) == decision
            assert seen == before

    def test_only_differences_of_time_matter(self) -> None:
        """No clock is read: a view moved in time as a whole gives the same decision."""
        for seen, decision in VIEWS[::7]:
            moved = replace(
                seen,
                now=seen.now + 1e6,
                lease=seen.lease and replace(seen.lease, valid_until=seen.lease.valid_until + 1e6),
                unlocked_since=seen.unlocked_since and seen.unlocked_since + 1e6,
                starting_since=seen.starting_since and seen.starting_since + 1e6,
            )
            assert decide(moved) == decision


def decision_sources() -> list[Path]:
    """Return the files that make up the decision."""
    folder = Path(pgherd.decide.__file__).parent
    return [folder / name for name in ("decide.py", "actions.py", "model.py")] + sorted(
        (folder / "rules").glob("*.py")
    )


@pytest.mark.parametrize("path", decision_sources(), ids=lambda path: path.name)
def test_the_decision_imports_no_clock_no_effect_no_log_and_no_dice(path: Path) -> None:
    allowed = {"__future__", "collections.abc", "dataclasses", "enum", "typing", "urllib.parse"}
    pure = {"pgherd.actions", "pgherd.model", "pgherd.rules", "pgherd.rules.rule"}
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
