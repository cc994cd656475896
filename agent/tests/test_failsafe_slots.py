# SPDX-License-Identifier: GPL-3.0-or-later
"""Failsafe mode: whoever waits for us lets go of WAL that nobody needs (R38)."""

from __future__ import annotations

from typing import Any

import pytest

from agent.tests.builders import ME, view
from agent.tests.test_failsafe import TTL, World, led


@pytest.fixture
def world() -> World:
    return World()


async def test_a_leader_tells_where_the_users_of_its_slots_are(world: World) -> None:
    world.failsafe.attend(led(ME), {}, {"pg2": 0x2000})
    await world.failsafe.ask(led(ME))
    assert world.peers.requests[-1][1]["slots"] == {"pg2": 0x2000}
    await world.failsafe.ask(led(ME), standing=True)
    assert "slots" not in world.peers.requests[-1][1]


async def test_more_of_them_than_a_request_may_hold_are_left_out(world: World) -> None:
    world.failsafe.attend(led(ME), {}, {f"{number:063}": number for number in range(200)})
    await world.failsafe.ask(led(ME))
    assert "slots" not in world.peers.requests[-1][1]


async def test_and_learns_where_the_members_are(world: World) -> None:
    world.peers.promises, world.peers.position = {"pg2"}, 0x1800
    await world.failsafe.ask(led(ME))
    assert world.failsafe.told(world.clock.now) == {"pg2": 0x1800}
    assert world.failsafe.told(world.failsafe.until) == {}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"pg3": 0x2000, "feed": "8192"}, {"pg3": 0x2000, "feed": 0x2000}),
        ({"pg3": "far", "feed": None, "x": float("inf")}, {}),
        (["pg3"], {}),
        (None, {}),
    ],
)
def test_a_member_takes_in_what_it_is_told_with_a_request(
    world: World, sent: Any, told: dict[str, int]
) -> None:
    seen = view(cluster=led(), now=world.clock.now)
    assert world.failsafe.promise(seen, "pg2", "", sent)[0] == 200
    assert world.failsafe.told(world.clock.now) == told
    assert world.failsafe.told(world.clock.now + TTL) == {}


def test_not_with_one_that_is_refused(world: World) -> None:
    seen = view(cluster=led("pg3"), now=world.clock.now)
    assert world.failsafe.promise(seen, "pg2", "", {"pg3": 5})[0] == 409
    assert world.failsafe.told(world.clock.now) == {}
