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
    description: What to do. C(waited) waits for rows, C(stopped) reads them back at the end.
    type: str
    choices: [started, waited, stopped]
    required: true
  config:
    description: Where the probe writes and looks, for C(started).
    type: dict
    default: {}
  run_seconds:
    description: After how many seconds the probe ends by itself.
    type: int
    default: 1800
  events:
    description:
      - What happened to the cluster, written down first, when O(state) is C(waited) or C(stopped).
      - Each has C(name), C(target), C(text), and C(wall) (seconds of the epoch) if it was not just
        now. C(waited) adds C(recovered) when the rows are there.
    type: list
    elements: dict
    default: []
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
    events:
      - name: fault
        target: pg1
        text: The postmaster is killed.
        wall: "{{ broken.wall }}"
"""

RETURN = r"""
resumed:
  description: When the first row was acknowledged after the longest wait, in seconds of the epoch.
  returned: when O(state) is C(waited)
  type: float
events:
  description: All that was written down.
  returned: when O(state) is C(stopped)
  type: list
  elements: dict
rows:
  description: Ranges of the rows there are, C(present) by the entry, C(witness) by each member.
  returned: when O(state) is C(stopped)
  type: dict
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
    code, _output, problems = module.run_command(
        ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}",
         f"--property=RuntimeMaxSec={module.params['run_seconds']}",
         "/usr/bin/python3", module.params["program"], "run", str(directory)]
    )  # fmt: skip
    if code != 0:
        module.fail_json(msg=f"The probe cannot be started: {problems.strip()}")
    wait(module)


def note(path: Path, more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write events behind the others; return all."""
    events: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for event in more:
        target = str(event.get("target", ""))
        text, wall = str(event.get("text", "")), float(event.get("wall") or time.time())
        events.append({"wall": wall, "name": str(event["name"]), "target": target, "text": text})
    path.write_text(json.dumps(events))
    return events


def watch(module: AnsibleModule, path: Path) -> float:
    """Note what happened, wait for rows, note that they came; return when."""
    note(path, module.params["events"])
    resumed = wait(module)
    text = "Writes are acknowledged."
    note(path, [{"name": "recovered", "text": text, "wall": resumed}])
    return resumed


def stop(module: AnsibleModule, path: Path) -> dict[str, Any]:
    """Note what happened, end the probe, and read the rows back; return both."""
    events = note(path, module.params["events"])
    module.run_command(["systemctl", "stop", f"{UNIT}.service"])
    program(module, "rows")
    return {"events": events, "rows": json.loads((path.parent / "rows.json").read_text())}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "waited", "stopped"],
                "required": True,
            },
            "config": {"type": "dict", "default": {}, "no_log": True},
            "run_seconds": {"type": "int", "default": 1800},
            "events": {"type": "list", "elements": "dict", "default": []},
            "after": {"type": "float", "default": 0},
            "rows": {"type": "int", "default": 50},
            "hold_seconds": {"type": "float", "default": 0},
            "timeout_seconds": {"type": "float", "default": 120},
        },
        supports_check_mode=True,
    )
    state, path = module.params["state"], Path(module.params["directory"]) / "events.json"
    if module.check_mode:
        module.exit_json(changed=state != "waited", resumed=time.time())
    if state == "started":
        start(module)
    elif state == "waited":
        module.exit_json(changed=False, resumed=watch(module, path))
    else:
        module.exit_json(changed=True, **stop(module, path))
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
