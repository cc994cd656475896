# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's own parts: virtual time, an agent's event loop, the network, etcd, PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.tests.sim.aio import AgentLoop
from agent.tests.sim.checks import Checks
from agent.tests.sim.etcd_service import EtcdService
from agent.tests.sim.net import Network
from agent.tests.sim.server import Server
from agent.tests.sim.wal import Data, Record
from agent.tests.sim.world import World
from pgherd.errors import LeaseLostError
from pgherd.etcd import Compare, Delete, Put


@pytest.fixture
def world() -> World:
    return World("a test")


@pytest.fixture
def net(world: World) -> Network:
    return Network(world)


def broken(world: World) -> str | None:
    """Return which invariant is broken."""
    return world.violation.invariant if world.violation is not None else None


def agent_loop(world: World) -> AgentLoop:
    """Return the event loop of a host whose clock is ahead and twice as fast."""
    return AgentLoop(world, "pg1", lambda: 100 + 2 * world.now, lambda at: (at - 100) / 2, "1")


def test_the_world_calls_in_the_order_of_time(world: World) -> None:
    seen: list[str] = []
    world.at(2, seen.append, "late")
    world.at(1, seen.append, "first")
    world.at(1, seen.append, "second")
    world.run(1.5)
    assert seen == ["first", "second"]
    assert world.now == 1.5


def test_an_agent_waits_by_its_own_clock_and_not_at_all_in_ours(world: World) -> None:
    loop, seen = agent_loop(world), []

    async def work() -> None:
        await asyncio.sleep(60)
        seen.append((round(world.now, 3), round(loop.time(), 3)))
        try:
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append((round(world.now, 3), round(loop.time(), 3)))

    loop.call_soon(lambda: loop.create_task(work()))
    world.run(100)
    assert seen == [(30.0, 160.0), (35.0, 170.0)]


def test_a_frozen_agent_goes_on_later_with_what_came_due(world: World) -> None:
    loop, seen = agent_loop(world), []

    async def work() -> None:
        while True:
            await asyncio.sleep(2)
            seen.append(int(world.now + 0.1))

    loop.call_soon(lambda: loop.create_task(work()))
    world.at(2.5, loop.freeze)
    world.at(7.5, loop.thaw)
    world.run(9.2)
    loop.kill()
    assert seen == [1, 2, 7, 8]


def test_an_agent_that_never_waits_is_found_out(world: World) -> None:
    loop = agent_loop(world)

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    world.run(1)
    assert broken(world) == "agent_never_waits"


def test_a_cut_is_one_way_and_some_of_what_was_sent_into_it_comes_late(
    world: World, net: Network
) -> None:
    seen: list[tuple[str, int]] = []
    way = ("pg1", "pg2", "api")
    net.cut([way])
    for number in range(50):
        net.send("pg1", "pg2", "api", lambda n: seen.append(("there", n)), number)
        net.send("pg2", "pg1", "api", lambda n: seen.append(("back", n)), number)
    world.run(1)
    assert [who for who, _ in seen] == ["back"] * 50
    net.heal([way])
    world.run(2)
    assert 0 < sum(who == "there" for who, _ in seen) < 50


class Etcd:
    """A service of three members and what it answered."""

    def __init__(self, world: World, net: Network) -> None:
        self.world = world
        self.writers: list[str] = []
        self.service = EtcdService(world, net, ["pg1", "pg2", "pg3"], 1.0, self._written)
        world.run(5)

    def _written(self, writer: str, before: Any, operations: Any) -> None:
        self.writers.append(writer)

    def ask(self, path: str, body: Any) -> Any:
        """Return what pg1 is answered through its own member within a second."""
        answers: list[Any] = []
        self.service.request("pg1", "pg1", path, body, lambda *answer: answers.append(answer))
        self.world.run(self.world.now + 1)
        return answers[0] if answers else None


def test_etcd_drops_what_hangs_on_a_lease_that_runs_out(world: World, net: Network) -> None:
    etcd = Etcd(world, net)
    lease, _ = etcd.ask("grant", 3)
    assert etcd.ask("txn", ([Compare("key", "create_revision", 0)], [Put("key", "a", lease)])) == (
        True,
        None,
    )
    assert etcd.ask("txn", ([Compare("key", "create_revision", 0)], [Delete("key")])) == (
        False,
        None,
    )
    world.run(world.now + 5)
    assert etcd.ask("range", "k")[0][1] == []
    assert isinstance(etcd.ask("keepalive", lease)[1], LeaseLostError)
    assert etcd.writers == ["pg1", "etcd"]


