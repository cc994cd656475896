# SPDX-License-Identifier: GPL-3.0-or-later
"""To which moment a backup is restored: PostgreSQL's recovery targets (documentation, 19.5.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pgherd_backup.errors import RefusedError
from pgherd_backup.wal import parse_lsn

TYPES: Final = ("latest", "immediate", "time", "lsn", "xid", "name")
LABEL: Final = re.compile(r"\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?")


@dataclass(frozen=True)
class Target:
    """What was asked for.

    :ivar type: one of `TYPES`.
    :ivar value: the time, position, transaction or name; empty for latest and immediate.
    :ivar backup: the label of the backup to begin with; empty to have it chosen.
    :ivar timeline: to follow; `latest`, `current` or a number.
    :ivar exclusive: stop just before the target.
    """

    type: str = "latest"
    value: str = ""
    backup: str = ""
    timeline: str = "latest"
    exclusive: bool = False

    @property
    def at(self) -> float | None:
        """The time asked for, seconds since the epoch; None when it is no time."""
        return parse_time(self.value) if self.type == "time" else None

    def __str__(self) -> str:
        if self.type == "latest":
            return "the end of the archive"
        if self.type == "immediate":
            return "the end of the backup"
        before = "just before " if self.exclusive else ""
        return f"{before}{self.type} {self.value}"

    def options(self) -> list[str]:
        """Return pgBackRest's options (its command reference, restore)."""
        given = [f"--target-timeline={self.timeline}"]
        if self.type == "latest":
            return given
        if self.type == "immediate":
            # What makes a backup consistent is on its own timeline.
            return ["--type=immediate", "--target-action=promote"]
        # Times go in UTC, whatever the zone of the server is.
        at = self.at
        value = self.value if at is None else _utc(at)
        given = [
            f"--type={self.type}", "--target-action=promote", *given, f"--target={value}",
        ]  # fmt: skip
        return [*given, "--target-exclusive"] if self.exclusive else given


def parse_time(text: str) -> float:
    """Return seconds since the epoch; raises RefusedError for a time without its zone."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise RefusedError(
            f"the time {text!r} is not understood: say it as '2026-12-01 13:45:00+00'"
        ) from None
    if at.tzinfo is None:
        raise RefusedError(
            f"the time {text!r} has no zone: add +00 for UTC, as in '2026-12-01 13:45:00+00'"
        )
    return at.timestamp()


def _utc(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f+00")


def check(target: Target) -> None:
    """Check what can be checked without a repository; raises RefusedError."""
    if target.type not in TYPES:
        raise RefusedError(f"the target {target.type!r} is none of {', '.join(TYPES)}")
    needs = target.type not in ("latest", "immediate")
    if needs != bool(target.value):
        said = "needs a value" if needs else f"takes no value, and got {target.value!r}"
        raise RefusedError(f"the target {target.type} {said}")
    if target.type == "time":
        parse_time(target.value)
    if target.type == "xid" and not target.value.isdigit():
        raise RefusedError(f"the transaction {target.value!r} is no number")
    if target.type == "lsn":
        try:
            parse_lsn(target.value)
        except ValueError as error:
            raise RefusedError(str(error)) from None
    if target.backup and not LABEL.fullmatch(target.backup):
        raise RefusedError(
            f"the backup {target.backup!r} is no label of pgBackRest, as 20261201-134500F"
        )
    if target.timeline not in ("latest", "current") and not target.timeline.isdigit():
        raise RefusedError(
            f"the timeline {target.timeline!r} is neither latest, current nor a number"
        )
    if target.exclusive and target.type not in ("time", "lsn", "xid"):
        raise RefusedError(f"only a time, lsn or xid can be excluded, not {target.type}")
