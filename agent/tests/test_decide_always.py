# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every decision, tried on some ten thousand views.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    THEIRS,
    cluster,
    lease,
    peer,
    peers,
    primary,
    standby,
    starting,
    stopped,
    view,
)
from pgherd.actions import (
    Action,
    Bootstrap,
    Clone,
    Demote,
    Follow,
    Lead,
    Promote,
    Rejoin,
    ReleaseKey,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    TakeKey,
)
from pgherd.decide import decide
from pgherd.model import Instance, LeaderKey, Process, View
from pgherd.settings import Tags

if TYPE_CHECKING:
    from collections.abc import Iterator

AHEAD = peer(position=0x4000)


def many_views() -> Iterator[View]:
    """Yield some ten thousand views: every sort of instance with every sort of cluster."""
    instances = [
        Instance(), stopped(), stopped("in production"), stopped(system_id="666"), starting(),
        starting(upstream="pg3:5432"), starting(in_recovery=None), primary(), standby(),
        standby(upstream="pg3:5432"),
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
            is_foreign = seen.instance.system_id == "666" and seen.store_answers
            if is_foreign and seen.cluster and seen.cluster.initialize:
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
