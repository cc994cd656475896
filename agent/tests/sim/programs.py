# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's programs over simulated data directories, and what the agent does with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from agent.tests.sim.replication import can_reach
from agent.tests.sim.wal import position
from pgherd.errors import CommandError, NotAnsweringError, PostgresError
from pgherd.history import Past
from pgherd.programs import Programs

if TYPE_CHECKING:
    from agent.tests.sim.postgres import SimPostgres
    from agent.tests.sim.server import Server
    from agent.tests.sim.wal import Data
    from pgherd.divergence import Divergence
    from pgherd.model import Control, Member


class SimPrograms(Programs):
    """The programs of one host."""

    def __init__(self, server: Server) -> None:
        super().__init__(Path("/nonexistent"), {})
        self._server = server

    async def control(self, data_dir: Path) -> Control:
        await asyncio.sleep(0.005)
        if self._server.data is None:
            raise CommandError("pg_controldata", 1, "no such directory")
        return self._server.control()


class SimComparison:
    """Compares simulated WAL: stands for `pgherd.divergence._Comparison`."""

    def __init__(
        self, postgres: SimPostgres, ours: Past, theirs: Past, leader: Member, within: float
    ) -> None:
        self._server = postgres.server
        self._leader = leader
        self._end = ours.end

    async def close(self) -> None:
        """Nothing is open."""

    async def first_difference(self, left: int | None) -> int | None:
        await asyncio.sleep(2 * self._server.net.latency())
        upstream = self._server.peers[self._leader.host]
        if not can_reach(upstream, self._server) or upstream.data is None:
            raise NotAnsweringError(f"{self._leader.name} does not answer")
        ours, theirs = self._server.data, upstream.data
        if ours is None:
            return None
        flushed = position(theirs.flushed)
        end = min(self._end if left is None else left, flushed)
        for one, other in zip(ours.wal, theirs.wal, strict=False):
            if position(one.index + 1) > end:
                break
            if one is not other:
                return position(one.index)
        return flushed if left is None and self._end > flushed else None


class SimSalvage:
    """Works on simulated data directories: stands for `pgherd.salvage.Salvage`."""

    def __init__(self, postgres: SimPostgres) -> None:
        self._postgres = postgres
        self._server = postgres.server

    async def past(self, control: Control) -> Past:
        data = self._server.data
        if data is None:
            raise CommandError("pg_controldata", 1, "no such directory")
        end = position(data.flushed if control.was_primary else data.checkpoint)
        return Past(data.timeline, data.branches, end)

    async def obstacle(self, found: Divergence, use_rewind: bool) -> str:
        return "" if use_rewind and found.is_rewindable else "it is not rewindable"

    async def archive(self, found: Divergence) -> None:
        """Nothing is archived here."""

    async def keep(self, found: Divergence, past: Past, *, whole: bool) -> None:
        self._server.world.note(self._server.name, str(found))

    async def rewind(self, leader: Member) -> bool:
        """Rewind; a directory that is half rewound is not there for anybody."""
        server, upstream = self._server, self._server.peers[leader.host]
        target = server.data
        if target is None or not can_reach(upstream, server):
            return False
        server.data = None
        await asyncio.sleep(0.3 + 1.5 * server.world.noise.random())
        if not can_reach(upstream, server) or not upstream.is_writable or upstream.data is None:
            return False
        server.data = target
        return rewind(server, target, upstream.data)

    async def copy_anew(self, leader: Member, found: Divergence, place: None) -> None:
        replaced = self._postgres.set_aside("replaced")
        try:
            await self._postgres.clone(leader)
        except (PostgresError, asyncio.CancelledError):
            if replaced is not None:
                replaced.rename(self._postgres.data_dir)
            raise


def rewind(server: Server, target: Data, source: Data) -> bool:
    """Do as pg_rewind does: go by the timelines' histories, not by what the WAL says.

    :return: whether there was something to do.
    """
    # It reads the source's control file, so the timeline is that of its last checkpoint.
    if source.checkpoint_timeline == target.timeline:
        server.world.note(server.name, "pg_rewind: same timeline, nothing to do")
        return False
    ends = {branch.timeline: branch.end for branch in source.branches}
    ends[source.timeline] = source.flushed
    common = 0
    for record in target.wal:
        end = source.end_of(record.timeline) if record.timeline in ends else None
        if end is None or record.index >= end:
            break
        common += 1
    lost = sum(1 for record in target.wal[common:] if record.write)
    server.world.note(server.name, f"pg_rewind: back to {common}, {lost} writes dropped")
    # What is common by the histories is taken for common; the rest comes from the source.
    del target.wal[common:]
    target.flushed = len(target.wal)
    target.state = "in archive recovery"
    target.consistent_at = source.flushed
    target.newest = max(target.newest, source.newest)
    target.checkpoint, target.checkpoint_timeline = source.checkpoint, source.checkpoint_timeline
    target.names = source.names
    return True


async def copy_of(server: Server, source: Member) -> Data:
    """Do as pg_basebackup does.

    :raises PostgresError: something is in the way, or the source does not answer.
    """
    upstream = server.peers.get(source.host)
    if server.data is not None:
        raise PostgresError("the data directory is not empty")
    await asyncio.sleep(0.3 + 2 * server.world.noise.random())
    if upstream is None or not can_reach(upstream, server) or upstream.data is None:
        raise CommandError("pg_basebackup", 1, "error: connection to server failed")
    copied = upstream.data.copy()
    server.world.note(server.name, f"cloned from {source.name} at {copied.flushed}")
    return copied
