# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard process as systemd runs it: real processes, a real socket, real deadlines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.tests.doomed import FakePostgres
from agent.tests.fake_watchdog import Hardware
from pgherd.clock import boot_id, boottime
from pgherd.guard_orders import DATAGRAM_BYTES, Answer, Orders, orders_path, socket_path
from pgherd.guard_process import GuardProcess
from pgherd.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(__file__).parents[1] / "src"
WITHIN = 30.0


class Guard:
    """A host with a guard process, an instance to guard, and what both have said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "pgherd.yml"
        self.config.write_text(f"scope: demo\nruntime_dir: {directory}\n")
        self.orders_path = orders_path(directory, "demo")
        self.socket_path = socket_path(directory, "demo")
        self.postgres = FakePostgres(directory)
        self.process: subprocess.Popen[str] | None = None
        self.said: list[str] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._notify.settimeout(WITHIN)
        self._channels: list[socket.socket] = []

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        environment["NOTIFY_SOCKET"] = str(self.directory / "notify")
        environment["WATCHDOG_USEC"] = "1000000"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgherd", "guard", "--config", str(self.config)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.hear("READY=1")

    def hear(self, word: str) -> None:
        """Wait until systemd has been told *word*."""
        while word not in self._notify.recv(1000).decode():
            pass

    def orders(self, seconds: float | None, **changes: object) -> Orders:
        """Return orders with a deadline so many seconds from now, None to disarm."""
        now = boottime()
        known = Orders(
            boot_id=boot_id(),
            told_at=now,
            deadline=None if seconds is None else now + seconds,
            lease_end=now + (seconds or 0.0) + 0.1,
            data_dir=str(self.postgres.data_dir),
            cage="",
            watchdog_mode="off",
            watchdog_device="/nonexistent",
            watchdog_timeout=1,
        )
        return known._replace(**changes)  # type: ignore[arg-type]

    def connect(self) -> socket.socket:
        """Return a connection such as an agent has."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.settimeout(WITHIN)
        channel.connect(str(self.socket_path))
        self._channels.append(channel)
        return channel

    def tell(self, channel: socket.socket, orders: Orders) -> Answer:
        """Give *orders* and return the answer."""
        channel.send(orders.encode())
        return Answer.decode(channel.recv(DATAGRAM_BYTES))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> str:
        """End the guard; return what it has written."""
        assert self.process is not None
        self.process.terminate()
        _, text = self.process.communicate(timeout=WITHIN)
        return text

    def clear(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            self.process.communicate()
        for channel in [*self._channels, self._notify]:
            channel.close()
        self.postgres.end()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    known = Guard(tmp_path)
    yield known
    known.clear()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    until = boottime() + WITHIN
    while not condition():
        assert boottime() < until
        threading.Event().wait(0.01)


def was_killed(process: subprocess.Popen[bytes]) -> bool:
    return process.wait(WITHIN) == -signal.SIGKILL


def test_it_kills_when_nobody_renews_the_lease(guard: Guard) -> None:
    """The agent is killed or frozen: nothing more comes from it."""
    guard.start()
    orders = guard.orders(0.2)
    assert guard.tell(guard.connect(), orders).told_at == orders.told_at
    assert was_killed(guard.postgres.start())
    assert orders.deadline is not None
    assert boottime() >= orders.deadline
    guard.hear("nothing of PostgreSQL is running")
    text = guard.end()
    assert "CRITICAL the lease has run out" in text
    assert "PostgreSQL is dead" in text


def test_it_kills_also_what_the_deadline_finds_frozen(guard: Guard) -> None:
    guard.start()
    process = guard.postgres.start()
    process.send_signal(signal.SIGSTOP)
    guard.tell(guard.connect(), guard.orders(0.0))
    assert was_killed(process)


def test_a_renewal_puts_the_deadline_off(guard: Guard) -> None:
    guard.start()
    process, channel = guard.postgres.start(), guard.connect()
    first = guard.orders(1.0)
    guard.tell(channel, first)
    guard.tell(channel, guard.orders(3600))
    wait_for(lambda: boottime() > (first.deadline or 0.0))
    for _ in range(3):
        guard.hear("WATCHDOG=1")
    assert process.poll() is None


def test_disarmed_it_kills_nobody(guard: Guard) -> None:
    guard.start()
    process, channel = guard.postgres.start(), guard.connect()
    first = guard.orders(1.0)
    guard.tell(channel, first)
    guard.tell(channel, guard.orders(None))
    wait_for(lambda: boottime() > (first.deadline or 0.0))
    for _ in range(3):
        guard.hear("WATCHDOG=1")
    assert process.poll() is None


def test_without_orders_it_kills_nobody(guard: Guard) -> None:
    guard.start()
    process = guard.postgres.start()
    guard.hear("WATCHDOG=1")
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restarted_guard_goes_on_with_the_deadline(guard: Guard, number: signal.Signals) -> None:
    guard.start()
    process = guard.postgres.start()
    orders = guard.orders(0.5)
    orders.write(guard.orders_path)
    guard.tell(guard.connect(), orders)
    guard.signal(number)
    assert guard.process is not None
    guard.process.communicate(timeout=WITHIN)
    guard.start()
    assert was_killed(process)


def test_orders_given_while_there_was_no_guard_are_found(guard: Guard) -> None:
    process = guard.postgres.start()
    guard.orders(0.0).write(guard.orders_path)
    guard.start()
    assert was_killed(process)


def test_a_deadline_that_was_put_off_in_the_file_alone_counts(guard: Guard) -> None:
    """The connection was broken, or not read, when the agent renewed its lease."""
    guard.start()
    process = guard.postgres.start()
    first = guard.orders(1.0)
    guard.tell(guard.connect(), first)
    guard.orders(3600).write(guard.orders_path)
    wait_for(lambda: boottime() > (first.deadline or 0.0))
    for _ in range(3):
        guard.hear("WATCHDOG=1")
    assert process.poll() is None


def test_a_guard_that_was_frozen_hears_the_agent_before_it_kills(guard: Guard) -> None:
    guard.start()
    process, channel = guard.postgres.start(), guard.connect()
    orders = guard.orders(1.5)
    guard.tell(channel, orders)
    guard.signal(signal.SIGSTOP)
    assert guard.process is not None
    os.waitid(os.P_PID, guard.process.pid, os.WSTOPPED | os.WNOWAIT)
    wait_for(lambda: boottime() > (orders.deadline or 0.0))
    channel.send(guard.orders(3600).encode())
    guard.signal(signal.SIGCONT)
    Answer.decode(channel.recv(DATAGRAM_BYTES))
    guard.hear("WATCHDOG=1")
    assert process.poll() is None


def test_orders_of_another_boot_mean_nothing(guard: Guard) -> None:
    process = guard.postgres.start()
    guard.orders(0.0, boot_id="another").write(guard.orders_path)
    guard.start()
    guard.hear("WATCHDOG=1")
    assert process.poll() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"deadline": 1}'])
