# SPDX-License-Identifier: GPL-3.0-or-later
"""Knocks at a door again and again: when does whoever is there answer?

A client waits for its own timeouts, too. This one does not: it begins anew at every interval,
whatever became of the knocks before. So what is between two answers is the door's, not its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lab.client import longest_between
from lab.errors import LabError
from lab.wait import until

if TYPE_CHECKING:
    from types import TracebackType

# PostgreSQL's SSLRequest: the first thing that a client says, answered before any login.
SSL_REQUEST: Final = bytes((0, 0, 0, 8, 4, 210, 22, 47))
ANSWERS: Final = (b"S", b"N")
INTERVAL_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 2.0
ANSWER_SECONDS_MAX: Final = 60.0


@dataclass
class Knocks:
    """New connections to *host* and *port* all the time, from start to end of a context."""

    host: str
    port: int
    answers: list[float] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Knocks:
        """Begin; returns when somebody has answered. Raises LabError when nobody does."""
        self._thread = threading.Thread(target=self._run, name="knocks", daemon=True)
        self._thread.start()
        try:
            self.await_answer(time.monotonic())
        except LabError:
            self._end.set()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; returns when the last knock is over."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def await_answer(self, after: float) -> float:
        """Wait for an answer later than *after*; return when it came. Raises LabError."""
        return until(
            lambda: self.answers[-1] if self.answers else 0.0,
            ANSWER_SECONDS_MAX,
            f"An answer at {self.host}:{self.port}",
            holds=lambda last: last > after,
            every=0.01,
        )

    def longest(self, since: float, until: float) -> float:
        """Return the longest time without an answer between two moments of time.monotonic()."""
        return longest_between(self.answers, since, until)

    def _run(self) -> None:
        asyncio.run(self._knock_on())

    async def _knock_on(self) -> None:
        ticks = 0
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._end.is_set():
                group.create_task(self._knock())
                ticks += 1
                await asyncio.sleep(max(0.0, begun + ticks * INTERVAL_SECONDS - time.monotonic()))

    async def _knock(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(SSL_REQUEST)
                    if await reader.readexactly(1) in ANSWERS:
                        self.answers.append(time.monotonic())
                finally:
                    writer.close()
