# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether WAL of ours is no part of the leader's, also where both call the timeline the same.

Two questions, and the second one is asked because the first one is not enough (Patroni's issue
1251; pg_rewind asks only the first one, and by the numbers of the timelines):

1. Do the history files part before our position?
2. Do the bytes differ? Two members may have been promoted to one timeline at one position, or one
   may have written on a timeline that another was streaming. Compared are pages of a shared
   timeline: its first ones, and the last ones with records in them before our position. WAL that
   has parted does not become equal again: a record carries the position of the one before it, a
   checksum over all of it and mostly a time or a transaction's number, so pages of two different
   writers differ. Padding after a WAL switch is the same everywhere and tells nothing, so it is
   passed over. A page that one side does not have any more tells nothing either: WAL is removed
   when a checkpoint no longer needs it, and with it goes the chance to stream from there.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgherd.errors import NotAnsweringError
from pgherd.history import Past, has_left, parting
from pgherd.model import format_lsn
from pgherd.pgquery import Connection
from pgherd.wal import PAGE, is_padding, is_page_of, says_something, segment_bytes, segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgherd.model import Instance, Member
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# So much WAL is compared at the beginning of a timeline, and as much before our position.
PAGES: Final = 8
# Padding, which has not even page headers, is passed over for so many segments.
REACH: Final = 4
# A difference must still be there after a while, seconds: a page of a standby that is being
# streamed again from the beginning of its segment is not whole for a moment.
CONFIRM_SECONDS: Final = 0.5

LEADER_PAGES: Final = """
SELECT page, pg_read_binary_file('pg_wal/' || name, start, %(bytes)s, true) AS content
  FROM unnest(%(pages)s::bigint[], %(names)s::text[], %(starts)s::bigint[]) AS t(page, name, start)
"""
LEADER_FLUSHED: Final = (
    "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint AS flushed"
)


@dataclass(frozen=True)
class Divergence:
    """WAL of ours that is no part of the leader's past.

    :param timeline: ours.
    :param start: where the pasts part, or a little before that, bytes.
    :param end: where our WAL ends, bytes.
    :param by_files: the history files tell it, so that pg_rewind finds it, too.
    """

    timeline: int
    start: int
    end: int
    leader: str
    leader_timeline: int
    by_files: bool

    @property
    def is_rewindable(self) -> bool:
        """Whether pg_rewind would undo it: it takes timelines of one number for one."""
        return self.by_files and self.timeline != self.leader_timeline

    def __str__(self) -> str:
        start, end = format_lsn(self.start), format_lsn(self.end)
        return (
            f"WAL from {start} to {end} of timeline {self.timeline} is not part of the cluster "
            f"(leader {self.leader} went on at {start} with timeline {self.leader_timeline})"
        )


def past_of(postgres: Postgres, instance: Instance) -> Past:
    """Return what a running instance has applied.

    WAL received and not applied does not count: the last bytes that came from a primary that died
    are often half a record, which the new primary has dropped and a standby overwrites.
    """
    timeline = instance.timeline or 0
    applied = instance.location or instance.replayed or 0
    return Past(timeline, postgres.local_history(timeline), applied)


async def diverged(
    postgres: Postgres, ours: Past, leader: Member, within: float
) -> Divergence | None:
    """Return which WAL of *ours* is no part of *leader*'s, None when all of it is.

    :param within: seconds the leader has for each answer.
    :raises PostgresError: the leader does not answer, or is no primary.
    """
    timeline, branches = await postgres.leader_history(leader, within)
    if timeline > 1 and not branches:
        raise NotAnsweringError(f"{leader.name} does not give its history of timeline {timeline}")
    theirs = Past(timeline, branches, 0)
    left = has_left(ours, theirs)
    comparison = _Comparison(postgres, ours, theirs, leader, within)
    try:
        start = await comparison.first_difference(left)
    finally:
        await comparison.close()
    by_files = start is None
    start = left if start is None else start
    if start is None:
        return None
    return Divergence(ours.timeline, start, ours.end, leader.name, timeline, by_files)