def test_etcd_without_a_majority_does_nothing_and_lets_no_lease_run_out(
    world: World, net: Network
) -> None:
    etcd = Etcd(world, net)
    lease, _ = etcd.ask("grant", 3)
    etcd.service.hang("pg2", True)
    etcd.service.hang("pg3", True)
    world.run(world.now + 30)
    answer = etcd.ask("keepalive", lease)
    assert answer is None or answer[1] is not None
    etcd.service.hang("pg2", False)
    world.run(world.now + 2.5)
    assert etcd.ask("keepalive", lease) == (3, None)


class Pair:
    """A primary and its standby."""

    def __init__(self, world: World, net: Network, names: str) -> None:
        self.world = world
        self.checks = Checks(world, is_sync=True)
        self.primary = Server(world, net, "pg1", self.checks)
        self.standby = Server(world, net, "pg2", self.checks)
        servers = {"pg1": self.primary, "pg2": self.standby}
        self.primary.peers = self.standby.peers = self.checks.servers = servers
        first = Record(1, 0, "pg1")
        self.primary.data = Data(wal=[first], flushed=1, state="shut down", names=names)
        self.standby.data = Data(wal=[first], flushed=1, is_standby=True, upstream="pg1")
        self.primary.start()
        self.standby.start()
        world.run(world.now + 3)

    def write(self, number: int) -> bool:
        """Write; tell whether it was acknowledged within a second."""
        self.primary.write(number)
        self.world.run(self.world.now + 1)
        return any(record.write == number for record in self.checks.writes)


def test_a_commit_waits_for_the_standby_that_is_named(world: World, net: Network) -> None:
    pair = Pair(world, net, 'ANY 1 ("pg2")')
    assert pair.write(1)
    net.cut([("pg2", "pg1", "wal")])
    assert not pair.write(2)
    net.heal([("pg2", "pg1", "wal")])
    world.run(world.now + 2)
    assert [record.write for record in pair.checks.writes] == [1, 2]


def test_a_commit_waits_for_nobody_who_is_not_named(world: World, net: Network) -> None:
    pair = Pair(world, net, 'ANY 1 ("pg3")')
    assert not pair.write(1)
    assert pair.primary.data is not None
    pair.primary.data.names = ""
    pair.primary.reload()
    world.run(world.now + 2)
    assert pair.write(2)


def test_what_was_not_flushed_is_lost_with_the_host(world: World, net: Network) -> None:
    pair = Pair(world, net, "")
    pair.primary.slow_disk = 10
    pair.primary.write(1)
    pair.primary.end("no power", power=True)
    assert pair.primary.data is not None
    assert [record.write for record in pair.primary.data.wal] == [0]


def test_a_primary_beside_another_one_breaks_an_invariant(world: World, net: Network) -> None:
    pair = Pair(world, net, "")
    pair.standby.promote()
    world.run(world.now + 1)
    assert broken(world) == "one_primary"


def test_a_standby_that_would_stream_onto_foreign_wal_breaks_an_invariant(
    world: World, net: Network
) -> None:
    pair = Pair(world, net, "")
    assert pair.write(1)
    pair.standby.end("stopped")
    assert pair.standby.data is not None
    pair.standby.data.wal[-1] = Record(1, pair.standby.data.flushed - 1, "pg2")
    pair.standby.start()
    world.run(world.now + 3)
    assert broken(world) == "no_silent_divergence"


def test_a_write_of_a_former_leader_breaks_an_invariant(world: World, net: Network) -> None:
    checks = Checks(world, is_sync=True)
    service = EtcdService(world, net, ["pg1", "pg2", "pg3"], 1.0, checks.written)
    world.run(3)
    base = "/service/demo/"
    service._do_txn("pg1", ([], [Put(base + "leader", "pg1"), Put(base + "sync", "{}")]))
    service._do_txn("pg1", ([], [Put(base + "status", "{}")]))
    assert broken(world) is None
    service._do_txn("pg2", ([], [Put(base + "status", "{}")]))
    assert broken(world) == "writes_are_fenced"
