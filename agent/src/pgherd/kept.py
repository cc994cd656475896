# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rejoin overwrites, kept beside the data directory: `<data_dir>.diverged/<UTC time>/`.

Bounded in number and size, oldest gone first; what was made last always stays.
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pgherd.datadir import beside, discard, sweep
from pgherd.model import format_lsn
from pgherd.wal import SEGMENT, segments_from

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.config import KeepDiverged
    from pgherd.divergence import Divergence
    from pgherd.history import Past

log = logging.getLogger(__name__)

STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
PLACE: Final = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
NOTE: Final = "about.txt"
DATA: Final = "data"
MEGABYTE: Final = 1 << 20
# A disk is not filled up for this, bytes.
LEFT_FREE: Final = 256 * MEGABYTE


class Attic:
    """The place of one data directory.

    :param member: the name of this member, for the notes.
    """

    def __init__(self, data_dir: Path, keep: KeepDiverged, member: str) -> None:
        self._data_dir = data_dir
        self._keep = keep
        self._member = member
        self._path = beside(data_dir, "diverged")

    @property
    def _limit(self) -> int:
        return self._keep.max_mb * MEGABYTE if self._keep.count > 0 else 0

    def keep_wal(self, found: Divergence, past: Past) -> Path | None:
        """Copy the diverged WAL and the histories; return where it is, None when it is not kept.

        What was kept of the same divergence in an earlier try is not kept again. If not all fits,
        the WAL that comes first is kept.

        :raises OSError: a file cannot be copied; nothing is left of the try.
        """
        known = self._known(found)
        if known is not None or self._limit == 0:
            return known
        wal = self._data_dir / "pg_wal"
        files, size = sorted(wal.glob("*.history")), 0
        free = shutil.disk_usage(self._data_dir.parent).free - LEFT_FREE
        for _, path in segments_from(wal, past.timelines, found.start):
            size += path.stat().st_size
            if size > min(self._limit, free):
                log.warning("WAL from %s on is too much to be kept", path.name)
                break
            files.append(path)
        self._make_room(sum(path.stat().st_size for path in files))
        place = self._new_place()
        unfinished = beside(place, "new")
        unfinished.mkdir(0o700, parents=True)
        try:
            for path in files:
                shutil.copy2(path, unfinished)
            (unfinished / NOTE).write_text(self._note(found))
        except OSError:
            discard(unfinished)
            raise
        return unfinished.rename(place)

    def keep_directory(self, found: Divergence, place: Path | None) -> Path | None:
        """Move the whole data directory there, if it fits; return where it is now, else None.

        :param place: where its WAL has been copied to before, None for nowhere.
        :raises OSError: it cannot be moved.
        """
        size = directory_bytes(self._data_dir)
        if size > self._limit or (place is not None and (place / DATA).exists()):
            return None
        self._make_room(size, besides=place)
        if place is None:
            place = self._new_place()
            place.mkdir(0o700, parents=True)
            (place / NOTE).write_text(self._note(found))
        return self._data_dir.rename(place / DATA)

    def give_back(self, data: Path) -> None:
        """Move what `keep_directory` has kept back into its place.

        :raises OSError: it cannot be moved.
        """
        data.rename(self._data_dir)
        if not _has_wal(data.parent):
            discard(data.parent)

    def _places(self) -> list[Path]:
        """Return what is kept, oldest first."""
        if not self._path.is_dir():
            return []
        return sorted(path for path in self._path.iterdir() if PLACE.fullmatch(path.name))

    def _known(self, found: Divergence) -> Path | None:
        for place in reversed(self._places()):
            if _has_wal(place) and self._heading(found) in (place / NOTE).read_text():
                return place
        return None

    def _new_place(self) -> Path:
        return self._path / datetime.now(UTC).strftime(STAMP)

    def _make_room(self, size: int, besides: Path | None = None) -> None:
        """Remove the oldest until one more of *size* bytes would not be too much.

        :param besides: stays; the new one goes there.
        """
        if self._path.is_dir():
            for path in self._path.glob("*.new"):
                discard(path)
            sweep(self._path, "*")
        others = [place for place in self._places() if place != besides]
        sizes = {place: directory_bytes(place) for place in others}
        while others and (
            len(others) >= self._keep.count or sum(sizes.values()) + size > self._limit
        ):
            oldest = others.pop(0)
            sizes.pop(oldest)
            log.warning("removing %s, which was kept before", oldest)
            discard(oldest)

    def _heading(self, found: Divergence) -> str:
        return (
            f"timeline {found.timeline} from {format_lsn(found.start)} on, "
            f"which its timeline {found.leader_timeline} does not have\n"
        )

    def _note(self, found: Divergence) -> str:
        start, end = format_lsn(found.start), format_lsn(found.end)
        return (
            f"What member {self._member} held that is not part of the cluster:\n"
            f"{self._heading(found)}\n"
            f"from:   {start}\n"
            f"to:     {end}\n"
            f"leader: {found.leader}, which went on with timeline {found.leader_timeline}\n"
            f"when:   {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n\n"
            "To see what was written there:\n"
            f"    pg_waldump --path=. --timeline={found.timeline} --start={start}\n"
            "A directory `data`, if there is one, is the whole old data directory. To read its\n"
            "rows remove its `standby.signal` and start it on another port.\n"
        )


def _has_wal(place: Path) -> bool:
    return any(SEGMENT.match(path.name) for path in place.iterdir())


def directory_bytes(path: Path) -> int:
    """Return how much the files below *path* hold; what vanishes meanwhile does not count."""
    total = 0
    for each in path.rglob("*"):
        try:
            total += each.lstat().st_size
        except FileNotFoundError:
            continue
    return total
