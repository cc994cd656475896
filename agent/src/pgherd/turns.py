# SPDX-License-Identifier: GPL-3.0-or-later
"""Fairness between the REST API and everything else that runs in the agent's event loop.

Whatever the API has to compute waits in a queue, from which every turn of the event loop takes a
few milliseconds' worth. So a flood of requests makes requests wait, and a renewal of the lease only
that much later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds of one turn of the event loop that requests may have.
SHARE_SECONDS: Final = 0.004


class Kind(IntEnum):
    """Queues; each gives one piece of work in rotation."""

    CHECK = 0
    HANDSHAKE = 1
    PAGE = 2


class Turns:
    """Queues of work, done a bit at a time."""

    def __init__(self) -> None:
        self._queues: tuple[deque[Callable[[], None]], ...] = tuple(deque() for _ in Kind)
        self._is_due = False

    def waiting(self, kind: Kind) -> int:
        """Return how much work of *kind* waits."""
        return len(self._queues[kind])

    def add(self, kind: Kind, work: Callable[[], None]) -> None:
        """Have *work* done soon."""
        self._queues[kind].append(work)
        self._arrange()

    def _arrange(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        clock = asyncio.get_running_loop().time
        end = clock() + SHARE_SECONDS
        try:
            while any(self._queues):
                for queue in self._queues:
                    if queue:
                        queue.popleft()()
                if clock() >= end:
                    break
        finally:
            if any(self._queues):
                self._arrange()
