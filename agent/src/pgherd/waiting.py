# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a condition that gives no event of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, every: float, within: float) -> None:
    """Look *every* so many seconds whether *condition* holds, for at most *within* seconds.

    :raises TimeoutError: it did not come to hold in time.
    """
    async with asyncio.timeout(within):
        while True:
            if await condition():
                return
            await asyncio.sleep(every)
