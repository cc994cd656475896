# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of pgherd.cluster.host_facts: it alone can compare two clocks."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Run the module and measure how far the host's clock is from the controller's."""

    _supports_check_mode = True
    _supports_diff = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result with `clock.offset_seconds` and its `error_seconds`.

        The host read its clock somewhere between sending and answer: the middle is the best
        guess and half the time between is how wrong the guess can be.
        """
        result: dict[str, Any] = super().run(tmp, task_vars)
        sent = time.time()
        result.update(self._execute_module(module_args=self._task.args, task_vars=task_vars))
        answered = time.time()
        facts = result.get("ansible_facts", {}).get("pgherd")
        if facts is not None:
            remote = facts["clock"].pop("remote_seconds")
            facts["clock"]["offset_seconds"] = round(remote - (sent + answered) / 2, 3)
            facts["clock"]["error_seconds"] = round((answered - sent) / 2, 3)
        return result
