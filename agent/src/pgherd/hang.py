# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether PostgreSQL still answers: a new connection every so often, and how long one is owed.

A postmaster that is stopped, or stuck in the kernel, keeps its sessions and its port: only a new
connection shows that nobody is there any more (Patroni's issue 1371).
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from pgherd.errors import NotAnsweringError, PostgresError
from pgherd.pgquery import Connection

if TYPE_CHECKING:
    from pgherd.effects import Clock

# A probe looks four times within its time limit, but neither all the time nor hardly ever, seconds.
SHORTEST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
# connect(2) on a Unix socket whose queue nobody empties; libpq passes the message on.
QUEUE_IS_FULL: Final = "Resource temporarily unavailable"


def pause(limit: float) -> float:
    """Return how often to look, so that what takes *limit* seconds is found in time."""
    return min(max(limit / 4, SHORTEST_PAUSE), LONGEST_PAUSE)


class Silence:
    """How long an answer has been owed, counting only time in which this process ran.

    After a stop of this process (or of its machine) the answer may have been there for long, and
    nobody looked: such a gap counts as two ticks.

    :param tick: seconds between two signs of life of this process.
    """

    def __init__(self, clock: Clock, tick: float) -> None:
        self._clock = clock
        self._tick = tick
        self._since = self._ran_at = clock()

    async def keep(self) -> None:
        """Give this process's signs of life, for ever."""
        while True:
            await asyncio.sleep(self._tick)
            self.tick()

    def tick(self) -> None:
        """Take note that this process runs."""
        now = self._clock()
        self._since += max(0.0, now - self._ran_at - 2 * self._tick)
        self._ran_at = now

    def end(self) -> None:
        """Take note of an answer."""
        self._since = self._ran_at = self._clock()

    def seconds(self, now: float) -> float:
        """Return for how long there has been no answer at *now*."""
        return max(0.0, min(now, self._ran_at + 2 * self._tick) - self._since)


class Pace:
    """When a probe looks again.

    :param limit: seconds after which what has not answered is given up.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._changed = asyncio.Event()

    def change(self, limit: float) -> None:
        """Have another limit; whoever rests looks at once."""
        self.limit = limit
        self._changed.set()

    async def rest(self) -> None:
        """Wait until it is time to look again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause(self.limit)):
                await self._changed.wait()
        self._changed.clear()


class Probe(ABC):
    """Looks again and again at something that may hang; `look_once` says how.

    :param limit: seconds without an answer after which the caller gives it up; here it says how
        often to look.
    """

    def __init__(self, limit: float, clock: Clock) -> None:
        self._pace = Pace(limit)
        self._silence = Silence(clock, pause(limit) / 4)

    def retime(self, limit: float) -> None:
        """Use another limit; what was owed under the old one is forgiven."""
        self._pace.change(limit)
        self._silence.end()

    async def run(self) -> None:
        """Look for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._silence.keep())
            tasks.create_task(self._look_for_ever())

    async def _look_for_ever(self) -> None:
        while True:
            # One look at a time: while one hangs no other is begun.
            if await self.look_once():
                self._silence.end()
            await self._pace.rest()

    @abstractmethod
    async def look_once(self) -> bool:
        """Look; tell whether there was an answer."""


class HangProbe(Probe):
    """Asks the local instance something on a new connection, again and again.

    Any answer will do, also a refusal ("too many clients", "starting up", nobody listens).

    :param conninfo: libpq connection string of the local instance.
    :param hang_timeout: seconds without an answer after which the caller gives it up; here it says
        how often to ask and how long to wait.
    :ivar was_refused: the last answer was none to the question.
    """

    def __init__(self, conninfo: str, hang_timeout: float, clock: Clock) -> None:
        super().__init__(hang_timeout, clock)
        self._conninfo = conninfo
        self.was_refused = False

    def silent_for(self, now: float) -> float:
        """Return for how many seconds there has been no answer at *now* (boottime seconds)."""
        return self._silence.seconds(now)

    async def look_once(self) -> bool:
        """Open a connection and ask; tell whether anything came back."""
        connection = Connection(self._conninfo, self._pace.limit)
        try:
            await connection.query("SELECT 1")
        except NotAnsweringError as error:
            # Silence has no cause; a refusal has what libpq made of it.
            self.was_refused = error.__cause__ is not None and QUEUE_IS_FULL not in str(error)
            return self.was_refused
        except PostgresError:
            self.was_refused = True
        else:
            self.was_refused = False
        finally:
            await connection.close()
        return True