def test_a_damaged_file_means_nothing(guard: Guard, content: str) -> None:
    guard.orders_path.write_text(content)
    guard.start()
    guard.hear("WATCHDOG=1")


def test_older_orders_do_not_undo_newer_ones(guard: Guard) -> None:
    """Two connections: that of the agent before may still hold what it said."""
    guard.start()
    process = guard.postgres.start()
    old, new = guard.connect(), guard.connect()
    stale = guard.orders(0.0)
    guard.tell(new, guard.orders(3600))
    guard.tell(old, stale)
    guard.hear("WATCHDOG=1")
    assert process.poll() is None


def test_what_is_no_order_ends_the_connection_and_nothing_else(guard: Guard) -> None:
    guard.start()
    channel = guard.connect()
    channel.send(b"nonsense")
    assert channel.recv(DATAGRAM_BYTES) == b""
    assert guard.tell(guard.connect(), guard.orders(None)).watchdog == "off"


def test_nobody_else_may_give_orders(guard: Guard) -> None:
    guard.start()
    assert guard.socket_path.stat().st_mode & 0o777 == 0o600


def test_it_kills_until_nothing_is_left(guard: Guard) -> None:
    cage = guard.directory / "cage"
    cage.mkdir()
    (cage / "cgroup.procs").write_text("11\n")
    guard.start()
    guard.tell(guard.connect(), guard.orders(0.0, cage=str(cage)))
    for _ in range(2):
        wait_for((cage / "cgroup.kill").exists)
        (cage / "cgroup.kill").unlink()
    (cage / "cgroup.procs").write_text("")
    guard.hear("nothing of PostgreSQL is running")


