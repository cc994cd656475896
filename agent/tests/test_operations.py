# SPDX-License-Identifier: GPL-3.0-or-later
"""Long operations: one at a time, tried again later and later, abandoned on request."""

from __future__ import annotations

import asyncio

import pytest

from agent.tests.builders import NOW
from agent.tests.fakes import Clock
from pgherd.errors import CommandError, PgherdError
from pgherd.operations import FIRST_PAUSE, LAST_PAUSE, Operations


class Bench:
    """Operations under a clock that stands still, and works to give them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ended = asyncio.Event()
        self.operations = Operations(self.clock, self.ended.set)
        self.may_end = asyncio.Event()
        self.done: list[str] = []

    async def wait(self, name: str) -> None:
        """Work until allowed to end."""
        await self.may_end.wait()
        self.done.append(name)

    async def fail(self, error: Exception) -> None:
        """Work that fails."""
        self.done.append("tried")
        raise error

    async def end(self) -> None:
        """Wait until an operation has ended."""
        async with asyncio.timeout(20):
            await self.ended.wait()
        self.ended.clear()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_operation_is_named_while_it_runs(bench: Bench) -> None:
    states = [bench.operations.current]
    bench.operations.begin("clone", bench.wait("first"))
    states.append(bench.operations.current)
    bench.may_end.set()
    await bench.end()
    assert [*states, bench.operations.current] == [None, "clone", None]
    assert bench.done == ["first"]


async def test_a_second_one_is_not_begun_beside_it(bench: Bench) -> None:
    bench.operations.begin("clone", bench.wait("first"))
    bench.operations.begin("rejoin", bench.wait("second"))
    assert bench.operations.current == "clone"
    bench.may_end.set()
    await bench.end()
    assert bench.done == ["first"]


@pytest.mark.parametrize("error", [CommandError("initdb", 1, "no"), OSError(28, "No space left")])
async def test_after_a_failure_the_next_try_has_to_wait_longer_and_longer(
    bench: Bench, error: Exception
) -> None:
    for pause in [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE, 8, LAST_PAUSE]:
        bench.operations.begin("clone", bench.fail(error))
        await bench.end()
        bench.clock.now += pause * 0.99
        bench.operations.begin("clone", bench.fail(error))
        assert bench.operations.current is None
        bench.clock.now += pause * 0.01 + 1e-6
    assert bench.done == ["tried"] * 6


async def test_another_operation_need_not_wait(bench: Bench) -> None:
    bench.operations.begin("clone", bench.fail(PgherdError("no")))
    await bench.end()
    bench.operations.begin("start standby", bench.wait("x"))
    assert bench.operations.current == "start standby"
    await bench.operations.cancel()


async def test_success_makes_the_pause_short_again(bench: Bench) -> None:
    for _ in range(3):
        bench.operations.begin("clone", bench.fail(PgherdError("no")))
        await bench.end()
        bench.clock.now += LAST_PAUSE
    bench.may_end.set()
    bench.operations.begin("clone", bench.wait("well"))
    await bench.end()
    bench.operations.begin("clone", bench.fail(PgherdError("no")))
    await bench.end()
    bench.clock.now += FIRST_PAUSE
    bench.operations.begin("clone", bench.wait("again"))
    assert bench.operations.current == "clone"
    await bench.operations.cancel()


async def test_a_cancelled_one_has_ended_when_cancel_returns(bench: Bench) -> None:
    bench.operations.begin("clone", bench.wait("first"))
    await asyncio.sleep(0)
    await bench.operations.cancel()
    assert bench.operations.current is None
    assert bench.ended.is_set()
    assert bench.done == []


async def test_a_cancelled_one_may_be_begun_again_at_once(bench: Bench) -> None:
    bench.operations.begin("clone", bench.wait("first"))
    await asyncio.sleep(0)
    await bench.operations.cancel()
    bench.may_end.set()
    bench.ended.clear()
    bench.operations.begin("clone", bench.wait("second"))
    await bench.end()
    assert bench.done == ["second"]


async def test_one_cancelled_before_it_ran_has_ended_too(bench: Bench) -> None:
    bench.operations.begin("clone", bench.wait("first"))
    await bench.operations.cancel()
    assert bench.operations.current is None
    assert bench.done == []


async def test_cancelling_nothing_is_fine(bench: Bench) -> None:
    await bench.operations.cancel()
    assert (bench.operations.current, bench.clock.now) == (None, NOW)
