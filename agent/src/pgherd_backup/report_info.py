# SPDX-License-Identifier: GPL-3.0-or-later
"""What the repositories hold, for people and for checks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgherd_backup import pgbackrest, wal
from pgherd_backup.pgbackrest import moment

if TYPE_CHECKING:
    from pgherd_backup.pgbackrest import Repository
    from pgherd_backup.settings import Settings


def describe(settings: Settings) -> dict[str, Any]:
    """Return all repositories with their backups and the gaps of their archives, for JSON."""
    found = pgbackrest.info(settings)
    told = [_repository(settings, each) for each in found]
    return {
        "stanza": settings.stanza,
        "now": int(time.time()),
        "repositories": told,
        "drill": last_drill(settings),
    }


def _repository(settings: Settings, repository: Repository) -> dict[str, Any]:
    backups = sorted(repository.backups, key=lambda each: each.stopped)
    good = [each for each in backups if not each.error]
    lacks: list[str] = []
    if good and not repository.problem:
        newest = good[-1]
        lacks = wal.missing(
            list(pgbackrest.archived(settings, repository, since=newest.first_wal)),
            newest.first_wal,
        )
    return {
        "number": repository.number,
        "problem": repository.problem,
        "last_wal": repository.last_wal,
        # History that a later backup has made superfluous is nobody's trouble any more.
        "missing_wal_since_newest": lacks,
        "backups": [
            {
                "label": each.label,
                "type": each.type,
                "started": each.started,
                "stopped": each.stopped,
                "finished": moment(each.stopped),
                "size": each.size,
                "stored": each.stored,
                "first_wal": each.first_wal,
                "last_wal": each.last_wal,
                "error": each.error,
            }
            for each in backups
        ],
    }


def last_drill(settings: Settings) -> dict[str, Any] | None:
    """Return the newest report of a drill on this host, None without one."""
    try:
        text = (Path(settings.report_dir) / "newest.json").read_text(encoding="utf-8")
        return dict(json.loads(text))
    except (OSError, ValueError):
        return None


def table(told: dict[str, Any]) -> str:
    """Return *told* of `describe` for a terminal."""
    lines = [f"Backups of {told['stanza']}"]
    for repository in told["repositories"]:
        lines.append(f"\nRepository {repository['number']}: {repository['problem'] or 'well'}")
        rows = [("backup", "type", "finished (UTC)", "database", "stored")]
        rows += [
            (
                each["label"],
                each["type"] + (" DAMAGED" if each["error"] else ""),
                each["finished"][:19],
                _size(each["size"]),
                _size(each["stored"]),
            )
            for each in repository["backups"]
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lacks = repository["missing_wal_since_newest"]
        lines.append(f"WAL up to {repository['last_wal'] or 'nowhere'}, ")
        lines[-1] += f"{len(lacks)} segments missing since the newest backup"
    drill = told["drill"]
    if drill is not None:
        lines.append(f"\nLast restore drill: {drill['verdict']} ({drill['finished'][:19]})")
    return "\n".join(lines)


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
