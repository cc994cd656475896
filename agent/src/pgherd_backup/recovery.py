# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring a backup into a directory and recovering it there to its target."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgherd_backup import programs
from pgherd_backup.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgherd_backup.settings import Settings

# A restored cluster may have weeks of WAL to replay, seconds.
RECOVERY_SECONDS: Final = 14 * 86400.0
# What pgBackRest tells the server with a restore; left there it would hold for the next standby.
WRITTEN: Final = ("restore_command", "recovery_target", "archive_mode", "recovery_end_command")
OURS: Final = ("pgherd-restore-hba.conf", "pgherd-restore-ident.conf")


def restore(command: Sequence[str], data_dir: Path, processes: int) -> None:
    """Have pgBackRest fill *data_dir*; what is there already and right is not copied again.

    :param command: pgBackRest's words but for where, how and what to do.
    :raises ProgramError: it failed; what it left can be gone on with.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    programs.watch(
        [*command, f"--pg1-path={data_dir}", f"--process-max={processes}",
         *(["--delta"] if any(data_dir.iterdir()) else []),
         "--log-level-console=info", "restore"]
    )  # fmt: skip


def recover(instance: Instance, within: float = RECOVERY_SECONDS) -> None:
    """Start *instance* and wait until it is a primary; raises BackupError, then it is down."""
    instance.log.unlink(missing_ok=True)
    try:
        instance.start()
        instance.await_primary(within)
    except BaseException:
        instance.kill()
        raise


def close(instance: Instance) -> None:
    """Stop *instance* in good order, with a checkpoint, and take away what it left elsewhere."""
    instance.query("CHECKPOINT")
    instance.stop()
    instance.log.unlink(missing_ok=True)
    shutil.rmtree(instance.socket_dir, ignore_errors=True)


def tidy(data_dir: Path) -> None:
    """Take away what only the recovery needed."""
    for name in OURS:
        (data_dir / name).unlink(missing_ok=True)
    auto = data_dir / "postgresql.auto.conf"
    if not auto.exists():
        return
    lines = auto.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.lstrip().startswith(WRITTEN)]
    if kept != lines:
        temporary = auto.with_name(auto.name + ".new")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.rename(auto)


def private_instance(settings: Settings, data_dir: Path, **overrides: str) -> Instance:
    """Return a server on *data_dir* whose socket only its owner reaches."""
    socket_dir = Path("/run/pgherd-backup") if Path("/run/pgherd-backup").is_dir() else Path("/tmp")
    place = socket_dir / f"restore-{os.getpid()}"
    return Instance(data_dir, place, Path(settings.bin_dir), overrides)


def forget(path: Path) -> None:
    """Remove a directory that nobody needs, first out of its name."""
    if path.exists():
        trash = path.with_name(path.name + ".trash")
        shutil.rmtree(trash, ignore_errors=True)
        path.rename(trash)
        shutil.rmtree(trash)