class _Comparison:
    """The bytes of our WAL beside those of the leader's.

    Both may have a segment under the names of several timelines. A file is good up to where its
    timeline ended, and need not be whole before that if there is another one; so a page differs
    only if no version of ours equals any of theirs.
    """

    def __init__(
        self, postgres: Postgres, ours: Past, theirs: Past, leader: Member, within: float
    ) -> None:
        self._directory = postgres.data_dir / "pg_wal"
        self._connection = Connection(postgres.remote_conninfo(leader), within)
        self._ours = ours
        self._theirs = theirs
        self._parting = parting(ours, theirs)
        self._size = 0

    async def close(self) -> None:
        await self._connection.close()

    async def first_difference(self, left: int | None) -> int | None:
        """Return where the bytes begin to differ; None when they do not, or nobody can tell.

        :param left: where our WAL left the leader's by the history files: no further is compared.
        :raises PostgresError: the leader does not answer, or is no primary.
        """
        if not self._directory.is_dir():
            return None
        self._size = await asyncio.to_thread(segment_bytes, self._directory)
        [row] = await self._connection.query(LEADER_FLUSHED)
        flushed: int = row["flushed"]
        end = min(self._ours.end if left is None else left, flushed)
        page = await self._differing(end)
        if page is not None:
            await asyncio.sleep(CONFIRM_SECONDS)
            page = await self._differing(end)
        if page is not None:
            return await self._narrowed(page, end)
        # The leader cannot lack what it has sent.
        return flushed if left is None and self._ours.end > flushed else None

    def _telling_pages(self, end: int) -> dict[int, list[bytes]]:
        """Return our versions of the first pages of the shared timeline and of the last to *end*.

        Pages that hold nothing but padding are left out.
        """
        begin = self._parting.begin // PAGE * PAGE
        head = range(begin, begin + PAGES * PAGE, PAGE) if self._parting.begin else ()
        versions = {page: self._own_versions(page, end) for page in head if page < end}
        found = {page: known for page, known in versions.items() if known}
        tail = 0
        for page in range((end - 1) // PAGE * PAGE, max(0, end - REACH * self._size), -PAGE):
            if tail == PAGES:
                break
            known = self._own_versions(page, end)
            if any(says_something(each, page, self._size) for each in known):
                found[page] = known
                tail += 1
        return found

    def _own_versions(self, page: int, end: int) -> list[bytes]:
        """Return what our files have of *page* before *end*."""
        found = []
        for timeline in _timelines_of(self._ours, page, end):
            try:
                content = self._read(timeline, page)
            except OSError:
                continue
            if is_page_of(content, page):
                found.append(content[: end - page])
        return found

    def _read(self, timeline: int, page: int) -> bytes:
        with (self._directory / segment_name(timeline, page, self._size)).open("rb") as file:
            file.seek(page % self._size)
            return file.read(PAGE)

    async def _their_versions(self, pages: Iterable[int], end: int) -> Mapping[int, list[bytes]]:
        """Return what the leader's files have of *pages* before *end*."""
        wanted = [
            (page, timeline)
            for page in pages
            for timeline in _timelines_of(self._theirs, page, end)
        ]
        rows = await self._connection.query(
            LEADER_PAGES,
            {
                "bytes": PAGE,
                "pages": [page for page, _ in wanted],
                "names": [segment_name(each, page, self._size) for page, each in wanted],
                "starts": [page % self._size for page, _ in wanted],
            },
        )
        found: dict[int, list[bytes]] = {}
        for row in rows:
            page, content = row["page"], row["content"]
            # Where the leader has padding, our record is none of its.
            if content is not None and (is_page_of(content, page) or is_padding(content)):
                found.setdefault(page, []).append(content[: end - page])
        return found

    async def _differing(self, end: int) -> int | None:
        """Return the first telling page before *end* that the leader has differently."""
        ours = await asyncio.to_thread(self._telling_pages, end)
        theirs = await self._their_versions(ours, end)
        differing = (
            page for page in sorted(theirs) if _offset(ours[page], theirs[page]) is not None
        )
        return next(differing, None)

    async def _narrowed(self, page: int, end: int) -> int:
        """Return the first byte that differs, knowing a *page* that does.

        The pages before it are halved until two neighbours are left of which only one differs. One
        that cannot be compared counts as equal: nobody has what was in it any more.
        """
        low = self._parting.begin // PAGE
        high = page // PAGE
        while low < high:
            middle = (low + high) // 2
            if await self._offset_in(middle * PAGE, end) is None:
                low = middle + 1
            else:
                high = middle
        offset = await self._offset_in(high * PAGE, end)
        return max(self._parting.begin, high * PAGE + (offset or 0))

    async def _offset_in(self, page: int, end: int) -> int | None:
        ours = await asyncio.to_thread(self._own_versions, page, end)
        theirs = (await self._their_versions([page], end)).get(page, [])
        return _offset(ours, theirs) if ours and theirs else None


def _timelines_of(past: Past, page: int, end: int) -> list[int]:
    """Return the timelines of *past* whose files have all of *page* that is before *end*."""
    needed = min(page + PAGE, end)
    return [timeline for timeline, over in past.path if over is None or over >= needed]


def _offset(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int | None:
    """Return the first byte in which versions differ; None when two are equal."""
    pairs = [(one, other) for one in ours for other in theirs]
    if any(one == other for one, other in pairs):
        return None
    return max(
        next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        for one, other in pairs
    )
