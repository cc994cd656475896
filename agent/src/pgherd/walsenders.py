# SPDX-License-Identifier: GPL-3.0-or-later
"""Walsenders: learning at once that one is gone, as its standby is; ending those of subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError
from pgherd.pgquery import END_LOGICAL_WALSENDERS
from pgherd.waiting import POLL_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

# A walsender that is told to end has ended after this long, seconds.
END_SECONDS: Final = 1.0


async def end_subscriptions(query: Callable[[str], Awaitable[list[dict[str, Any]]]]) -> None:
    """End the logical walsenders, as far as that can be done in a second.

    Once told is not enough: a walsender says goodbye, and waits without end for a subscriber that
    does not read. Told again while it waits, it goes without a word.

    :param query: asks the instance.
    """

    async def are_gone() -> bool:
        return not await query(END_LOGICAL_WALSENDERS)

    with contextlib.suppress(PostgresError, TimeoutError):
        await until(are_gone, every=POLL_SECONDS, within=END_SECONDS)


class Walsenders:
    """Watches the walsender processes by pidfd, as the postmaster is watched.

    :param on_end: called in the event loop as soon as one of them is gone.
    """

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._watched: dict[int, int] = {}

    def watch(self, pids: Iterable[int]) -> None:
        """Watch these processes and no others."""
        wanted = set(pids)
        for pid in [pid for pid in self._watched if pid not in wanted]:
            self._forget(pid)
        for pid in wanted - self._watched.keys():
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue  # It is gone already; the next look at PostgreSQL shows it.
            self._watched[pid] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._notice, pid)

    def _notice(self, pid: int) -> None:
        self._forget(pid)
        self._on_end()

    def _forget(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
