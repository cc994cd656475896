# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a condition that gives no event of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pgherd.errors import NotAnsweringError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# How often a condition inside PostgreSQL that gives no event is looked at, seconds.
POLL_SECONDS: Final = 0.02


async def until(condition: Callable[[], Awaitable[bool]], *, every: float, within: float) -> None:
    """Look *every* so many seconds whether *condition* holds, for at most *within* seconds.

    :raises TimeoutError: it did not come to hold in time.
    """
    async with asyncio.timeout(within):
        while True:
            if await condition():
                return
            await asyncio.sleep(every)


async def come_true(condition: Callable[[], Awaitable[bool]], failure: str, within: float) -> None:
    """Wait until *condition* holds of PostgreSQL.

    :param failure: what is wrong if it does not.
    :param within: seconds.
    :raises NotAnsweringError: it did not come to hold in time.
    """
    try:
        await until(condition, every=POLL_SECONDS, within=within)
    except TimeoutError as error:
        raise NotAnsweringError(f"{failure} within {within} s") from error
