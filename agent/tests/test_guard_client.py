# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of the guard process: orders, answers, and what is there when nobody answers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from agent.tests.builders import NOW, config
from agent.tests.fakes import Clock, RecordingGuard
from pgherd.guard import Guards, GuardState
from pgherd.guard_client import ANSWER_SECONDS, RemoteGuard
from pgherd.guard_orders import DATAGRAM_BYTES, Answer, Orders, orders_path, socket_path
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WITHIN = 30.0


class Rig:
    """The agent's end over a directory in which a guard process may or may not listen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.config = config(directory)
        self.guard = self.agent()
        self.guard.cage = Path("/cage")
        self.listener: socket.socket | None = None
        self.channel: socket.socket | None = None

    def agent(self) -> RemoteGuard:
        """Return the guard's client of an agent that has just started."""
        return RemoteGuard(self.config, self.clock)

    def written(self) -> Orders | None:
        return Orders.read(orders_path(self.directory, "demo"))

    async def listen(self) -> None:
        """Be the guard process, and wait until the agent has connected."""
        path = socket_path(self.directory, "demo")
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.setblocking(False)
        self.listener.bind(str(path))
        self.listener.listen(1)
        async with asyncio.timeout(WITHIN):
            self.channel, _ = await asyncio.get_running_loop().sock_accept(self.listener)

    async def hear(self) -> Orders:
        """Return the next orders that arrive."""
        assert self.channel is not None
        async with asyncio.timeout(WITHIN):
            events = asyncio.get_running_loop()
            return Orders.decode(await events.sock_recv(self.channel, DATAGRAM_BYTES))

    def answer(self, orders: Orders, watchdog: str = "off") -> None:
        assert self.channel is not None
        self.channel.send(Answer(orders.told_at, watchdog).encode())

    async def await_state(self, state: GuardState) -> None:
        async def is_there() -> bool:
            return self.guard.state == state

        await until(is_there, every=0.01, within=WITHIN)

    def die(self) -> None:
        for each in (self.channel, self.listener):
            if each is not None:
                each.close()
        self.channel = self.listener = None


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    known = Rig(tmp_path)
    running = asyncio.create_task(known.guard.run())
    await asyncio.sleep(0)
    yield known
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    known.die()


async def test_orders_are_in_the_file_when_they_have_been_given(rig: Rig) -> None:
    """So a guard that starts later, or after this agent has died, finds them."""
    rig.guard.arm(NOW + 4.75)
    orders = rig.written()
    assert orders is not None
    assert (orders.deadline, orders.told_at) == (NOW + 4.75, NOW)
    assert (orders.data_dir, orders.cage) == (str(rig.config.postgres.data_dir), "/cage")
    rig.guard.disarm()
    orders = rig.written()
    assert orders is not None
    assert orders.deadline is None


async def test_the_watchdog_is_told_when_the_lease_ends_and_how_long_it_may_take(rig: Rig) -> None:
    """A lease of 5 s, sent at NOW: the guard kills at 4.75 s, etcd lets others lead at 5 s."""
    rig.guard.arm(NOW + 4.75)
    orders = rig.written()
    assert orders is not None
    assert orders.lease_end == pytest.approx(NOW + 5)
    assert orders.watchdog_timeout == 4
    assert (orders.watchdog_mode, orders.watchdog_device) == ("automatic", "/dev/watchdog")


async def test_the_shortest_lease_leaves_the_watchdog_a_second(tmp_path: Path) -> None:
    timing = {"lease_ttl": 2, "keepalive_interval": 0.4, "etcd_timeout": 0.5}
    guard = RemoteGuard(config(tmp_path, pgherd=timing), Clock())
    guard.arm(NOW + 1.85)
    orders = Orders.read(orders_path(tmp_path, "demo"))
    assert orders is not None
    assert (orders.watchdog_timeout, orders.cage) == (1, "")
    assert orders.lease_end == pytest.approx(NOW + 2)


