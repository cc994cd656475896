# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard as the agent has it: a primary does not outlive its lease, whatever the loop is doing.

Two watch the same deadline. The guard process (guard_process.py) does so when the agent is frozen
or dead; a task inside the agent does so when the guard process is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgherd.effects import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GuardState:
    """What is known of the guard process.

    `connected`: it has answered the last orders, or had no time yet to do so. `watchdog`: ``off``,
    ``ready`` (the device can be used), ``active`` (it is fed) or ``unavailable``; of a guard that
    is not connected the last that it said.
    """

    connected: bool = False
    watchdog: str = "off"

    @property
    def has_watchdog(self) -> bool:
        """Whether a device resets this host when everything else fails, or would once needed."""
        return self.connected and self.watchdog in ("ready", "active")


class GuardPart(Protocol):
    """One of those who watch the deadline."""

    def arm(self, deadline: float) -> None: ...

    def disarm(self) -> None: ...


class InProcessGuard:
    """A task that waits for the deadline and kills.

    :param kill: kills every process of the instance at once.
    """

    def __init__(self, clock: Clock, kill: Callable[[], None]) -> None:
        self._clock = clock
        self._kill = kill
        self._deadline: float | None = None
        self._changed = asyncio.Event()

    def arm(self, deadline: float) -> None:
        self._deadline = deadline
        self._changed.set()

    def disarm(self) -> None:
        self._deadline = None
        self._changed.set()

    async def run(self) -> None:
        """Guard until cancelled."""
        while True:
            self._changed.clear()
            deadline = self._deadline
            pause = None if deadline is None else max(0.0, deadline - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            if self._deadline is not None and self._clock() >= self._deadline:
                log.critical("the lease has run out while PostgreSQL was a primary: killing it")
                self._kill()
                self._deadline = None


class RemotePart(GuardPart, Protocol):
    """The one of them that is another process."""

    @property
    def state(self) -> GuardState: ...


class Guards:
    """All who care about the deadline behind one face; see `pgherd.effects.Guard`.

    :param outside: the guard process.
    :param others: the guard inside, and systemd, which is to be stricter with a primary's agent.
    """

    def __init__(self, outside: RemotePart, *others: GuardPart) -> None:
        self._outside = outside
        self._parts = (outside, *others)

    def arm(self, deadline: float) -> None:
        for part in self._parts:
            part.arm(deadline)

    def disarm(self) -> None:
        for part in self._parts:
            part.disarm()

    @property
    def state(self) -> GuardState:
        return self._outside.state
