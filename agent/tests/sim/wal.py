# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory: WAL as a list of records, and what the control file says."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgherd.history import Branch

# Every record is as long as any other, so a position and an index say the same.
START = 0x3000000
UNIT = 0x100
SYSTEM_ID = "7268616322854375442"


def position(count: int) -> int:
    """Return the position, in bytes, after *count* records."""
    return START + count * UNIT


@dataclass(eq=False, slots=True)
class Record:
    """One WAL record; the same one on every member that has it, so identity tells histories apart.

    :param index: how many records are before it.
    :param write: which client's write it is, 0 for PostgreSQL's own records.
    """

    timeline: int
    index: int
    origin: str
    write: int = 0

    def __str__(self) -> str:
        what = f"write {self.write}" if self.write else "record"
        return f"{what} at {self.timeline}/{position(self.index + 1):X} of {self.origin}"


@dataclass(eq=False)
class Data:
    """What a data directory holds.

    :param flushed: how many of the records are on the disk for certain.
    :param newest: the highest timeline whose history file is here.
    :param state: the control file's state.
    :param checkpoint: how many records there were before the last checkpoint.
    :param consistent_at: a standby answers when it has so many records.
    """

    system_id: str = SYSTEM_ID
    wal: list[Record] = field(default_factory=list)
    flushed: int = 0
    newest: int = 1
    state: str = "in production"
    checkpoint: int = 0
    checkpoint_timeline: int = 1
    consistent_at: int = 0
    is_standby: bool = False
    upstream: str | None = None
    names: str = ""

    @property
    def timeline(self) -> int:
        """The timeline of the last flushed record."""
        return self.wal[self.flushed - 1].timeline if self.flushed else 1

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The history file of the last flushed record's timeline."""
        found = []
        for before, after in zip(
            self.wal[: self.flushed], self.wal[1 : self.flushed], strict=False
        ):
            if before.timeline != after.timeline:
                found.append(Branch(before.timeline, position(after.index), after.origin))
        return tuple(found)

    def end_of(self, timeline: int) -> int | None:
        """Return how many records there were when *timeline* ended; None if it is not ours."""
        if timeline == self.timeline:
            return self.flushed
        ends = [branch.end for branch in self.branches if branch.timeline == timeline]
        return (ends[0] - START) // UNIT if ends else None

    def lose_unflushed(self, kept: int = 0) -> None:
        """Forget what is not on the disk, but for *kept* records that got there by themselves."""
        del self.wal[self.flushed + kept :]
        self.flushed = len(self.wal)

    def copy(self) -> Data:
        """Return what pg_basebackup makes of it."""
        records = self.wal[: self.flushed]
        return Data(
            self.system_id, records, len(records), self.newest, "in archive recovery",
            self.checkpoint, self.checkpoint_timeline, len(records), names=self.names,
        )  # fmt: skip
