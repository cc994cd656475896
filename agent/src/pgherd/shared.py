# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer for all who ask at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Shared(Generic[T]):
    """Does *work* once for all who wait, and never gives an answer older than the question.

    Who asks while it is being done waits for the next time, which begins when this one ends.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return what *work* returns; whatever it raises is raised to all who wait."""
        if self._next is None:
            self._next = asyncio.create_task(self._do(self._running))
        return await asyncio.shield(self._next)

    async def _do(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before})
        self._running, self._next = self._next, None
        return await self._work()
