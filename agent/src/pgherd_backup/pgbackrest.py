# SPDX-License-Identifier: GPL-3.0-or-later
"""pgBackRest as we use it: what a repository holds, and its commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import programs
from pgherd_backup.errors import BackupError
from pgherd_backup.wal import NAME, parse_lsn

if TYPE_CHECKING:
    from pgherd_backup.settings import Settings

PROGRAM: Final = "/usr/bin/pgbackrest"
# Of hosts that only restore: the repositories, without the cluster's members.
LOCAL_CONFIG: Final = Path("/etc/pgbackrest/local.conf")
# Programs that unpack what it packs, by the suffix of the file.
UNPACKERS: Final = {
    "gz": ["gzip", "-dc"],
    "lz4": ["lz4", "-dcq"],
    "zst": ["zstd", "-dcq"],
}


@dataclass(frozen=True)
class Backup:
    """One backup.

    :ivar started, stopped: seconds since the epoch.
    :ivar size: of the database, bytes.
    :ivar stored: of what the backup adds to the repository, bytes.
    :ivar first_wal, last_wal: segments that are needed to make it consistent.
    """

    label: str
    type: str
    repository: int
    started: int
    stopped: int
    size: int
    stored: int
    first_wal: str
    last_wal: str
    start_lsn: int
    stop_lsn: int
    error: bool
    database: int

    @property
    def timeline(self) -> int:
        """The timeline on which it ended."""
        return int(self.last_wal[:8], 16)


@dataclass(frozen=True)
class Repository:
    """What one repository holds of the stanza.

    :ivar problem: what is wrong with it; empty when nothing is.
    :ivar archive: pgBackRest's name of the archive, as `17-1`.
    :ivar last_wal: the newest segment.
    """

    number: int
    problem: str
    backups: tuple[Backup, ...] = ()
    archive: str = ""
    first_wal: str = ""
    last_wal: str = ""


def words(settings: Settings, *options: str, local: bool = False) -> list[str]:
    """Return the command line of pgBackRest for the stanza."""
    config = [f"--config={LOCAL_CONFIG}"] if local else []
    return [PROGRAM, *config, f"--stanza={settings.stanza}", *options]


def _backup(raw: dict[str, Any]) -> Backup:
    archive, lsn, info = raw["archive"], raw.get("lsn") or {}, raw["info"]
    return Backup(
        label=raw["label"],
        type=raw["type"],
        repository=raw["database"]["repo-key"],
        started=raw["timestamp"]["start"],
        stopped=raw["timestamp"]["stop"],
        size=info["size"],
        stored=info["repository"].get("delta") or 0,
        first_wal=archive["start"] or "",
        last_wal=archive["stop"] or "",
        start_lsn=parse_lsn(lsn.get("start") or "0/0"),
        stop_lsn=parse_lsn(lsn.get("stop") or "0/0"),
        error=bool(raw.get("error")),
        database=raw["database"]["id"],
    )


def parse_info(raw: list[dict[str, Any]]) -> list[Repository]:
    """Return the repositories by what `pgbackrest info --output=json` prints of one stanza."""
    if not raw:
        return []
    [stanza] = raw
    backups = [_backup(each) for each in stanza.get("backup") or []]
    found = []
    for repository in stanza.get("repo") or []:
        number, status = repository["key"], repository["status"]
        archives = [
            each for each in stanza.get("archive") or [] if each["database"]["repo-key"] == number
        ]
        newest = max(archives, key=lambda each: each["database"]["id"], default=None)
        # Codes of a stanza that is well, and of one that has no backup yet.
        problem = "" if status["code"] in (0, 2) else readable(str(status["message"]))
        found.append(
            Repository(
                number,
                problem,
                tuple(each for each in backups if each.repository == number),
                newest["id"] if newest else "",
                (newest["min"] or "") if newest else "",
                (newest["max"] or "") if newest else "",
            )
        )
    return found


def readable(message: str) -> str:
    """Return what a person can read of *message*, on one line.

    With a wrong cipher pass pgBackRest finds no format in what it deciphers, and quotes it.
    """
    first = message.partition("\n")[0]
    if "FormatError" in message or "CryptoError" in message:
        return f"{first}: it cannot be deciphered, or is damaged; is the cipher pass the right one?"
    return first


def info(settings: Settings) -> list[Repository]:
    """Return what the repositories hold; raises BackupError."""
    text = programs.output_of(words(settings, "info", "--output=json", local=True))
    try:
        return parse_info(json.loads(text, strict=False))
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"pgBackRest's info is not understood: {error!r}") from error


def archived(settings: Settings, repository: Repository, since: str = "") -> dict[str, str]:
    """Return the segments in the archive, from *since* on: their files' paths by their names."""
    if not repository.archive:
        return {}
    place = f"archive/{settings.stanza}/{repository.archive}"
    listed = programs.output_of(
        [*_reading(repository.number), "repo-ls", "--recurse", "--output=json", place]
    )
    found = {
        path.rpartition("/")[2][:24]: f"{place}/{path}"
        for path, entry in json.loads(listed).items()
        if entry["type"] == "file" and _is_segment(path.rpartition("/")[2])
    }
    return {name: found[name] for name in sorted(found) if name[8:] >= since[8:]}


def _reading(number: int) -> list[str]:
    # Commands that look at files of a repository take no stanza.
    return [PROGRAM, f"--config={LOCAL_CONFIG}", f"--repo={number}"]


def _is_segment(name: str) -> bool:
    # SEGMENT-CHECKSUM.COMPRESSION; histories and partial segments are no segments.
    return NAME.match(name) is not None and name[24:25] == "-"


def fetch(number: int, path: str, into: Path) -> None:
    """Write the file *path* of repository *number*, deciphered and unpacked, to *into*.

    Not by archive-get, which wants the control file of a data directory that may be lost.

    :raises ProgramError: it cannot be read or unpacked.
    """
    suffix = path.rpartition(".")[2]
    with into.open("wb") as file:
        programs.pipe([*_reading(number), "repo-get", path], UNPACKERS.get(suffix, ["cat"]), file)


def moment(seconds: float) -> str:
    """Return seconds since the epoch as people and PostgreSQL read them."""
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(sep=" ", timespec="microseconds" if at.microsecond else "seconds")
