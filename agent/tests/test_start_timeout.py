# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a primary may start and stop: `primary_start_timeout`, `primary_stop_timeout`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import ME, NOW, cluster, member, starting, stopped, view
from pgherd.decide import decide
from pgherd.settings import Settings

if TYPE_CHECKING:
    from agent.tests.stage import Stage
    from pgherd.model import Member

AT_ONCE = {"primary_start_timeout": 0}
NOBODY = [member("pg2", state="stopped"), member("pg3", tags={"nofailover": True})]


def crashed(config: Any, *members: Member, **changes: Any) -> str:
    """Return what a crashed leader of an asynchronous cluster does."""
    known = cluster(ME, config=config, members=members, **changes)
    return decide(view(stopped("in production"), cluster=known)).rule.name


def test_with_a_limit_of_nothing_the_lead_is_handed_over_at_once() -> None:
    """R20."""
    assert crashed(AT_ONCE) == "hand_over_crashed"
    assert crashed({}) == "restart_crashed_primary"


def test_if_nobody_could_take_over_it_is_started_all_the_same() -> None:
    assert crashed(AT_ONCE, *NOBODY) == "restart_crashed_primary"
    assert crashed(AT_ONCE, optime=1 << 30) == "restart_crashed_primary"


@pytest.mark.parametrize(
    ("members", "rule"), [([], "start_takes_too_long"), (NOBODY, "wait_for_postgres")]
)
def test_a_long_start_is_given_up_only_for_somebody(members: Any, rule: str) -> None:
    seen = view(starting(), cluster=cluster(ME, members=members), starting_since=NOW - 301)
    assert decide(seen).rule.name == rule
    alone = replace(seen, cluster=cluster(ME, config=AT_ONCE, members=members))
    assert decide(alone).rule.name == rule


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        ({}, 30),
        ({"primary_stop_timeout": 7}, 30),
        ({"primary_stop_timeout": 7, "synchronous_mode": "quorum"}, 7),
        ({"synchronous_mode": "quorum"}, 30),
    ],
)
def test_a_stop_is_bounded_by_the_operator_with_synchronous_replication(
    raw: dict[str, Any], limit: float
) -> None:
    """R17."""
    assert Settings.parse(raw).stop_seconds(30) == limit


async def test_a_leader_that_ends_writes_a_checkpoint_and_stops_before_the_key_goes(
    stage: Stage,
) -> None:
    """R18."""
    await stage.led_by_us()
    await stage.round()
    stage.loop.stopping = True
    assert await stage.round() == "stop"
    await stage.rig.settle()
    calls = [call[0] for call in stage.calls if call[0] != "ensure_slots"]
    assert calls == ["checkpoint", "shut_down", "stop"]
    assert stage.key("leader") is None
    assert stage.loop.finished.is_set()
