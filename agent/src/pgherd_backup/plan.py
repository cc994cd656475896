# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do, and why it is refused: from what the repositories hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from pgherd_backup import wal
from pgherd_backup.errors import RefusedError
from pgherd_backup.pgbackrest import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgherd_backup.pgbackrest import Backup, Repository
    from pgherd_backup.target import Target

# A search for a name or a transaction reads at most so many segments.
SEARCHED_SEGMENTS: Final = 2048
# Beside the data, bytes.
MARGIN: Final = 256 * 1024 * 1024


class Scan(Protocol):
    """Reads archived segments (`walscan.Scanner`)."""

    def segment(self, name: str) -> Any: ...

    def last_end(self, names: Sequence[str]) -> float | None: ...


@dataclass(frozen=True)
class Plan:
    """A restore that is possible.

    :ivar wal: how many segments may be replayed.
    :ivar needs: bytes that must be free, `free` that are.
    :ivar seconds: how long it may take, by the time that the backup took.
    :ivar remarks: what could not be checked.
    """

    backup: str
    repository: int
    taken: str
    target: str
    first_wal: str
    last_wal: str
    wal: int
    size: int
    needs: int
    free: int
    seconds: int
    earliest: str
    latest: str
    remarks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def window(repository: Repository, latest: float | None) -> str:
    """Return in words what can be restored."""
    if not repository.backups:
        return "there is no backup"
    first = moment(min(each.stopped for each in repository.backups))
    last = moment(latest) if latest is not None else "an unknown end"
    return f"possible is {first} to {last}"


def choose(repository: Repository, target: Target, latest: float | None) -> Backup:
    """Return the backup to begin with; raises RefusedError with what is possible."""
    good = [each for each in repository.backups if not each.error]
    if not good:
        raise RefusedError(
            f"repository {repository.number} has no backup that can be used: take one "
            "(pgherd.cluster.backup)"
        )
    possible = window(repository, latest)
    if target.backup:
        named = [each for each in repository.backups if each.label == target.backup]
        if not named:
            labels = ", ".join(each.label for each in repository.backups)
            raise RefusedError(f"there is no backup {target.backup}: there are {labels}")
        good = named
    fitting = good
    if target.at is not None:
        fitting = [each for each in good if each.stopped < target.at]
    elif target.type == "lsn":
        fitting = [each for each in good if each.stop_lsn <= wal.parse_lsn(target.value)]
    if not fitting:
        which = f"the backup {target.backup} ends" if target.backup else "every backup ends"
        raise RefusedError(f"{target} is before what was backed up, for {which} later: {possible}")
    return max(fitting, key=lambda each: each.stopped)


def check_end(
    target: Target, repository: Repository, names: Sequence[str], latest: float | None
) -> None:
    """Check that the archive reaches *target*; raises RefusedError."""
    possible = window(repository, latest)
    if target.at is not None and (latest is None or target.at >= latest):
        raise RefusedError(f"{target} is after the archive's end: {possible}")
    if target.type == "lsn":
        reached = wal.parse_lsn(target.value) // wal.SEGMENT_BYTES
        ends = max((wal.split(name)[1] for name in names), default=-1)
        if reached > ends:
            last = wal.segment_name(1, ends)[8:] if names else "nowhere"
            raise RefusedError(
                f"{target} is after the archive's end, the segment {last}: {possible}"
            )


def search(target: Target, names: Sequence[str], scan: Scan) -> tuple[str, ...]:
    """Look a name or a transaction up in the archive; return what could not be checked.

    :raises RefusedError: it is not there.
    """
    if target.type not in ("name", "xid"):
        return ()
    if len(names) > SEARCHED_SEGMENTS:
        return (f"{len(names)} segments were not searched for {target}: it may not be there",)
    wanted: Any = int(target.value) if target.type == "xid" else target.value
    for name in names:
        found = scan.segment(name)
        if wanted in (found.transactions if target.type == "xid" else found.points):
            return ()
    raise RefusedError(
        f"{target} is not in the archive from {names[0] if names else 'the backup'} on"
    )


def without_gap(backup: Backup, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which segments follow the backup without a gap, and which are missing first.

    :raises RefusedError: one is missing that the backup needs to be consistent.
    """
    after = [name for name in names if name[8:] >= backup.first_wal[8:]]
    lacks = wal.missing(after, backup.first_wal)
    if needed := [name for name in lacks if name[8:] <= backup.last_wal[8:]]:
        raise RefusedError(
            f"the archive lacks {', '.join(needed)}, without which the backup {backup.label} is "
            "not consistent: choose another backup"
        )
    first = min((name[8:] for name in lacks), default="G")
    return [name for name in after if name[8:] < first], lacks


def plan(
    repository: Repository,
    target: Target,
    names: Sequence[str],
    scan: Scan,
    *,
    free: int,
    reused: int = 0,
) -> Plan:
    """Plan a restore from what *repository* holds; pure but for what *scan* reads.

    :param names: the segments in its archive, sorted.
    :param free: bytes where the data are to be.
    :param reused: bytes that are there already and are written over.
    :raises RefusedError: it is not possible, with what is.
    """
    latest = scan.last_end(names)
    backup = choose(repository, target, latest)
    reach, lacks = without_gap(backup, names)
    if lacks:
        latest = scan.last_end(reach)
    check_end(target, repository, reach, latest)
    remarks = list(search(target, reach, scan))
    if lacks:
        more = " and more" if len(lacks) > 3 else ""
        remarks.append(
            f"the archive lacks {', '.join(lacks[:3])}{more}: what comes after is not reached"
        )
    if target.type == "immediate":
        reach = [name for name in reach if name[8:] <= backup.last_wal[8:]]
    # pg_wal holds at most what is replayed, and PostgreSQL recycles what was.
    needs = max(backup.size - reused, 0) + min(len(reach) * wal.SEGMENT_BYTES, MARGIN) + MARGIN
    if free < needs:
        raise RefusedError(
            f"{needs / 2**20:.0f} MiB must be free for the {backup.size / 2**20:.0f} MiB of the "
            f"backup {backup.label}, and {free / 2**20:.0f} MiB are: make room"
        )
    return Plan(
        backup=backup.label,
        repository=repository.number,
        taken=moment(backup.stopped),
        target=str(target),
        first_wal=backup.first_wal,
        last_wal=(reach or [""])[-1],
        wal=len(reach),
        size=backup.size,
        needs=needs,
        free=free,
        seconds=max(backup.stopped - backup.started, 1) + len(reach) // 4,
        earliest=moment(min(each.stopped for each in repository.backups)),
        latest=moment(latest) if latest is not None else "",
        remarks=tuple(remarks),
    )