def test_a_process_of_another_user_gives_no_orders(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mode of the socket keeps them out already; this is for when somebody changes it."""
    here = GuardProcess(guard.directory, "demo", boottime, Watchdog(boottime))
    channel = guard.connect()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    here.step()
    assert channel.recv(DATAGRAM_BYTES) == b""
    assert "refused" in capsys.readouterr().err
    here.close()


class TestWatchdog:
    """Together with the device: whose turn it is when."""

    @pytest.fixture
    def hardware(self) -> Hardware:
        return Hardware()

    @pytest.fixture
    def here(self, guard: Guard, hardware: Hardware) -> Iterator[GuardProcess]:
        process = GuardProcess(guard.directory, "demo", boottime, Watchdog(boottime, hardware))
        yield process
        process.close()

    def obey(self, here: GuardProcess, guard: Guard, orders: Orders) -> None:
        guard.connect().send(orders.encode())
        here.step()
        here.step()

    def test_a_renewal_feeds_it(self, guard: Guard, here: GuardProcess, hardware: Hardware) -> None:
        self.obey(here, guard, guard.orders(3600, watchdog_mode="automatic"))
        assert hardware.calls[:3] == ["open /nonexistent", "timeout 1", "feed"]

    def test_disarmed_it_is_stopped(
        self, guard: Guard, here: GuardProcess, hardware: Hardware
    ) -> None:
        self.obey(here, guard, guard.orders(3600, watchdog_mode="automatic"))
        self.obey(here, guard, guard.orders(None, watchdog_mode="automatic"))
        assert hardware.calls[-2:] == ["stop", "close"]

    def test_it_is_stopped_when_postgresql_is_dead_and_not_before(
        self, guard: Guard, here: GuardProcess, hardware: Hardware
    ) -> None:
        """While a killed process is still there the reset is what everybody waits for."""
        cage = guard.directory / "cage"
        cage.mkdir()
        (cage / "cgroup.procs").write_text("11\n")
        orders = guard.orders(0.0, watchdog_mode="automatic", cage=str(cage))
        self.obey(here, guard, orders._replace(lease_end=boottime()))
        here.step()
        assert hardware.calls == ["open /nonexistent", "timeout 1"]
        (cage / "cgroup.procs").write_text("")
        here.step()
        assert hardware.calls[2:] == ["stop", "close"]


def test_a_mistake_elsewhere_in_the_configuration_does_not_stop_it(guard: Guard) -> None:
    guard.config.write_text(f"scope: demo\nruntime_dir: {guard.directory}\npostgresql: 7\n")
    guard.start()
    guard.hear("WATCHDOG=1")


def test_without_a_scope_it_says_what_is_missing(guard: Guard) -> None:
    guard.config.write_text("name: pg1\n")
    done = subprocess.run(
        [sys.executable, "-m", "pgherd", "guard", "--config", str(guard.config)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "scope: is missing" in done.stderr


def test_it_is_small(guard: Guard) -> None:
    """It has to be there when memory is short: none of the agent's libraries."""
    guard.start()
    assert guard.process is not None
    code = (
        "import sys; import pgherd.guard_process;"
        "print(*sorted({'asyncio','aiohttp','psycopg','rich','ssl','logging'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
