# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how far a long command on a host is, until it is over."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "pgherd.cluster.backup_job"
# Looks that fail in a row before the host is given up: a connection may be lost for a moment.
LOST_LOOKS = 10


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.backup_job."""

    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Start the command, look until it is over, and return what the last look found."""
        super().run(tmp, task_vars)
        pause = float(self._task.args.get("poll_seconds", 1))
        host = (task_vars or {}).get("inventory_hostname", "")
        told: list[str] = []
        offset, lost = -1, 0
        while True:
            found: dict[str, Any] = self._execute_module(
                module_name=MODULE,
                module_args={**self._task.args, "offset": offset},
                task_vars=task_vars,
            )
            if "running" not in found and offset >= 0 and lost < LOST_LOOKS:
                lost += 1
                time.sleep(pause)
                continue
            lost = 0
            for line in found.get("lines") or []:
                Display().display(f"{host}: {line}")
            told += found.get("lines") or []
            if not found.get("running"):
                return {**found, "lines": told}
            offset = int(found["offset"])
            time.sleep(pause)
