# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role has written for this host: `/etc/pgherd/backup.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from pgherd_backup.errors import BackupError

SETTINGS: Final = Path("/etc/pgherd/backup.json")


@dataclass(frozen=True)
class Settings:
    """One host's.

    :ivar stanza: pgBackRest's name of the cluster.
    :ivar member: the member on this host, empty where there is none.
    :ivar data_dir: PostgreSQL's data directory on the members.
    :ivar bin_dir: PostgreSQL's programs.
    :ivar port: PostgreSQL's on the members.
    :ivar socket_dir: PostgreSQL's on the members.
    :ivar agents: URLs of the agents' REST API.
    :ivar repositories: pgBackRest's numbers of the repositories that backups go to.
    :ivar scratch_dir: where copies beside the cluster and drills are made.
    :ivar report_dir: where reports of drills are kept.
    :ivar metrics_file: Prometheus text of the last drill; empty for none.
    :ivar processes: of pgBackRest for a restore.
    :ivar canary_seconds: how often the primary writes its row of proof.
    """

    stanza: str
    member: str
    data_dir: str
    bin_dir: str
    port: int
    socket_dir: str
    agents: dict[str, str]
    repositories: list[int]
    scratch_dir: str
    report_dir: str
    metrics_file: str
    processes: int
    canary_seconds: int


def load(path: Path = SETTINGS) -> Settings:
    """Read *path*.

    :raises BackupError: it is missing or not what the role writes.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Settings(**{field.name: raw[field.name] for field in fields(Settings)})
    except OSError as error:
        raise BackupError(
            f"{path} cannot be read ({error.strerror}): run pgherd.cluster.site with "
            "cluster_backup: pgbackrest first, and this command as root or postgres"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{path} is not what the role pgbackrest writes: {error!r}") from error
