# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard process: it kills PostgreSQL when the lease's deadline passes, whatever the agent does.

It knows only the agent's last orders, and trusts nothing that could be frozen with the agent. It
imports little: it has to be there when memory is short.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from pgherd.clock import boot_id, boottime
from pgherd.guard_instance import DoomedInstance
from pgherd.guard_orders import DATAGRAM_BYTES, Answer, Orders, orders_path, socket_path
from pgherd.notify import PINGS, Notifier
from pgherd.watchdog import Watchdog, say

if TYPE_CHECKING:
    from collections.abc import Callable

# poll(2) does not count the time that the host was suspended; so while armed look this often.
ARMED_SECONDS: Final = 0.1
# Between two looks at processes that were killed.
KILLED_SECONDS: Final = 0.02
# How often it is said that they are still there.
STUBBORN_SECONDS: Final = 5.0


class GuardProcess:
    """The guard of one instance; one thread, nothing that blocks.

    :param clock: seconds on CLOCK_BOOTTIME.
    """

    def __init__(
        self, runtime_dir: Path, scope: str, clock: Callable[[], float], watchdog: Watchdog
    ) -> None:
        self._clock = clock
        self._watchdog = watchdog
        self._notifier = Notifier()
        self._next_ping = 0.0
        self._orders_path = orders_path(runtime_dir, scope)
        self._boot_id = boot_id()
        self._orders: Orders | None = None
        self._killing_since: float | None = None
        self._complained_at = 0.0
        self._connections: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._listener = _listen(socket_path(runtime_dir, scope))
        self._poll.register(self._listener, select.POLLIN)
        # Signal handlers write here; without it a signal would wait for the next event.
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._poll.register(self._woken, select.POLLIN)
        self.ending = False

    def run(self) -> None:
        """Guard until told to end."""
        signal.set_wakeup_fd(self._waker.fileno())
        self._take_from_file()
        self._notifier.ready(self._status())
        while not self.ending:
            self.step()
        self.close()

    def close(self) -> None:
        """Let go of the watchdog device and the sockets."""
        self._watchdog.close()
        for each in (self._listener, self._woken, self._waker, *self._connections.values()):
            each.close()

    def end(self, number: int = 0, frame: object = None) -> None:
        """End in order: the orders stay for the next guard, the watchdog device is stopped."""
        self.ending = True

    def step(self) -> None:
        """Wait for what happens next and see to it."""
        # What was told while we did not run counts before what we would do about the time passed.
        for fd, _ in self._poll.poll(self._pause() * 1000):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._connections:
                self._receive(fd)
            else:
                self._woken.recv(DATAGRAM_BYTES)
        self._sign_of_life()
        self._look()

    def _pause(self) -> float:
        due = self._next_ping - self._clock()
        pauses = [3600.0 if self._notifier.limit is None else max(0.0, due)]
        if self._killing_since is not None:
            pauses.append(KILLED_SECONDS)
        elif self._orders is not None and self._orders.deadline is not None:
            pauses.append(min(ARMED_SECONDS, max(0.0, self._orders.deadline - self._clock())))
        elif self._watchdog.must_be_fed:
            pauses.append(ARMED_SECONDS)
        return min(pauses)

    def _sign_of_life(self) -> None:
        limit = self._notifier.limit
        if limit is not None and self._clock() >= self._next_ping:
            self._next_ping = self._clock() + limit / PINGS
            self._notifier.ping()

    # Orders

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            _, uid, _ = struct.unpack("3i", credentials)
            if uid != os.getuid():
                say("WARNING", f"a process of user {uid} wanted to give orders: refused")
                connection.close()
                return
            connection.setblocking(False)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN)

    def _receive(self, fd: int) -> None:
        """Read all that one agent has said; the newest counts."""
        connection = self._connections[fd]
        try:
            while True:
                content = connection.recv(DATAGRAM_BYTES)
                if not content:
                    break
                self._obey(Orders.decode(content))
                connection.send(self._answer().encode())
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            say("WARNING", f"orders that were not understood: {error}")
        self._poll.unregister(fd)
        del self._connections[fd]
        connection.close()

    def _take_from_file(self) -> None:
        orders = Orders.read(self._orders_path)
        if orders is not None and orders.boot_id == self._boot_id:
            self._obey(orders)

    def _obey(self, orders: Orders) -> None:
        before = self._orders
        # The file and a connection may each hold what the other has overtaken.
        if before is not None and orders.told_at < before.told_at:
            return
        self._orders = orders
        mode, device = orders.watchdog_mode, orders.watchdog_device
        if orders.deadline is None:
            self._killing_since = None
            self._watchdog.release()
        else:
            self._watchdog.activate(mode, device, orders.watchdog_timeout)
            self._watchdog.feed(orders.lease_end)
        was_armed = before is not None and before.deadline is not None
        if before is None or was_armed != (orders.deadline is not None):
            say("INFO", self._status())
            self._notifier.status(self._status())

    def _answer(self) -> Answer:
        assert self._orders is not None
        mode, device = self._orders.watchdog_mode, self._orders.watchdog_device
        return Answer(self._orders.told_at, self._watchdog.state(mode, device))

    def _status(self) -> str:
        if self._orders is None:
            return "no orders yet"
        if self._orders.deadline is None:
            return "PostgreSQL is no primary, there is nothing to guard"
        return "PostgreSQL may be a primary: it is killed when the lease runs out"

    # The deadline

    def _look(self) -> None:
        if self._is_due():
            # It may have been put off while the connection was broken.
            self._take_from_file()
        if self._is_due():
            self._enforce()
        else:
            self._killing_since = None
            self._watchdog.feed(self._orders.lease_end if self._orders is not None else 0.0)

    def _is_due(self) -> bool:
        deadline = self._orders.deadline if self._orders is not None else None
        return deadline is not None and self._clock() >= deadline

    def _enforce(self) -> None:
        """Kill what is there, until nothing is there; then the watchdog need not reset the host."""
        assert self._orders is not None
        doomed = DoomedInstance(self._orders.data_dir, self._orders.cage)
        left = doomed.processes()
        now = self._clock()
        if not left:
            if self._killing_since is not None:
                took = now - self._killing_since
                say("WARNING", f"PostgreSQL is dead: no process of it is left after {took:.2f} s")
            self._stand_down()
            return
        if self._killing_since is None:
            self._killing_since = self._complained_at = now
            say(
                "CRITICAL",
                f"the lease has run out and the agent has not renewed it: killing all "
                f"{len(left)} processes of PostgreSQL on {self._orders.data_dir}, "
                "for another host may become the primary now",
            )
        elif now - self._complained_at >= STUBBORN_SECONDS:
            self._complained_at = now
            say(
                "CRITICAL",
                f"processes {sorted(left)} of PostgreSQL are killed but not gone after "
                f"{now - self._killing_since:.0f} s; does a disk not answer?",
            )
        doomed.kill()

    def _stand_down(self) -> None:
        """Nothing is left to guard until the next orders."""
        assert self._orders is not None
        self._killing_since = None
        self._watchdog.release()
        self._orders = None
        self._notifier.status("the lease has run out, nothing of PostgreSQL is running")


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(8)
    return listener


def _place(path: Path) -> tuple[Path, str]:
    """Return the runtime directory and the scope that the configuration *path* names.

    Nothing else is read of it: a mistake elsewhere must not leave a primary without its guard.

    :raises OSError: a file cannot be read.
    :raises ValueError: a file is no YAML mapping, or there is no scope.
    """
    known: dict[str, object] = {}
    for file in [path, *sorted(path.parent.glob("conf.d/*.yml"))]:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{file}: not YAML: {error}".replace("\n", " ")) from error
        if isinstance(content, dict):
            known.update(content)
    if not isinstance(known.get("scope"), str):
        raise ValueError(f"{path}: scope: is missing")
    return Path(str(known.get("runtime_dir", "/run/pgherd"))), str(known["scope"])


def main(path: Path) -> int:
    """Run the guard with the configuration file *path*; return the exit code."""
    try:
        runtime_dir, scope = _place(path)
        guard = GuardProcess(runtime_dir, scope, boottime, Watchdog(boottime))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"pgherd: the guard cannot start: {error}\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, guard.end)
    guard.run()
    return 0
