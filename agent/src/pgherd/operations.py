# SPDX-License-Identifier: GPL-3.0-or-later
"""Long operations: one at a time, beside the loop, which goes on renewing and watching."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgherd.effects import Clock

log = logging.getLogger(__name__)

# After a failure the same kind of operation is tried again this much later, doubling, seconds.
FIRST_PAUSE: Final = 0.5
LAST_PAUSE: Final = 10.0


class Operations:
    """Runs at most one long operation.

    `phase` is what the operation under way, or the last one, tells of itself; empty for nothing.

    :param on_end: called when an operation has ended, whatever its outcome.
    """

    def __init__(self, clock: Clock, on_end: Callable[[], None]) -> None:
        self._clock = clock
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        self._name = ""
        self.phase = ""
        self._failures: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    @property
    def current(self) -> str | None:
        """The name of the operation under way, None when there is none."""
        return self._name if self._task is not None else None

    def begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Start *work* unless something is under way, or it failed just now."""
        if self._task is not None or self._clock() < self._not_before.get(name, 0):
            work.close()
            return
        log.info("%s: begins", name)
        self._name, self.phase = name, ""
        self._task = asyncio.create_task(self._run(name, work))

    def tell(self, phase: str) -> None:
        """Note how far the operation under way is, in Patroni's words for a member's state.

        What has failed stands until another operation begins.
        """
        self.phase = phase

    async def _run(self, name: str, work: Coroutine[None, None, None]) -> None:
        began = self._clock()
        try:
            await work
        except (PgherdError, OSError) as error:
            self._failures[name] += 1
            pause = min(FIRST_PAUSE * 2 ** (self._failures[name] - 1), LAST_PAUSE)
            self._not_before[name] = self._clock() + pause
            log.error("%s: failed, next try in %.1f s: %s", name, pause, error)
        else:
            self._failures[name] = 0
            log.info("%s: done after %.2f s", name, self._clock() - began)
        finally:
            self._task = None
            self._on_end()

    async def cancel(self) -> None:
        """Abandon the operation under way, if there is one, and wait until it has ended."""
        task = self._task
        if task is not None:
            # One that is cancelled before its first step never comes to its end.
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
