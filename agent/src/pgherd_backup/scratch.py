# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy beside the cluster: restored, recovered, and reached over a socket only."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import pgbackrest, programs
from pgherd_backup.errors import BackupError, RefusedError
from pgherd_backup.instance import PRIVATE, Instance
from pgherd_backup.planning import make_plan
from pgherd_backup.recovery import recover, restore

if TYPE_CHECKING:
    from pgherd_backup.plan import Plan
    from pgherd_backup.settings import Settings
    from pgherd_backup.target import Target

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
# The libraries of the cluster's hosts need not be here.
OVERRIDES: Final = {
    "archive_mode": "off",
    "shared_preload_libraries": "",
    "shared_buffers": "128MB",
    "max_connections": "20",
    "max_worker_processes": "8",
    "max_wal_senders": "0",
    "jit": "off",
}


def directory(settings: Settings, name: str) -> Path:
    """Return where the copy *name* is; raises RefusedError for a name that is none."""
    if not NAME.fullmatch(name):
        raise RefusedError(
            f"{name!r} cannot be the name of a copy: small letters, digits, - and _, 32 at most"
        )
    return Path(settings.scratch_dir) / name


def instance(settings: Settings, name: str) -> Instance:
    """Return the server of the copy *name*."""
    place = directory(settings, name)
    return Instance(place / "data", place / "socket", Path(settings.bin_dir), OVERRIDES)


def plan_beside(settings: Settings, name: str, target: Target, number: int) -> Plan:
    """Plan the copy *name*; raises RefusedError."""
    place = directory(settings, name)
    if place.exists():
        raise RefusedError(f"there is a copy {name} already: drop it first, or take another name")
    return make_plan(settings, target, place, reuse=False, number=number)


def create(settings: Settings, name: str, target: Target, number: int) -> dict[str, Any]:
    """Make the copy *name* and stop it, for its unit to start; raises BackupError."""
    chosen = plan_beside(settings, name, target, number)
    place = directory(settings, name)
    place.mkdir(mode=0o700, parents=True)
    began = time.time()
    try:
        fill(settings, name, target, chosen)
        instance(settings, name).stop()
    except BaseException:
        drop(settings, name)
        raise
    return {
        "plan": chosen.as_dict(),
        "name": name,
        "socket": str(place / "socket"),
        "seconds": round(time.time() - began, 1),
    }


def fill(settings: Settings, name: str, target: Target, chosen: Plan) -> None:
    """Restore and recover; the server runs then. Raises BackupError."""
    server = instance(settings, name)
    command = pgbackrest.words(
        settings, f"--repo={chosen.repository}", f"--set={chosen.backup}", *target.options(),
        "--archive-mode=off", "--tablespace-map-all=" + str(directory(settings, name) / "spaces"),
        local=True,
    )  # fmt: skip
    restore(command, server.data_dir, settings.processes)
    programs.tell(f"restored {chosen.backup}; recovering to {target}")
    recover(server)


def serve(settings: Settings, name: str) -> None:
    """Become the server of the copy *name*; does not return. Raises BackupError."""
    server = instance(settings, name)
    if not (server.data_dir / "PG_VERSION").exists():
        raise BackupError(f"there is no copy {name} on this host")
    server.socket_dir.mkdir(mode=0o700, exist_ok=True)
    given = {
        **PRIVATE,
        "port": str(server.port),
        "unix_socket_directories": str(server.socket_dir),
        "hba_file": str(server.data_dir / "pgherd-restore-hba.conf"),
        "ident_file": str(server.data_dir / "pgherd-restore-ident.conf"),
        **OVERRIDES,
    }
    postgres = str(Path(settings.bin_dir) / "postgres")
    words = [word for key, value in given.items() for word in ("-c", f"{key}={value}")]
    os.execv(postgres, [postgres, "-D", str(server.data_dir), *words])


def drop(settings: Settings, name: str) -> bool:
    """Take the copy *name* away; tell whether there was one."""
    place = directory(settings, name)
    if not place.exists():
        return False
    server = instance(settings, name)
    try:
        server.stop("immediate", 60)
    except BackupError:
        server.kill()
    shutil.rmtree(place)
    return True
