# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member that wins an election writes, and what it is promoted with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.tests.builders import (
    ME,
    peer,
    peers,
    standby,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from agent.tests.test_election import electing, fired
from pgherd.actions import (
    Promote,
    TakeKey,
)
from pgherd.decide import decide
from pgherd.model import SyncKey
from pgherd.quorum import NOBODY_ACKNOWLEDGES, holds, parse_names
from pgherd.rules.successors import leading_names, succession

# A standby that has stopped receiving: what it has is its vote.
SILENT = standby(upstream=None, receiver_status=None)
FAILSAFE = {name: f"http://{name}:8008" for name in ("pg1", "pg2", "pg3")}


class TestTheWinner:
    @pytest.mark.parametrize(
        ("voters", "quorum", "after", "quorum_after"),
        [
            ("pg1,pg3", 1, "pg2,pg3", 1),
            ("pg1,pg3", 0, "pg2,pg3", 0),
            ("pg1", 0, "pg2", 0),
            ("pg3,pg4", 1, "pg2,pg3,pg4", 2),
            ("pg1,pg3,pg4", 2, "pg2,pg3,pg4", 2),
        ],
    )
    def test_it_writes_itself_into_sync_and_the_former_leader_votes_from_then_on(
        self, voters: str, quorum: int, after: str, quorum_after: int
    ) -> None:
        answers = [peer("pg2"), peer("pg3"), peer("pg4")]
        seen = electing(*answers, sync=sync_key("pg2", voters, quorum))
        expected = replace(sync_key(ME, after, quorum_after), revision=0, timeline=2)
        assert decide(seen).actions == (TakeKey(expected),)

    def test_the_former_leader_that_wins_itself_changes_nothing(self) -> None:
        seen = electing(peer("pg3"), sync=sync_key(ME, "pg2,pg3"))
        expected = replace(sync_key(ME, "pg2,pg3"), revision=0, timeline=2)
        assert decide(seen).actions == (TakeKey(expected),)

    @pytest.mark.parametrize(
        ("mode", "names"),
        [("quorum", 'ANY 1 ("pg2","pg3")'), ("on", '1 ("pg2","pg3")'), ("off", "")],
    )
    def test_it_is_promoted_with_names_that_fit(self, mode: str, names: str) -> None:
        led = synchronous(ME, sync_key(ME, "pg2,pg3", timeline=5), synchronous_mode=mode)
        seen = view(standby(), cluster=led)
        assert decide(seen).actions == (Promote(names, 5),)
        sync = led.sync
        assert sync is not None
        assert mode == "off" or holds(sync.electing, parse_names(names))

    @pytest.mark.parametrize(
        ("ours", "reserved", "theirs", "history", "number"),
        [
            (1, 1, 1, (), 2),
            (1, 2, 1, (), 3),
            (3, 2, 1, (), 4),
            (1, 0, 4, (), 5),
            (1, 0, 1, ((5, 1, "why"),), 7),
        ],
        ids=["first", "a leader that never led", "ours", "a peer's", "that of the history"],
    )
    def test_its_timeline_gets_a_number_that_none_has(
        self, ours: int, reserved: int, theirs: int, history: tuple[Any, ...], number: int
    ) -> None:
        """Else two of them could be taken for one, and a candidate for having what it lacks."""
        known = replace(synchronous(None, sync_key(timeline=reserved)), history=history)
        seen = unlocked(
            standby(timeline=ours), cluster=known, peers=peers(peer("pg3", timeline=theirs))
        )
        assert succession(seen).timeline == number
        alone = replace(known, sync=None, config={}, numbered=reserved)
        assert succession(replace(seen, cluster=alone)) == SyncKey("", timeline=number)

    @pytest.mark.parametrize(
        ("strict", "sync", "names"),
        [
            (False, None, ""),
            (True, None, NOBODY_ACKNOWLEDGES),
            (False, sync_key(ME, "", 0), ""),
            (True, sync_key(ME, "", 0), NOBODY_ACKNOWLEDGES),
            (False, sync_key(ME, "pg2", 1), ""),
            (True, sync_key(ME, "pg2", 0), 'ANY 1 ("pg2")'),
        ],
    )
    def test_with_nobody_to_wait_for_strict_mode_waits_for_somebody(
        self, strict: bool, sync: SyncKey | None, names: str
    ) -> None:
        led = synchronous(ME, sync, synchronous_mode_strict=strict)
        assert leading_names(view(standby(), cluster=led)) == names

    @pytest.mark.parametrize("sync", [None, sync_key("pg2", "pg1,pg3", 0)])
    def test_a_crashed_primary_hands_over_only_to_those_it_has_named_itself(
        self, sync: SyncKey | None
    ) -> None:
        seen = view(stopped("in production"), cluster=synchronous(ME, sync))
        assert fired(seen) == "restart_crashed_primary"

    def test_a_crashed_primary_starts_again_with_names_that_fit(self) -> None:
        """pg2 alone is not enough for a quorum of one, so nobody else could take over."""
        away = {"pg3": replace(synchronous().members["pg3"], data={"state": "stopped"})}
        led = synchronous(ME, sync_key(ME, "pg2,pg3"), members=away.values())
        decision = decide(view(stopped("in production"), cluster=led))
        assert decision.rule.name == "restart_crashed_primary"
        assert [getattr(each, "names", None) for each in decision.actions] == [
            'ANY 1 ("pg2","pg3")'
        ]
