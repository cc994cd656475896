# SPDX-License-Identifier: GPL-3.0-or-later
"""Learning at once that a standby's connection is gone: its walsender ends."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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
