#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run the write probe of a drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_probe
short_description: Run the write probe of a drill
description:
  - Starts and stops the client that writes without end through a cluster's entry, notes what
    happens to the cluster by the clock of the same host, and waits until writes are
    acknowledged again.
  - The probe is a transient unit of systemd and ends by itself.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  program:
    description: The probe's program.
    type: path
    required: true
  directory:
    description: Where it writes what it sees.
    type: path
    required: true
  state:
    description: What to do. C(noted) writes down an event, C(waited) waits for rows.
    type: str
    choices: [started, noted, waited, stopped]
    required: true
  config:
    description: Where the probe writes and looks, for C(started).
    type: dict
    default: {}
  run_seconds:
    description: After how many seconds the probe ends by itself.
    type: int
    default: 1800
  event:
    description: The event to note, C(name), C(target), C(text), and C(wall) if it was not just now.
    type: dict
    default: {}
  after:
    description: Only rows sent after this time count, in seconds of the epoch.
    type: float
    default: 0
  rows:
    description: How many acknowledged rows to wait for.
    type: int
    default: 50
  hold_seconds:
    description: Wait at least this long after O(after); what breaks late shows only then.
    type: float
    default: 0
  timeout_seconds:
    description: How long to wait at most.
    type: float
    default: 120
attributes:
  check_mode:
    description: Does nothing.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait until clients can write again
  pgherd.cluster.drill_probe:
    program: /usr/local/libexec/pgherd-drill-probe
    directory: /var/lib/pgherd-drill
    state: waited
    after: "{{ broken.wall }}"
"""

RETURN = r"""
resumed:
  description: When the first row was acknowledged after the longest wait, in seconds of the epoch.
  returned: when O(state) is C(waited)
  type: float
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UNIT = "pgherd-drill-probe"


def program(module: AnsibleModule, verb: str, *more: str) -> str:
    """Run the probe's program to its end; return its output, or fail with its last words."""
    given = module.params
    command = ["/usr/bin/python3", given["program"], verb, given["directory"], *more]
    code, output, problems = module.run_command(command)
    if code != 0:
        words = problems.strip().splitlines() or output.strip().splitlines() or ["no word"]
        module.fail_json(msg=f"The probe: {words[-1]}")
    return str(output)


def wait(module: AnsibleModule) -> float:
    """Wait for rows; return when the first came after the longest wait."""
    given = module.params
    names = {"after": "after", "rows": "rows", "hold": "hold_seconds", "timeout": "timeout_seconds"}
    words = [f"--{option}={given[name]}" for option, name in names.items()]
    return float(json.loads(program(module, "wait", *words))["resumed"])


def start(module: AnsibleModule) -> None:
    """Begin to write, and wait until rows come."""
    directory = Path(module.params["directory"])
    if (directory / "probe.jsonl").exists():
        module.fail_json(msg=f"directory: {directory} has a drill already; name another")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(directory / "config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as out:
        json.dump(module.params["config"], out)
    module.run_command(["systemctl", "stop", f"{UNIT}.service"])
    code, _, problems = module.run_command(
        ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}",
         f"--property=RuntimeMaxSec={module.params['run_seconds']}",
         "/usr/bin/python3", module.params["program"], "run", str(directory)]
    )  # fmt: skip
    if code != 0:
        module.fail_json(msg=f"The probe cannot be started: {problems.strip()}")
    wait(module)


def note(path: Path, event: dict[str, Any]) -> None:
    """Write *event* behind the others."""
    events = json.loads(path.read_text()) if path.exists() else []
    target = str(event.get("target", ""))
    text, wall = str(event.get("text", "")), float(event.get("wall") or time.time())
    events.append({"wall": wall, "name": str(event["name"]), "target": target, "text": text})
    path.write_text(json.dumps(events))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "noted", "waited", "stopped"],
                "required": True,
            },
            "config": {"type": "dict", "default": {}, "no_log": True},
            "run_seconds": {"type": "int", "default": 1800},
            "event": {"type": "dict", "default": {}},
            "after": {"type": "float", "default": 0},
            "rows": {"type": "int", "default": 50},
            "hold_seconds": {"type": "float", "default": 0},
            "timeout_seconds": {"type": "float", "default": 120},
        },
        supports_check_mode=True,
    )
    state, directory = module.params["state"], Path(module.params["directory"])
    if module.check_mode:
        module.exit_json(changed=state != "waited", resumed=time.time())
    if state == "started":
        start(module)
    elif state == "noted":
        note(directory / "events.json", module.params["event"])
    elif state == "waited":
        module.exit_json(changed=False, resumed=wait(module))
    else:
        module.run_command(["systemctl", "stop", f"{UNIT}.service"])
        program(module, "rows")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
