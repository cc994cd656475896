# SPDX-License-Identifier: GPL-3.0-or-later
"""The election: which standby takes a free key, in every small world.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    NOW,
    cluster,
    lease,
    peer,
    peers,
    standby,
    unlocked,
)
from pgherd.actions import (
    TakeKey,
)
from pgherd.decide import decide
from pgherd.settings import Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgherd.model import View


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


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
