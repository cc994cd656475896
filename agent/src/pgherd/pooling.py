# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping the PgBouncers of this host right: the one for writes follows the leader.

Like the callbacks this is fed by what each round sees, and runs beside the loop. The pooler for
writes is paused around an operation, and always resumed: when there is another leader, when the
operation is over, when it is said, after a bound, and by the next agent if this one dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pgherd.errors import PoolerError
from pgherd.pooler import PgBouncer
from pgherd.pooler_config import PoolerConfig
from pgherd.pooler_target import PoolerState, by_socket, find_target, obstacle, render

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pgherd.config import Config
    from pgherd.effects import Clock
    from pgherd.pooler import Row
    from pgherd.pooler_config import PoolerSocket
    from pgherd.view import View

log = logging.getLogger(__name__)

# A pooler that does not answer is tried again so often, and one that does is looked at, seconds.
ABSENT_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 1.0
# A disk that does not take a file of a hundred bytes in this time does not take it at all, seconds.
WRITE_SECONDS: Final = 2.0


@dataclass
class Pause:
    """A pause of the pooler for writes.

    :param operation: what it is for.
    :param began, until: when it began and when it ends at the latest, CLOCK_BOOTTIME seconds.
    :param was_seen: the operation was seen in etcd; when it is seen no more, it is over.
    """

    operation: str
    began: float
    until: float
    was_seen: bool = False
    is_over: bool = False
    done: asyncio.Future[list[Row]] | None = None


