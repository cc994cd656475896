# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a member whose PostgreSQL has data and does not run, or has just been started.

R-numbers are those of the checklist of Patroni's behaviours that the design refers to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    member,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.decide import decide

if TYPE_CHECKING:
    from pgherd.view import View

# What we wrote as leader: one of pg2 and pg3 must have a commit, so two of us must vote.
LED_BY_US = synchronous(ME, sync_key(ME, "pg2,pg3"))


def fired(seen: View) -> str:
    """Return the name of the rule that fires for *seen*."""
    return decide(seen).rule.name


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
        """R26: only after a checkpoint does the control file name the new timeline."""
        assert fired(view(stopped(), cluster=cluster(members=[leader]))) == "start_standby"

    def test_nobody_rejoins_on_what_etcd_said_long_ago(self) -> None:
        assert fired(view(stopped(), store_answers=False)) == "start_standby"

    @pytest.mark.parametrize(
        ("changes", "seconds"),
        [
            ({}, 5),
            ({"in_recovery": None}, 60),
            ({"upstream": "pg2:5432"}, 60),
        ],
        ids=["not yet", "perhaps a primary", "it follows the leader"],
    )
    def test_a_standby_that_starts_is_left_to_start(
        self, changes: dict[str, Any], seconds: float
    ) -> None:
        led = cluster(ME) if changes.get("in_recovery", True) is None else cluster()
        seen = view(starting(**changes), cluster=led, starting_since=NOW - seconds)
        assert fired(seen) == "wait_for_postgres"

    def test_a_leader_that_has_not_settled_is_no_help_to_one_left_waiting(self) -> None:
        young = cluster(members=[member("pg2", role="primary", checkpoint_after_promote=False)])
        seen = view(starting(upstream=None), cluster=young, starting_since=NOW - 60)
        assert fired(seen) == "wait_for_postgres"

    def test_who_still_leads_is_not_judged_by_what_etcd_said_long_ago(self) -> None:
        """The key may have been given up by a request whose answer was lost."""
        crashed = view(stopped("in production"), cluster=LED_BY_US, store_answers=False)
        assert decide(crashed).actions == ()
        waiting = view(standby(), cluster=cluster(ME), store_answers=False)
        assert decide(waiting).actions == ()

    def test_a_standby_that_starts_towards_the_leader_is_left_to_start(self) -> None:
        assert fired(view(starting(upstream="pg2:5432"))) == "wait_for_postgres"

    def test_a_start_without_the_key_has_no_bound(self) -> None:
        """R20 is about a leader; a standby may have much WAL to replay."""
        seen = view(starting(upstream="pg2:5432"), starting_since=NOW - 10_000)
        assert fired(seen) == "wait_for_postgres"

    def test_the_bound_of_a_start_is_the_clusters(self) -> None:
        """R20."""
        hasty = cluster(ME, config={"primary_start_timeout": 10})
        seen = view(starting(), cluster=hasty, starting_since=NOW - 11)
        assert fired(seen) == "start_takes_too_long"
