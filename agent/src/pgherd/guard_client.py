# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of the guard process: orders go out, answers come in, nothing blocks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgherd.clock import boot_id
from pgherd.guard import GuardState
from pgherd.guard_orders import DATAGRAM_BYTES, Answer, Orders, orders_path, socket_path

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.effects import Clock

log = logging.getLogger(__name__)

# How soon a lost connection is tried again: the guard is restarted after a tenth of a second.
RECONNECT_SECONDS: Final = 0.2
# A guard that has not answered for so long hangs: longer than systemd lets it (WatchdogSec).
ANSWER_SECONDS: Final = 2.0


@dataclass(frozen=True)
class _Settings:
    """What does not change from one order to the next."""

    margin: float
    data_dir: str
    mode: str
    device: str
    timeout: int


class RemoteGuard:
    """Gives the guard process its orders.

    `cage` is the cgroup of the instance, None where it has none.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self.cage: Path | None = None
        self._boot_id = boot_id()
        self._settings = self._read(config)
        self._socket_path = socket_path(config.runtime_dir, config.scope)
        self._orders_path = orders_path(config.runtime_dir, config.scope)
        self._orders: Orders | None = None
        self._unanswered_since: float | None = None
        self._channel: socket.socket | None = None
        self._broken = asyncio.Event()
        self._watchdog = "off"
        self._was_connected = True

    def _read(self, config: Config) -> _Settings:
        timing, watchdog = config.timing, config.watchdog
        return _Settings(
            margin=timing.margin,
            data_dir=str(config.postgres.data_dir),
            mode=watchdog.mode,
            device=str(watchdog.device),
            # The reset comes when the guard could not kill, and before etcd lets others lead.
            timeout=max(1, int(timing.lease_ttl - timing.margin)),
        )

    def reconfigure(self, config: Config) -> None:
        """Use a configuration read anew, from the next orders on."""
        self._settings = self._read(config)

    def adopt(self) -> bool:
        """Go on from the orders of the agent before us; tell whether they guard a primary."""
        orders = Orders.read(self._orders_path)
        if orders is None or orders.boot_id != self._boot_id:
            return False
        self._orders = orders
        self.cage = Path(orders.cage) if orders.cage else None
        return orders.deadline is not None

    def arm(self, deadline: float) -> None:
        """PostgreSQL may be a primary until *deadline* (CLOCK_BOOTTIME seconds), not longer."""
        self._order(deadline)

    def disarm(self) -> None:
        """PostgreSQL is no primary; there is nothing to guard."""
        self._order(None)

    @property
    def state(self) -> GuardState:
        return GuardState(self._channel is not None and not self._is_overdue(), self._watchdog)

    def _is_overdue(self) -> bool:
        since = self._unanswered_since
        return since is not None and self._clock() - since > ANSWER_SECONDS

    def _order(self, deadline: float | None) -> None:
        settings = self._settings
        orders = Orders(
            boot_id=self._boot_id,
            told_at=self._clock(),
            deadline=deadline,
            # The deadline has half a margin left to kill in; see Loop._extend_guard.
            lease_end=(deadline or 0.0) + settings.margin / 2,
            data_dir=settings.data_dir,
            cage=str(self.cage or ""),
            watchdog_mode=settings.mode,
            watchdog_device=settings.device,
            watchdog_timeout=settings.timeout,
        )
        if orders.says_the_same_as(self._orders):
            return
        self._orders = orders
        try:
            orders.write(self._orders_path)
        except OSError as error:
            log.error("the guard's orders could not be written down: %s", error)
        self._send()

    def _send(self) -> None:
        if self._channel is None or self._orders is None:
            return
        if self._unanswered_since is None:
            self._unanswered_since = self._clock()
        try:
            self._channel.send(self._orders.encode(), socket.MSG_DONTWAIT)
        except OSError:
            # Gone, or so many orders unread that it does not run. The file has the newest ones.
            self._broken.set()

    async def run(self) -> None:
        """Keep a connection to the guard process until cancelled."""
        events = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                self._channel = self._connect()
            self._tell_whether_connected()
            if self._channel is None:
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self._broken.clear()
            self._unanswered_since = None
            events.add_reader(self._channel, self._receive)
            try:
                self._send()
                await self._broken.wait()
            finally:
                events.remove_reader(self._channel)
                self._channel.close()
                self._channel = None
            # At least one event later: a guard that refuses us must not make the agent spin.
            await asyncio.sleep(RECONNECT_SECONDS)

    def _connect(self) -> socket.socket:
        """Connect to the guard process.

        :raises OSError: there is none.
        """
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            channel.connect(str(self._socket_path))
        except OSError:
            channel.close()
            raise
        return channel

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            while content := self._channel.recv(DATAGRAM_BYTES):
                answer = Answer.decode(content)
                self._watchdog = answer.watchdog
                if self._orders is not None and answer.told_at >= self._orders.told_at:
                    self._unanswered_since = None
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            log.warning("the guard process does not answer as it should: %s", error)
        self._broken.set()

    def _tell_whether_connected(self) -> None:
        is_connected = self._channel is not None
        if is_connected and not self._was_connected:
            log.info("the guard process is there")
        elif self._was_connected and not is_connected:
            log.warning(
                "there is no guard process (pgherd-guard.service): until it is back, nobody kills "
                "PostgreSQL when this agent hangs and its lease runs out"
            )
        self._was_connected = is_connected
