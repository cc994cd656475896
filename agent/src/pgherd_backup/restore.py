# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring the cluster in the place of its data, on the member that is to lead it then.

Each step can be taken again: a restore that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import pgbackrest, programs
from pgherd_backup.errors import RefusedError
from pgherd_backup.planning import make_plan
from pgherd_backup.recovery import close, forget, private_instance, recover, restore, tidy
from pgherd_backup.wal import parse_lsn

if TYPE_CHECKING:
    from pgherd_backup.plan import Plan
    from pgherd_backup.settings import Settings
    from pgherd_backup.target import Target

KEPT: Final = "before-restore"
STATE: Final = "restore.json"
# The agent gives no data directory a start while this is beside it (pgherd.datadir).
MARK: Final = "filling"
# What tells it that the member is to lead as it is (pgherd.restored).
NOTE: Final = "restored"


def beside(data_dir: Path, suffix: str) -> Path:
    """Return the path beside *data_dir* that *suffix* names."""
    return data_dir.with_name(f"{data_dir.name}.{suffix}")


def place(settings: Settings) -> dict[str, Any]:
    """Return what an earlier restore left on this host."""
    data_dir = Path(settings.data_dir)
    kept, copies = beside(data_dir, KEPT), Path(settings.scratch_dir)
    return {
        "under_way": beside(data_dir, STATE).exists(),
        "kept": str(kept) if kept.exists() else "",
        "copies": sorted(each.name for each in copies.iterdir()) if copies.is_dir() else [],
    }


def check_place(data_dir: Path, *, keep_old: bool) -> None:
    """Check that the data of this host may be replaced; raises RefusedError."""
    tablespaces = data_dir / "pg_tblspc"
    if tablespaces.is_dir() and any(tablespaces.iterdir()):
        raise RefusedError(
            f"{data_dir} has tablespaces elsewhere, which cannot be kept aside: restore beside the "
            "cluster (restore_beside=true) instead"
        )
    under_way = beside(data_dir, STATE).exists()
    if keep_old and beside(data_dir, KEPT).exists() and not under_way:
        raise RefusedError(
            f"{beside(data_dir, KEPT)} still holds what an earlier restore replaced: remove it "
            "(restore_forget=true), or look for what you miss in it first"
        )


def plan_in_place(settings: Settings, target: Target, number: int, *, keep_old: bool) -> Plan:
    """Plan a restore in the place of this host's data; raises RefusedError."""
    data_dir = Path(settings.data_dir)
    check_place(data_dir, keep_old=keep_old)
    under_way = beside(data_dir, STATE).exists()
    return make_plan(settings, target, data_dir, reuse=under_way or not keep_old, number=number)


def in_place(settings: Settings, target: Target, number: int, *, keep_old: bool) -> dict[str, Any]:
    """Restore, recover, and leave a cleanly stopped primary for the agent to start.

    :raises BackupError: a step failed; the same call goes on with it.
    """
    data_dir = Path(settings.data_dir)
    if _postmaster_runs(data_dir):
        raise RefusedError(f"PostgreSQL runs on {data_dir}: stop its agent first")
    chosen = plan_in_place(settings, target, number, keep_old=keep_old)
    began = time.time()
    _put_aside(data_dir, chosen, keep_old=keep_old)
    command = pgbackrest.words(
        settings, f"--repo={chosen.repository}", f"--set={chosen.backup}", *target.options()
    )
    restore(command, data_dir, settings.processes)
    restored = time.time()
    programs.tell(f"restored {chosen.backup}; recovering to {target}")
    instance = private_instance(settings, data_dir)
    recover(instance)
    # Not by the control file, which names the new timeline only from its first checkpoint on.
    timeline = instance.query(
        "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
    )
    end = instance.query("SELECT pg_current_wal_lsn()")
    close(instance)
    tidy(data_dir)
    _leave_note(settings, data_dir)
    beside(data_dir, MARK).unlink(missing_ok=True)
    beside(data_dir, STATE).unlink(missing_ok=True)
    return {
        "plan": chosen.as_dict(),
        "timeline": int(timeline),
        "lsn": end,
        "restore_seconds": round(restored - began, 1),
        "recovery_seconds": round(time.time() - restored, 1),
        "kept": str(beside(data_dir, KEPT)) if keep_old else "",
    }


def _put_aside(data_dir: Path, chosen: Plan, *, keep_old: bool) -> None:
    state = beside(data_dir, STATE)
    if not state.exists():
        # Written before anything moves: from here on this is a restore that can be gone on with.
        state.write_text(json.dumps({"plan": chosen.as_dict(), "keep_old": keep_old}) + "\n")
        os.sync()
    beside(data_dir, MARK).touch(0o600)
    kept = beside(data_dir, KEPT)
    if keep_old and data_dir.exists() and not kept.exists():
        programs.tell(f"keeping what was there as {kept}")
        data_dir.rename(kept)
    elif data_dir.exists():
        for name in ("postmaster.pid", "postmaster.opts", "standby.signal"):
            (data_dir / name).unlink(missing_ok=True)


def _leave_note(settings: Settings, data_dir: Path) -> None:
    """Tell the agent that its member is to lead as it is (`pgherd.restored`)."""
    program = str(Path(settings.bin_dir) / "pg_controldata")
    lines = programs.output_of([program, str(data_dir)]).splitlines()
    fields = {name.strip(): value.strip() for name, _, value in (ln.partition(":") for ln in lines)}
    note = {
        "system_id": fields["Database system identifier"],
        "timeline": int(fields["Latest checkpoint's TimeLineID"]),
        "checkpoint": parse_lsn(fields["Latest checkpoint location"]),
    }
    beside(data_dir, NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")


def _postmaster_runs(data_dir: Path) -> bool:
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return False
    return True


def give_way(settings: Settings) -> bool:
    """Put this host's data where the replica method takes what is right of them; tell if it did.

    For members whose data are to follow a restored leader's.
    """
    data_dir = Path(settings.data_dir)
    if _postmaster_runs(data_dir):
        raise RefusedError(f"PostgreSQL runs on {data_dir}: stop its agent first")
    replaced = beside(data_dir, "replaced")
    if not data_dir.exists() or not any(data_dir.iterdir()):
        return False
    forget(replaced)
    data_dir.rename(replaced)
    return True


def forget_kept(settings: Settings) -> str:
    """Remove what an earlier restore has replaced; return its path, empty without one."""
    data_dir = Path(settings.data_dir)
    if beside(data_dir, STATE).exists():
        raise RefusedError("a restore is under way: finish it first, by running it again")
    kept = beside(data_dir, KEPT)
    if not kept.exists():
        return ""
    forget(kept)
    return str(kept)
