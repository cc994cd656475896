# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a rejoin that touch a stopped data directory: judge, archive, keep, rewind, copy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from pgherd.datadir import REPLACED, REWINDING, put_in_place, set_aside
from pgherd.errors import CommandError, PostgresError
from pgherd.history import Past
from pgherd.kept import DATA, Attic
from pgherd.methods import long_options
from pgherd.model import format_lsn, parse_lsn
from pgherd.programs import UNHEARD
from pgherd.wal import SEGMENT, record_end, segment_bytes, segment_place, segments_from

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.divergence import Divergence
    from pgherd.model import Control, Member
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# The header of a record, checksum included (XLogRecord, access/xlogrecord.h), bytes.
RECORD_HEADER: Final = 24
# A line of pg_waldump.
RECORD: Final = re.compile(r"len \(rec/tot\):\s*\d+/\s*(\d+),.* lsn: ([0-9A-F]+/[0-9A-F]+),")
# Archiving what is left may take this long in all, seconds.
ARCHIVE_SECONDS: Final = 60.0
# From this line on pg_rewind has changed its target; before it, it has only recovered it.
POINT_OF_NO_RETURN: Final = "rewinding from last common checkpoint"
NOTHING_TO_DO: Final = "no rewind required"


class Salvage:
    """What is done with the data directory of *postgres*, which is stopped.

    :param postgres: its data directory may be missing at the end of a step that failed.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._data_dir = postgres.data_dir
        self._programs = postgres.programs
        config = postgres.config
        self._attic = Attic(self._data_dir, config.postgres.keep_diverged, config.name)

    # Judging

    async def past(self, control: Control) -> Past:
        """Return what WAL the directory holds, as far as it is known to have been applied.

        A former primary has all that its segments hold up to the first record that is not whole:
        recovery would apply it. Of a standby the control file knows a minimum; the rest shows when
        it runs.

        :raises PostgresError: pg_controldata or pg_waldump cannot be run.
        """
        fields = await self._programs.control_fields(self._data_dir)
        newest = int(fields.get("Min recovery ending loc's timeline", 0))
        timeline = max(control.timeline, newest)
        branches = self._postgres.local_history(timeline)
        at_least = control.checkpoint + RECORD_HEADER
        if not control.was_primary:
            minimum = parse_lsn(fields.get("Minimum recovery ending location", "0/0"))
            return Past(timeline, branches, max(at_least, minimum))
        # A primary that crashed just after its promotion has its last checkpoint before it.
        began = branches[-1].end if branches else 0
        end = await self._end_of_wal(timeline, max(control.checkpoint, began))
        return Past(timeline, branches, max(at_least, end or 0))

    async def _end_of_wal(self, timeline: int, start: int) -> int | None:
        """Return where the WAL that can be read from *start* on ends; None when there is none."""
        wal = self._data_dir / "pg_wal"
        size = await asyncio.to_thread(segment_bytes, wal)
        found = await asyncio.to_thread(segments_from, wal, [timeline], start)
        names = [path.name for _, path in found if SEGMENT.fullmatch(path.name)]
        if not names:
            return None
        # With no files given, pg_waldump takes the segments' size from whichever comes first in the
        # directory, and gives up where that one was made in advance and is empty yet.
        line = await self._programs.last_line(
            "pg_waldump", f"--path={wal}", f"--start={format_lsn(start)}", names[0], names[-1]
        )
        record = RECORD.search(line)
        if record is None:
            return None
        return record_end(parse_lsn(record[2]), int(record[1]), size)

    async def obstacle(self, found: Divergence, use_rewind: bool) -> str:
        """Return why pg_rewind cannot be used (R24), empty when it can.

        :raises PostgresError: pg_controldata cannot be run.
        """
        if not use_rewind:
            return "use_pg_rewind is off"
        if not found.is_rewindable:
            return "it takes timelines of one number for one and the same"
        if not os.access(self._programs.path("pg_rewind"), os.X_OK):
            return f"there is no {self._programs.path('pg_rewind')}"
        fields = await self._programs.control_fields(self._data_dir)
        hints = fields.get("wal_log_hints setting") == "on"
        if hints or fields.get("Data page checksum version", "0") != "0":
            return ""
        return "it needs wal_log_hints or data checksums, and there are neither"

    # Saving

    async def archive(self, found: Divergence) -> None:
        """Archive the segments that wait for it (R26): they are about to be overwritten.

        On a timeline that the leader has as well, only those from before the parting: the others
        have the names of the leader's own. A failure is logged; the rejoin goes on.
        """
        try:
            async with asyncio.timeout(ARCHIVE_SECONDS):
                await self._archive(found)
        except TimeoutError:
            log.warning("WAL that waits to be archived is left: %g s are over", ARCHIVE_SECONDS)
        except (PostgresError, OSError) as error:
            log.warning("WAL that waits to be archived is left: %s", error)

    async def _archive(self, found: Divergence) -> None:
        status = self._data_dir / "pg_wal/archive_status"
        ready = sorted(path for path in status.glob("*.ready"))
        if not ready or await self._setting("archive_mode", self._data_dir) == "off":
            return
        template = await self._setting("archive_command", self._data_dir)
        if not template:
            log.warning("%d files wait to be archived, without archive_command", len(ready))
            return
        size = await asyncio.to_thread(segment_bytes, self._data_dir / "pg_wal")
        for path in ready:
            if not found.is_rewindable and _ends_after(path.stem, found.start, size):
                continue
            await self._programs.shell(_expanded(template, path.stem), self._data_dir)
            path.rename(path.with_suffix(".done"))
            log.info("archived %s", path.stem)

    async def _setting(self, name: str, data_dir: Path) -> str:
        """Return what PostgreSQL would use for *name* in *data_dir*."""
        return (await self._programs.run("postgres", "-C", name, "-D", str(data_dir))).strip()

    async def keep(self, found: Divergence, past: Past, *, whole: bool) -> Path | None:
        """Keep what is about to go; return where it is, None when it is not kept.

        The log tells what is lost. A failure to keep it does not hold up the rejoin.

        :param whole: move the whole directory, if it fits; else the diverged WAL is copied.
        """
        place = None
        try:
            if whole:
                data = await asyncio.to_thread(self._attic.keep_directory, found, None)
                place = data.parent if data is not None else None
            if place is None:
                place = await asyncio.to_thread(self._attic.keep_wal, found, past)
        except OSError as error:
            log.error("what has diverged cannot be kept: %s", error)
        log.warning("%s; %s", found, f"kept in {place}" if place else "nothing of it is kept")
        return place

    # Replacing

    async def rewind(self, leader: Member) -> bool:
        """Run pg_rewind against *leader*; tell whether it succeeded.

        It works on a directory of another name: one that is half rewound looks like a whole one,
        and must never be started. If it was not changed yet, it is put back.

        :raises PostgresError: the directory cannot be renamed.
        """
        place = set_aside(self._data_dir, REWINDING)
        assert place is not None
        heard: list[str] = []
        # pg_rewind recovers a crashed target in single-user mode, which refuses standby mode.
        signal = place / "standby.signal"
        was_standby = signal.exists()
        signal.unlink(missing_ok=True)
        is_whole = False
        try:
            options = await self._options(place, leader)
            await self._programs.watch("pg_rewind", *options, heard=heard)
            is_whole = True
        except CommandError as error:
            log.error("pg_rewind failed: %s", error)
            is_whole = not _has_begun(heard)
            return False
        except asyncio.CancelledError:
            is_whole = not _has_begun(heard)
            raise
        finally:
            if is_whole:
                if was_standby:
                    signal.touch(0o600)
                put_in_place(place, self._data_dir)
        return not any(NOTHING_TO_DO in line for line in heard)

    async def _options(self, place: Path, leader: Member) -> list[str]:
        source = self._postgres.remote_conninfo(leader)
        options = [f"--target-pgdata={place}", f"--source-server={source}"]
        with contextlib.suppress(CommandError):
            if await self._setting("restore_command", place):
                options.append("--restore-target-wal")
        return options + long_options(self._postgres.config.postgres.rewind_options)

    async def copy_anew(self, leader: Member, found: Divergence, place: Path | None) -> None:
        """Copy *leader*; the old directory is kept if it fits, else gone when the copy is there.

        :param place: where what has diverged is kept.
        :raises PostgresError: pg_basebackup failed; an old directory that is whole is put back.
        """
        kept = place / DATA if place is not None else None
        if place is not None and self._data_dir.exists():
            kept = await asyncio.to_thread(self._attic.keep_directory, found, place)
        replaced = set_aside(self._data_dir, REPLACED)
        try:
            await self._postgres.clone(leader)
        except (PostgresError, asyncio.CancelledError):
            if replaced is not None:
                replaced.rename(self._data_dir)
            elif kept is not None and kept.exists():
                self._attic.give_back(kept)
            raise


def _expanded(command: str, name: str) -> str:
    """Return archive_command *command* for the file *name* (PostgreSQL documentation, 26.3.1)."""
    values = {"%p": f"pg_wal/{name}", "%f": name, "%%": "%"}
    return re.sub("%[pf%]", lambda match: values[match[0]], command)


def _has_begun(heard: list[str]) -> bool:
    return any(POINT_OF_NO_RETURN in line or line == UNHEARD for line in heard)


def _ends_after(name: str, position: int, size: int) -> bool:
    try:
        _, start = segment_place(name, size)
    except ValueError:
        # A history file, or a backup's.
        return False
    return start + size > position
