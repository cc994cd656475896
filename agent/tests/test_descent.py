# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose WAL a member has: remembered while it streams, compared when it does not know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import pgherd.descent
from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    member,
    primary,
    standby,
    starting,
    stopped,
    view,
)
from agent.tests.stage import BASE, PG2
from pgherd.descent import STUCK_SECONDS, Descent
from pgherd.errors import NotAnsweringError
from pgherd.model import LeaderKey

if TYPE_CHECKING:
    from agent.tests.stage import Stage
    from pgherd.model import Cluster, Instance
    from pgherd.view import View

WITHIN = 1.0
# A standby of a cluster that has had elections, which has streamed from pg3 last.
STRANGER = standby(timeline=2, upstream="pg3:5432", receiver_status=None)


class Compared:
    """A member's descent; what a comparison of WAL would show, and how often one was made."""

    def __init__(self, patch: pytest.MonkeyPatch, stage: Stage) -> None:
        self.descent = Descent(stage.rig.postgres)
        self.verdict: bool | Exception = False
        self.count = 0
        patch.setattr(pgherd.descent, "is_diverged", self._compare)

    async def _compare(self, *_: Any) -> bool:
        self.count += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    async def judge(
        self, known: Cluster | None, instance: Instance = STRANGER, **changes: Any
    ) -> bool | None:
        return await self.descent.judge(view(instance, cluster=known, **changes), WITHIN)

    def note(self, instance: Instance, known: Cluster, **changes: Any) -> tuple[int, ...]:
        """Take in a view; return the terms known then."""
        self.descent.note(view(instance, cluster=known, **changes))
        return self.descent.terms


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Compared:
    return Compared(monkeypatch, stage)


def led(term: int = 5, *, had: tuple[int, ...] = (), leader: str = "pg2", **data: Any) -> Cluster:
    """Return a cluster that *leader* leads in *term*, having had the WAL of the terms *had*."""
    known = {"role": "primary", "timeline": 2, "pgherd": {"terms": list(had)}}
    settled = cluster(leader, members=[member(leader, **{**known, **data})])
    assert settled.leader is not None
    return replace(settled, leader=replace(settled.leader, create_revision=term))


class TestWhoseWalItIs:
    def test_that_of_the_leader_it_streams_from(self, compared: Compared) -> None:
        assert compared.note(standby(), led(5)) == (5,)
        assert compared.note(standby(), led(9)) == (9, 5)
        assert compared.note(standby(), led(9)) == (9, 5)

    def test_a_leader_has_its_own_and_that_of_the_one_before(self, compared: Compared) -> None:
        """By that one the others know it."""
        compared.note(standby(), led(5))
        assert compared.note(primary(), led(9, leader=ME)) == (9, 5)

    @pytest.mark.parametrize(
        ("instance", "known", "changes"),
        [
            (standby(receiver_status="waiting"), led(), {}),
            (standby(upstream="pg3:5432"), led(), {}),
            (standby(), led(), {"store_answers": False}),
            (standby(), cluster(None), {}),
            (primary(), led(), {}),
            (stopped(), led(leader=ME), {}),
            (standby(), led(leader=ME), {}),
        ],
        ids=[
            "not streaming", "from another", "etcd silent", "no leader", "an old primary",
            "stopped leader", "not promoted yet",
        ],
    )  # fmt: skip
    def test_nothing_else_shows_it(
        self, compared: Compared, instance: Instance, known: Cluster, changes: dict[str, Any]
    ) -> None:
        assert compared.note(instance, known, **changes) == ()


class TestAKnownLeader:
    async def test_while_it_is_streamed_from_there_is_no_question(self, compared: Compared) -> None:
        assert await compared.judge(led(), standby(timeline=2)) is False
        assert compared.count == 0

    async def test_who_has_the_wal_we_had_last_is_followed_at_once(
        self, compared: Compared
    ) -> None:
        """It has another timeline, or will have one when it is promoted: PostgreSQL can tell."""
        compared.note(standby(), led(5))
        assert await compared.judge(led(9, had=(5, 3), role="promoted")) is False
        young = led(9, had=(9, 5), timeline=3, checkpoint_after_promote=False)
        assert await compared.judge(young) is False
        assert compared.count == 0

    @pytest.mark.parametrize("verdict", [True, False])
    async def test_where_it_went_another_way_before_our_end_is_found_out(
        self, compared: Compared, *, verdict: bool
    ) -> None:
        compared.note(standby(), led(5))
        compared.verdict = verdict
        assert await compared.judge(led(9, had=(9, 5), timeline=3)) is verdict
        assert compared.count == 1

    async def test_on_the_first_timeline_everybody_has_the_same_wal(
        self, compared: Compared
    ) -> None:
        alone = replace(STRANGER, timeline=1)
        assert await compared.judge(led(timeline=1), alone) is False
        assert compared.count == 0


