# SPDX-License-Identifier: GPL-3.0-or-later
"""The note that a restore leaves beside a data directory: this is what the cluster goes on with.

`pgherd-backup restore` recovers to its target and stops cleanly on the new timeline. Started as a
standby and promoted, the member would begin one more. The note names the checkpoint of that stop,
so it is worth nothing once the server has been started by whomever.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pgherd.datadir import beside

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.model import Control

NOTE: Final = "restored"


def is_restored(data_dir: Path, control: Control | None) -> bool:
    """Tell whether *data_dir* is as a restore has left it, by its control file."""
    if control is None or control.state != "shut down":
        return False
    try:
        noted = json.loads(beside(data_dir, NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = {
        "system_id": control.system_id,
        "timeline": control.timeline,
        "checkpoint": control.checkpoint,
    }
    return bool(noted == found)


def forget(data_dir: Path) -> None:
    """Remove the note, if there is one."""
    beside(data_dir, NOTE).unlink(missing_ok=True)