class Pooling:
    """The poolers of this host.

    :ivar state: what is known of the one for writes.
    :ivar pauses: how many pauses there were.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._given = config.pooler or PoolerConfig()
        self._event = asyncio.Event()
        self._turn = asyncio.Lock()
        self._rw = self._at(self._given.rw)
        self._ro = self._at(self._given.ro)
        self._pause: Pause | None = None
        # It may have read its file before that was changed.
        self._owes_reload = True
        # An agent before us may have left it paused.
        self._is_new = True
        self._written = ""
        self._ended: tuple[str, float] | None = None
        self.state = PoolerState()
        self.pauses = 0

    def _at(self, socket: PoolerSocket | None) -> PgBouncer | None:
        return PgBouncer(socket, self._event.set) if socket else None

    @property
    def has_rw(self) -> bool:
        return self._rw is not None

    @property
    def has_ro(self) -> bool:
        return self._ro is not None

    @property
    def ro_is_up(self) -> bool:
        return self._ro is not None and self._ro.is_up

    @property
    def paused_for(self) -> str:
        """The operation for which the pooler for writes is paused, empty for none."""
        return self._pause.operation if self._pause else ""

    @property
    def awaits_leader(self) -> bool:
        """Whether whatever a member publishes may be what the pooler waits for."""
        return self.has_rw and (self._pause is not None or self.state.leader != self.state.target)

    def problem(self) -> str:
        """Return why clients should not be sent to the pooler for writes, empty when they may."""
        return obstacle(self.state, self._clock(), self._config.timing.lease_ttl)

    def paused_seconds(self, operation: str) -> float | None:
        """Return for how long *operation* has had the pooler paused, None when not lately."""
        if self._pause is not None and self._pause.operation == operation:
            return round(self._clock() - self._pause.began, 3)
        known = self._ended
        return round(known[1], 3) if known is not None and known[0] == operation else None

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config
        given = config.pooler or PoolerConfig()
        if given == self._given:
            return
        self._close()
        self._given = given
        self._rw, self._ro = self._at(given.rw), self._at(given.ro)
        self._pause = self._pause if self._rw else None
        self._is_new, self._written = True, ""
        self.state = replace(self.state, is_up=False)
        self._event.set()

    def look(self, view: View) -> None:
        """Take note of what a round has seen."""
        if not self.has_rw:
            return
        now, leader = self._clock(), find_target(view, self._config.postgres)
        if view.store_answers or view.promised is not None or view.leads_by_promise:
            self.state = replace(self.state, heard_at=now)
        pause = self._pause
        if pause is not None:
            asked = view.handover is not None and view.handover.id == pause.operation
            pause.was_seen = pause.was_seen or asked
            if leader is not None and pause.was_seen and view.store_answers and not asked:
                pause.is_over = True
                self._event.set()
        if leader is not None and leader != self.state.leader:
            self.state = replace(self.state, leader=leader, since=now)
            self._event.set()

    async def run(self) -> None:
        """See to the poolers, until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._see_to_rw())
            both.create_task(self._see_to_ro())

    async def _see_to_rw(self) -> None:
        while True:
            self._event.clear()
            await self._tend()
            rest = self._rest(self._rw)
            if self._pause is not None:
                rest = min(rest, max(0.0, self._pause.until - self._clock()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._event.wait()

    async def _see_to_ro(self) -> None:
        """One that hangs must not hold up the other."""
        while True:
            if self._ro is not None:
                with contextlib.suppress(PoolerError):
                    await self._ro.look()
            await asyncio.sleep(self._rest(self._ro))

    def _rest(self, pooler: PgBouncer | None) -> float:
        return LOOK_SECONDS if pooler is None or pooler.is_up else ABSENT_SECONDS

    async def end(self) -> None:
        """Leave the poolers to the next agent, which may be late: nothing stays paused."""
        if self._pause is not None:
            await self.resume(self._pause.operation)
        self._close()

    def _close(self) -> None:
        for pooler in (self._rw, self._ro):
            if pooler is not None:
                pooler.close()

    # Pausing

    async def pause(self, operation: str, within: float) -> str:
        """Let no transaction begin through the pooler for writes until it is resumed.

        :param within: seconds for those under way to end; if they do not, it stays paused.
        :return: why it is not complete, empty when it is.
        """
        if self._rw is None:
            return "there is no pooler"
        async with self._turn:
            pause = self._pause
            if pause is None:
                now = self._clock()
                pause = Pause(operation, now, now + self._given.pause_limit)
                try:
                    await self._ready(self._rw)
                    pause.done = await self._rw.begin_pause()
                except PoolerError as error:
                    return str(error)
                self._pause = pause
                self.pauses += 1
                log.info("%s: the pooler for writes is paused", operation)
            elif pause.operation != operation:
                return f"it is paused for {pause.operation}"
            pooler, done = self._rw, pause.done
        self._event.set()
        return await self._completed(pooler, done, within) if done is not None else ""

    async def _completed(
        self, pooler: PgBouncer, done: asyncio.Future[list[Row]], within: float
    ) -> str:
        try:
            async with asyncio.timeout(within):
                await asyncio.shield(done)
        except TimeoutError:
            return await self._why_open(pooler)
        except PoolerError as error:
            return str(error)
        return ""

    async def _why_open(self, pooler: PgBouncer) -> str:
        try:
            return f"transactions are under way: {_names(await pooler.holders())}"
        except PoolerError as error:
            return str(error)

    async def resume(self, operation: str) -> str:
        """Let transactions begin again that *operation* has paused; return why it failed."""
        async with self._turn:
            if self._pause is None or self._pause.operation != operation:
                return ""
            return await self._resume()

    async def _resume(self) -> str:
        pause, pooler = self._pause, self._rw
        if pooler is None:
            return ""
        try:
            await pooler.resume()
        except PoolerError as error:
            return str(error)
        self._pause = None
        if pause is not None:
            self._ended = (pause.operation, self._clock() - pause.began)
            log.info("%s: resumed after %.3f s", pause.operation, self._ended[1])
        return ""

    # Seeing to it

    async def _ready(self, pooler: PgBouncer) -> None:
        """Have a connection, and do what is due at a PgBouncer.

        One that we have just found may have been left paused by an agent before us; one that was
        started again does not know that it is to be paused.
        """
        if not pooler.is_up:
            self._is_new = self._owes_reload = True
            await pooler.connect()
        if self._owes_reload:
            await pooler.reload()
            self._owes_reload = False
        if self._is_new and self._pause is None:
            await pooler.resume()
        elif self._is_new and self._pause is not None:
            self._pause.done = await pooler.begin_pause()
        self._is_new = False

    async def _tend(self) -> None:
        """Have the pooler for writes follow the leader, and see that it answers."""
        async with self._turn:
            pooler = self._rw
            if pooler is None:
                return
            try:
                await self._point(pooler)
                await self._ready(pooler)
                await self._end_pause()
                await pooler.look()
            except (PoolerError, OSError, TimeoutError) as error:
                self._note(str(error) or "its file cannot be written", is_up=pooler.is_up)
            else:
                self._note("", is_up=True)

    def _note(self, problem: str, *, is_up: bool) -> None:
        if problem and problem != self.state.problem:
            log.error("the pooler for writes: %s", problem)
        if is_up != self.state.is_up:
            level = logging.INFO if is_up else logging.WARNING
            log.log(level, "the pooler for writes %s", "answers" if is_up else "does not answer")
        self.state = replace(self.state, is_up=is_up, problem=problem)

    async def _point(self, pooler: PgBouncer) -> None:
        """Write down who leads, also for one that does not run: it reads that when it starts.

        :raises OSError, TimeoutError: it cannot be written.
        """
        leader, file = self.state.leader, pooler.socket.target_file
        if leader is None or file is None:
            return
        own = self._config.postgres
        near = by_socket(leader, own) if leader.name == self._config.name else leader
        text = render(near, self._given.databases)
        if text == self._written:
            return
        async with asyncio.timeout(WRITE_SECONDS):
            await asyncio.to_thread(write_target, file, text)
        self._written, self._owes_reload = text, True
        if self._pause is not None and self.state.target != leader:
            self._pause.is_over = True
        self.state = replace(self.state, target=leader)
        log.info("the pooler for writes points at %s", leader)

    async def _end_pause(self) -> None:
        """Resume what need not be paused any more.

        A PgBouncer that stays paused after it was pointed elsewhere would refuse clients at the end
        (its issue 498).
        """
        pause = self._pause
        if pause is None or not (pause.is_over or self._clock() >= pause.until):
            return
        if not pause.is_over:
            log.warning("%s: the pause ends, whatever has become of it", pause.operation)
        problem = await self._resume()
        if problem:
            raise PoolerError(problem)


def write_target(path: Path, text: str) -> None:
    """Put *text* in the place of the file *path*; whoever reads it sees the old or the new one.

    :raises OSError: it cannot be written.
    """
    if path.exists() and path.read_bytes() == text.encode():
        return
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(text)
    beside.rename(path)


def _names(servers: Iterable[Row]) -> str:
    """Return who has transactions on the connections *servers*, for people."""
    words = [
        f"{row.get('user')} in {row.get('database')} (pid {row.get('remote_pid')})"
        for row in servers
    ]
    shown = ", ".join(words[:3]) or "nobody any more"
    return f"{shown} and {len(words) - 3} more" if len(words) > 3 else shown