class TestAStranger:
    """Its timeline may have our number and another history."""

    async def test_its_wal_is_compared_before_it_is_followed(self, compared: Compared) -> None:
        compared.verdict = True
        assert await compared.judge(led()) is True

    async def test_a_good_one_is_compared_once(self, compared: Compared) -> None:
        for _ in range(3):
            assert await compared.judge(led()) is False
        assert compared.count == 1

    @pytest.mark.parametrize(
        ("known", "instance"),
        [(led(9), STRANGER), (led(), replace(STRANGER, timeline=3))],
        ids=["another term", "another timeline"],
    )
    async def test_a_new_case_is_judged_anew(
        self, compared: Compared, known: Cluster, instance: Instance
    ) -> None:
        await compared.judge(led())
        await compared.judge(known, instance)
        assert compared.count == 2

    @pytest.mark.parametrize("timeline", [2, 1, None])
    async def test_one_with_our_last_term_and_no_higher_timeline_is_a_stranger(
        self, compared: Compared, timeline: int | None
    ) -> None:
        """Both may have been promoted from the same WAL, to the same number."""
        compared.note(standby(), led(5))
        await compared.judge(led(9, had=(9, 5), timeline=timeline))
        assert compared.count == 1

    async def test_terms_long_past_do_not_make_it_known(self, compared: Compared) -> None:
        compared.note(standby(), led(3))
        compared.note(standby(), led(5))
        await compared.judge(led(9, had=(9, 3)))
        assert compared.count == 1

    @pytest.mark.parametrize(
        "data", [{"role": "replica"}, {"state": "starting"}, {"role": "promoted"}]
    )
    async def test_until_it_is_a_primary_nothing_is_known(
        self, compared: Compared, data: dict[str, Any]
    ) -> None:
        assert await compared.judge(led(**data)) is None
        assert compared.count == 0

    async def test_until_it_answers_nothing_is_known(self, compared: Compared) -> None:
        compared.verdict = NotAnsweringError("no answer")
        assert await compared.judge(led()) is None
        compared.verdict = False
        assert await compared.judge(led()) is False


@pytest.mark.parametrize(
    ("known", "instance"),
    [
        (None, STRANGER),
        (cluster(None), STRANGER),
        (led(leader=ME), STRANGER),
        (led(), primary()),
        (led(), starting()),
        (replace(led(), leader=LeaderKey("pg9", 99, 5)), STRANGER),
    ],
    ids=["nothing known", "no leader", "we lead", "a primary", "starting", "nameless leader"],
)
async def test_without_a_leader_to_follow_there_is_no_question(
    compared: Compared, known: Cluster | None, instance: Instance
) -> None:
    compared.verdict = True
    assert await compared.judge(known, instance) is False


class TestRounds:
    async def test_a_stranger_is_followed_after_the_comparison(
        self, stage: Stage, compared: Compared
    ) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = STRANGER
        compared.verdict = NotAnsweringError("no answer")
        assert await stage.round() == "compare_first"
        compared.verdict = False
        assert await stage.round() == "follow"

    async def test_one_with_other_wal_is_not(self, stage: Stage, compared: Compared) -> None:
        await stage.led_by_other()
        stage.rig.postgres.instance = STRANGER
        compared.verdict = True
        assert await stage.round() == "rejoin_diverged"
        await stage.loop.operations.cancel()

    async def test_the_terms_are_published(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.round()
        key = stage.rig.etcd.keys[f"{BASE}leader"]
        said = json.loads(stage.key("members/pg1") or "")["pgherd"]
        assert said["terms"] == [key.create_revision]
        assert "pgherd" not in PG2


class TestAStandbyThatIsStuck:
    """It keeps to a timeline that came to nothing; only when it starts it looks for the latest."""

    @staticmethod
    def seen(at: float, **changes: Any) -> View:
        known = led(9, timeline=4)
        standing = standby(timeline=3, receiver_status=None)
        return view(**{"instance": standing, "cluster": known, "now": NOW + at, **changes})

    def test_it_is_found_out_after_a_while_and_restarted_once_in_a_term(
        self, compared: Compared
    ) -> None:
        descent = compared.descent
        assert not descent.is_stuck(self.seen(0))
        assert not descent.is_stuck(self.seen(STUCK_SECONDS))
        assert descent.is_stuck(self.seen(STUCK_SECONDS + 1))
        descent.note_restart(self.seen(STUCK_SECONDS + 1))
        assert not descent.is_stuck(self.seen(5 * STUCK_SECONDS))

    @pytest.mark.parametrize(
        "changes",
        [
            {"instance": standby(timeline=4, receiver_status=None)},
            {"instance": standby(timeline=3)},
            {"cluster": led(9, timeline=4, checkpoint_after_promote=False)},
            {"cluster": led(10, timeline=4)},
        ],
        ids=["on its timeline", "streaming", "not settled", "another term"],
    )
    def test_what_breaks_the_wait(self, compared: Compared, changes: dict[str, Any]) -> None:
        compared.descent.is_stuck(self.seen(0))
        compared.descent.is_stuck(self.seen(STUCK_SECONDS, **changes))
        assert not compared.descent.is_stuck(self.seen(STUCK_SECONDS + 1))
