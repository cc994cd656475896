# SPDX-License-Identifier: GPL-3.0-or-later
"""What archived WAL says of transactions and restore points, read with pg_waldump."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgherd_backup import pgbackrest, programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgherd_backup.settings import Settings

ENDED: Final = re.compile(
    r"rmgr: Transaction\s.*?\btx:\s*(?P<tx>\d+), lsn: (?P<lsn>\S+),.*?desc: (?:COMMIT|ABORT)\w* "
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC"
)
POINT: Final = re.compile(r"rmgr: XLOG\s.*?lsn: (?P<lsn>\S+),.*?desc: RESTORE_POINT (?P<name>.*)$")


@dataclass(frozen=True)
class Found:
    """What one segment says.

    :ivar last: the last end of a transaction, seconds since the epoch; None without one.
    :ivar transactions: that ended here.
    :ivar points: names of restore points.
    """

    last: float | None
    transactions: frozenset[int]
    points: frozenset[str]


def parse(text: str) -> Found:
    """Read what pg_waldump prints, in UTC."""
    last: float | None = None
    transactions, points = set(), set()
    for line in text.splitlines():
        if ended := ENDED.search(line):
            transactions.add(int(ended["tx"]))
            at = datetime.fromisoformat(ended["at"]).replace(tzinfo=UTC).timestamp()
            last = at if last is None else max(last, at)
        elif point := POINT.search(line):
            points.add(point["name"].strip())
    return Found(last, frozenset(transactions), frozenset(points))


class Scanner:
    """Reads segments of one repository's archive, each once.

    :param paths: of their files, by their names (`pgbackrest.archived`).
    """

    def __init__(self, settings: Settings, repository: int, paths: Mapping[str, str]) -> None:
        self._settings = settings
        self._repository = repository
        self._paths = paths
        self._read: dict[str, Found] = {}

    def segment(self, name: str) -> Found:
        """Return what the segment *name* says; raises ProgramError when it cannot be read."""
        if name not in self._read:
            self._read[name] = self._scan(name)
        return self._read[name]

    def last_end(self, names: Iterable[str]) -> float | None:
        """Return when the last transaction ended, by the newest of *names* that says so."""
        for name in reversed(list(names)):
            if (found := self.segment(name)).last is not None:
                return found.last
        return None

    def _scan(self, name: str) -> Found:
        with tempfile.TemporaryDirectory(prefix="pgherd-wal-") as directory:
            place = Path(directory) / name
            pgbackrest.fetch(self._repository, self._paths[name], place)
            return parse(self._dump(place))

    def _dump(self, place: Path) -> str:
        # The last record may go on in the next segment, which pg_waldump calls an error.
        done = subprocess.run(
            [str(Path(self._settings.bin_dir) / "pg_waldump"), str(place)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=programs.environment(),
            stdin=subprocess.DEVNULL,
        )
        return done.stdout