async def test_the_next_agent_knows_whether_a_primary_was_guarded(rig: Rig) -> None:
    known = [rig.agent().adopt()]
    rig.guard.arm(NOW + 1)
    successor = rig.agent()
    known.append(successor.adopt())
    assert successor.cage == Path("/cage")
    rig.guard.disarm()
    known.append(rig.agent().adopt())
    assert known == [False, True, False]


async def test_orders_of_another_boot_are_not_gone_on_with(rig: Rig) -> None:
    rig.guard.arm(NOW + 1)
    orders = rig.written()
    assert orders is not None
    orders._replace(boot_id="another").write(orders_path(rig.directory, "demo"))
    assert not rig.agent().adopt()


async def test_the_guard_gets_each_order_once(rig: Rig) -> None:
    """The loop arms in each round and with each renewal."""
    await rig.listen()
    rig.guard.arm(NOW + 1)
    rig.clock.now += 0.5
    rig.guard.arm(NOW + 1)
    rig.guard.arm(NOW + 2)
    assert [(await rig.hear()).deadline, (await rig.hear()).deadline] == [NOW + 1, NOW + 2]


async def test_a_guard_that_comes_back_is_told_at_once_what_holds_now(rig: Rig) -> None:
    rig.guard.arm(NOW + 1)
    await rig.listen()
    assert (await rig.hear()).deadline == NOW + 1
    rig.die()
    await rig.await_state(GuardState(connected=False))
    rig.guard.arm(NOW + 2)
    await rig.listen()
    assert (await rig.hear()).deadline == NOW + 2


async def test_what_the_guard_answers_is_known(rig: Rig) -> None:
    assert rig.guard.state == GuardState(connected=False, watchdog="off")
    await rig.listen()
    rig.guard.arm(NOW + 1)
    rig.answer(await rig.hear(), "active")
    await rig.await_state(GuardState(connected=True, watchdog="active"))
    assert rig.guard.state.has_watchdog


async def test_a_guard_that_does_not_answer_counts_as_absent(rig: Rig) -> None:
    await rig.listen()
    await rig.await_state(GuardState(connected=True))
    rig.guard.arm(NOW + 1)
    orders = await rig.hear()
    assert rig.guard.state == GuardState(connected=True)
    rig.clock.now += ANSWER_SECONDS + 0.1
    assert rig.guard.state == GuardState(connected=False)
    rig.answer(orders)
    await rig.await_state(GuardState(connected=True))


async def test_a_guard_that_reads_nothing_does_not_hold_the_agent_up(rig: Rig) -> None:
    """Its queue fills, the connection is given up, and the file has the newest orders."""
    await rig.listen()
    await rig.await_state(GuardState(connected=True))
    for number in range(5000):
        rig.guard.arm(NOW + number)
    await rig.await_state(GuardState(connected=False))
    orders = rig.written()
    assert orders is not None
    assert orders.deadline == NOW + 4999


async def test_an_answer_that_makes_no_sense_ends_the_connection(rig: Rig) -> None:
    await rig.listen()
    await rig.await_state(GuardState(connected=True))
    assert rig.channel is not None
    rig.channel.send(b"nonsense")
    await rig.await_state(GuardState(connected=False))


async def test_a_directory_that_is_full_does_not_stop_the_orders(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.listen()
    (rig.directory / "demo.guard.json.new").mkdir()
    rig.guard.arm(NOW + 1)
    assert (await rig.hear()).deadline == NOW + 1
    assert "could not be written down" in caplog.text


async def test_a_configuration_read_anew_counts_from_the_next_order_on(rig: Rig) -> None:
    rig.guard.arm(NOW + 1)
    rig.guard.reconfigure(config(rig.directory, watchdog={"mode": False}))
    rig.guard.arm(NOW + 1)
    orders = rig.written()
    assert orders is not None
    assert orders.watchdog_mode == "off"


def test_both_guards_hear_the_same(tmp_path: Path) -> None:
    inside, outside = RecordingGuard(), RecordingGuard()
    guard = Guards(outside, inside)
    guard.arm(NOW)
    assert (inside.deadline, outside.deadline) == (NOW, NOW)
    guard.disarm()
    assert (inside.deadline, outside.deadline) == (None, None)
    assert guard.state == outside.state
