# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that PostgreSQL does not answer any more, over a real one and over bare sockets."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.tests.fakes import Clock
from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.clock import boottime
from pgherd.hang import HangProbe, Silence, pause
from pgherd.health import Health
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIMIT = 2.0


@asynccontextmanager
async def probing(conninfo: str) -> AsyncIterator[HangProbe]:
    """Let a probe run for a while."""
    probe = HangProbe(conninfo, LIMIT, boottime)
    task = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.wait({task})


async def falls_silent(probe: HangProbe) -> None:
    """Wait until the probe says that PostgreSQL hangs."""

    async def hangs() -> bool:
        return probe.silent_for(boottime()) >= LIMIT

    await until(hangs, every=0.05, within=WITHIN)


async def is_asked_again(probe: HangProbe) -> None:
    """Wait until the next question is due."""

    async def is_due() -> bool:
        return probe.silent_for(boottime()) >= pause(LIMIT) / 2

    await until(is_due, every=0.01, within=WITHIN)


async def answers_again(probe: HangProbe) -> None:
    """Wait until the probe has got an answer."""

    async def answers() -> bool:
        return probe.silent_for(boottime()) < pause(LIMIT) / 2

    await until(answers, every=0.01, within=WITHIN)


class TestSilence:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    def test_it_grows_until_an_answer_ends_it(self, clock: Clock) -> None:
        silence = Silence(clock, 1)
        for _ in range(5):
            clock.now += 1
            silence.tick()
        assert silence.seconds(clock.now) == 5
        assert silence.seconds(clock.now + 1) == 6
        silence.end()
        assert silence.seconds(clock.now) == 0

    def test_time_in_which_nobody_looked_counts_as_two_ticks(self, clock: Clock) -> None:
        silence = Silence(clock, 1)
        clock.now += 60
        assert silence.seconds(clock.now) == 2
        silence.tick()
        assert silence.seconds(clock.now) == 2
        clock.now += 1
        silence.tick()
        assert silence.seconds(clock.now) == 3

    def test_a_question_about_the_past_is_harmless(self, clock: Clock) -> None:
        assert Silence(clock, 1).seconds(clock.now - 1) == 0


@pytest.mark.parametrize(("limit", "often"), [(1, 0.5), (2, 0.5), (10, 2.5), (60, 5)])
def test_a_probe_looks_four_times_within_its_limit_and_not_too_often(
    limit: float, often: float
) -> None:
    assert pause(limit) == often


async def test_a_postmaster_that_is_stopped_is_noticed_and_so_is_its_return() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1) as [node]:
        await node.create()
        address = f"host={node.config.postgres.socket_directory} port={node.config.postgres.port}"
        async with probing(f"{address} user=postgres dbname=postgres") as probe:
            await answers_again(probe)
            postmaster = node.postgres.postmaster()
            assert postmaster is not None
            # A session that is there already tells nothing of it.
            await node.postgres.query("SELECT 1")
            postmaster.send(signal.SIGSTOP)
            await falls_silent(probe)
            await node.postgres.query("SELECT 1")
            postmaster.send(signal.SIGCONT)
            await answers_again(probe)


async def test_a_refusal_is_an_answer() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1) as [node]:
        await node.create()
        address = f"host={node.config.postgres.socket_directory} port={node.config.postgres.port}"
        async with probing(f"{address} user=nobody dbname=postgres") as probe:
            await is_asked_again(probe)
            await answers_again(probe)


async def test_a_stop_that_waits_for_its_clients_is_noticed_and_only_that() -> None:
    """A smart shutdown waits for poolers for ever, and turns all others away meanwhile."""
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)
    async with nodes(1) as [node]:
        await node.create()
        address = f"host={node.config.postgres.socket_directory} port={node.config.postgres.port}"
        conninfo = f"{address} user=postgres dbname=postgres"
        health = Health(node.config, conninfo, boottime)
        looking = asyncio.create_task(health.run())
        try:
            await node.postgres.query("SELECT 1")
            assert not await health.is_told_to_stop()
            postmaster = node.postgres.postmaster()
            assert postmaster is not None
            postmaster.send(signal.SIGTERM)
            await until(health.is_told_to_stop, every=0.05, within=WITHIN)
            await node.postgres.stop(WITHIN)
            assert not await health.is_told_to_stop()
        finally:
            looking.cancel()
            await asyncio.wait({looking})


async def test_nobody_there_is_an_answer(tmp_path: Path) -> None:
    async with probing(f"host={tmp_path} user=postgres") as probe:
        await is_asked_again(probe)
        await answers_again(probe)


async def test_a_queue_that_nobody_empties_is_silence(tmp_path: Path) -> None:
    """A hung postmaster's clients fill it in time, and then the kernel refuses more."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / ".s.PGSQL.5432"))
        server.listen(0)
        client.connect(str(tmp_path / ".s.PGSQL.5432"))
        async with probing(f"host={tmp_path} user=postgres") as probe:
            await falls_silent(probe)
