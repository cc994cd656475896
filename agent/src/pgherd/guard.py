# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard inside the agent: a primary does not outlive its lease, whatever the loop is doing.

It cannot help when the whole agent process is frozen; a separate guard process comes with a later
release (see docs/failure-modes.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgherd.effects import Clock

log = logging.getLogger(__name__)


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
