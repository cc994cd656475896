# SPDX-License-Identifier: GPL-3.0-or-later
"""Print a text for a person, in the form it was written."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.say."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Print the option `text`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if set(self._task.args) != {"text"}:
            raise AnsibleActionFail("say takes one option, text")
        text = str(self._task.args["text"])
        Display().display(text)
        result.update(changed=False, text=text)
        return result
