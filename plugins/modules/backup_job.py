#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a long command as a unit of systemd, and show how far it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_job
short_description: Run a long command as a unit of systemd, and show how far it is
description:
  - The command goes on when the connection is lost; the same task, run again, waits for it.
  - What it tells on standard error is shown as it comes, what it prints is returned.
  - A failed command fails the task with what it told last.
version_added: 0.3.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: Name of the unit, without C(.service); one such command at a time runs on a host.
    type: str
    required: true
  command:
    description: The command and its words; it prints one JSON mapping.
    type: list
    elements: str
    required: true
  directory:
    description: Where the output is kept meanwhile; it is there, and its owner may be another user.
    type: path
    default: /run/pgherd-backup
  properties:
    description: Properties of the unit beyond ours, such as C(CPUQuota=100%).
    type: list
    elements: str
    default: []
  poll_seconds:
    description: How often is looked.
    type: float
    default: 1
  offset:
    description: How much of what it told was shown; for the plugin itself.
    type: int
    default: -1
attributes:
  check_mode:
    description: Runs nothing.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
"""

EXAMPLES = r"""
- name: Take a full backup
  pgherd.cluster.backup_job:
    name: pgherd-job-backup
    command: [/usr/local/bin/pgherd-backup, run, --kind, full, --json]
  register: backup
"""

RETURN = r"""
result:
  description: What the command printed.
  returned: when it is over and was good
  type: dict
lines:
  description: What it told since the last look.
  returned: always
  type: list
  elements: str
running:
  description: Whether it is under way.
  returned: always
  type: bool
code:
  description: Its exit code.
  returned: when it is over
  type: int
seconds:
  description: How long it took.
  returned: when it is over
  type: float
"""

import json
import shlex
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

RUNNING = ("activating", "active", "reloading", "deactivating")
FIELDS = ("ActiveState", "SubState", "Result", "ExecMainStatus", "Description", "LoadState")
# systemd's own times are of the monotonic clock, microseconds.
TIMES = ("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")


def parse_show(text: str) -> dict[str, str]:
    """Read what `systemctl show` prints."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def is_running(shown: dict[str, str]) -> bool:
    """Tell whether the command is under way: one that is over leaves its unit `exited`."""
    return shown.get("ActiveState") in RUNNING and shown.get("SubState") != "exited"


def seconds(shown: dict[str, str]) -> float:
    """Return how long the command took."""
    began, ended = (int(shown.get(name) or 0) for name in TIMES)
    return round(max(ended - began, 0) / 1e6, 1)


def new_lines(text: bytes, offset: int) -> tuple[list[str], int]:
    """Return the whole lines of *text* from *offset* on, and where they end."""
    end = text.rfind(b"\n") + 1
    return text[offset:end].decode(errors="replace").splitlines(), max(end, offset)


class Job:
    """One unit."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name = str(module.params["name"])
        self.description = shlex.join(module.params["command"])
        directory = Path(module.params["directory"])
        self.output, self.log = directory / f"{self.name}.out", directory / f"{self.name}.log"

    def shown(self) -> dict[str, str]:
        """Return what systemd says of it."""
        properties = ",".join((*FIELDS, *TIMES))
        code, out, err = self.module.run_command(
            ["systemctl", "show", f"--property={properties}", f"{self.name}.service"]
        )
        if code != 0:
            self.module.fail_json(msg=f"systemd says nothing of {self.name}: {err.strip()}")
        return parse_show(out)

    def start(self) -> None:
        """Start it, if it is not under way already."""
        shown = self.shown()
        if is_running(shown):
            if shown.get("Description") != self.description:
                self.module.fail_json(
                    msg=f"{self.name} is busy with another command: {shown.get('Description')}. "
                    f"Wait for it, or end it: systemctl stop {self.name}"
                )
            return
        self.forget()
        for path in (self.output, self.log):
            path.unlink(missing_ok=True)
        code, _out, err = self.module.run_command(
            [
                *("systemd-run", "--no-block", "--quiet", f"--unit={self.name}"),
                f"--description={self.description}",
                *("--property=Type=oneshot", "--property=RemainAfterExit=yes"),
                *("--property=KillMode=mixed", "--property=TimeoutStartSec=infinity"),
                f"--property=StandardOutput=append:{self.output}",
                f"--property=StandardError=append:{self.log}",
                *(f"--property={each}" for each in self.module.params["properties"]),
                *self.module.params["command"],
            ]
        )
        if code != 0:
            self.module.fail_json(msg=f"{self.name} cannot be started: {err.strip()}")

    def forget(self) -> None:
        """Have systemd forget one that is over."""
        self.module.run_command(["systemctl", "stop", f"{self.name}.service"])
        self.module.run_command(["systemctl", "reset-failed", f"{self.name}.service"])


def read(path: Path) -> bytes:
    """Return what is in *path*, nothing without it."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def look(job: Job, offset: int) -> dict[str, Any]:
    """Return what the module returns of a command that was started."""
    shown = job.shown()
    lines, end = new_lines(read(job.log), offset)
    found: dict[str, Any] = {"changed": True, "lines": lines, "offset": end}
    if is_running(shown):
        return {**found, "running": True}
    code = int(shown.get("ExecMainStatus") or 0)
    found |= {"running": False, "code": code, "seconds": seconds(shown)}
    if shown.get("Result") != "success" or code != 0:
        said = read(job.log).decode(errors="replace").strip().splitlines()[-1:]
        return {**found, "failed": True, "msg": (said or [f"it ended with {code}"])[0]}
    try:
        return {**found, "result": json.loads(read(job.output) or b"{}")}
    except ValueError as error:
        return {**found, "failed": True, "msg": f"what it printed is no JSON: {error}"}


def main() -> None:
    """Run the module: start the command with a negative offset, else look at it."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "directory": {"type": "path", "default": "/run/pgherd-backup"},
            "properties": {"type": "list", "elements": "str", "default": []},
            "poll_seconds": {"type": "float", "default": 1},
            "offset": {"type": "int", "default": -1},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True, running=False, lines=[], offset=0, result={})
    job = Job(module)
    if module.params["offset"] < 0:
        job.start()
    found = look(job, max(module.params["offset"], 0))
    if not found["running"]:
        job.forget()
    module.exit_json(**found)


if __name__ == "__main__":
    main()
