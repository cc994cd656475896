#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Break something for a drill, and undo it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_fault
short_description: Break something for a drill, and undo it
description:
  - Makes one of the faults of the playbook C(failover_drill) on the host it runs on.
  - Before anything is broken, a timer of systemd is armed on that host that undoes the fault by
    itself, whatever becomes of the controller. Undoing disarms it.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: The fault, a name as the playbook's C(drill) takes it.
    type: str
    required: true
  state:
    description: Whether to break, or to undo; undoing what is not broken is fine.
    type: str
    choices: [made, undone]
    default: made
  undo_seconds:
    description: After how many seconds the host undoes the fault by itself.
    type: int
    default: 60
  keep_ports:
    description: TCP ports that a cut of the network leaves open, for Ansible.
    type: list
    elements: int
    default: [22]
attributes:
  check_mode:
    description: Checks that the host has what the fault needs, and breaks nothing.
    support: full
  diff_mode:
    description: Shows nothing, for nothing lasts.
    support: none
"""

EXAMPLES = r"""
- name: Kill the postmaster
  pgherd.cluster.drill_fault:
    name: postgres_crash

- name: Heal a cut network
  pgherd.cluster.drill_fault:
    name: network_partition
    state: undone
"""

RETURN = r"""
wall:
  description: When it happened, in seconds of the epoch by the host's clock.
  returned: success
  type: float
text:
  description: What happened.
  returned: success
  type: str
"""

import shutil
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults import Fault, fault

UNIT = "pgherd-drill-undo"


def absent(wanted: Fault) -> list[str]:
    """Return the programs that *wanted* needs and this host lacks."""
    needs = ("systemctl", "systemd-run", *wanted.needs)
    return [name for name in needs if shutil.which(name) is None]


def run(module: AnsibleModule, lines: str) -> str:
    """Run *lines* in a shell; return what went wrong, empty when nothing did."""
    ports = " ".join(str(port) for port in module.params["keep_ports"])
    code, output, problems = module.run_command(
        ["/bin/sh", "-ec", lines], environ_update={"DRILL_PORTS": ports}
    )
    return "" if code == 0 else (problems.strip() or output.strip() or f"exit code {code}")


def disarm(module: AnsibleModule) -> None:
    """Take away the timer that undoes by itself, if it is there."""
    module.run_command(["systemctl", "stop", f"{UNIT}.timer"])
    module.run_command(["systemctl", "reset-failed", f"{UNIT}.service"])


def make(module: AnsibleModule, wanted: Fault) -> float:
    """Arm the undoing, break, and return when; fails the module, undone, when that goes wrong."""
    disarm(module)
    if wanted.undo:
        ports = " ".join(str(port) for port in module.params["keep_ports"])
        command = ["systemd-run", "--quiet", f"--unit={UNIT}", "--timer-property=AccuracySec=100ms",
                   f"--on-active={module.params['undo_seconds']}", f"--setenv=DRILL_PORTS={ports}",
                   "/bin/sh", "-c", wanted.undo.replace("$", "$$")]  # fmt: skip
        code, _output, problems = module.run_command(command)
        if code != 0:
            module.fail_json(msg=f"Nothing was broken: the undoing cannot be armed: {problems}")
    wall = time.time()
    problem = run(module, wanted.make) if wanted.make else ""
    if problem:
        undone = run(module, wanted.undo) if wanted.undo else ""
        if not undone:
            disarm(module)
        module.fail_json(
            msg=f"The fault {module.params['name']} cannot be made: {problem} {undone}"
        )
    return wall


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["made", "undone"], "default": "made"},
            "undo_seconds": {"type": "int", "default": 60},
            "keep_ports": {"type": "list", "elements": "int", "default": [22]},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    try:
        wanted = fault(params["name"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    lacking = absent(wanted)
    if lacking and params["state"] == "made":
        module.fail_json(
            msg=f"{params['name']} needs {', '.join(lacking)} on the target: install it"
        )
    if module.check_mode:
        module.exit_json(changed=True, wall=time.time(), text=wanted.text)
    if params["state"] == "made":
        module.exit_json(changed=True, wall=make(module, wanted), text=wanted.text)
    wall = time.time()
    problem = run(module, wanted.undo) if wanted.undo else ""
    if problem:
        module.fail_json(
            msg=f"{params['name']} cannot be undone: {problem}. The host tries it by itself "
            f"{params['undo_seconds']} s after the fault (systemctl status {UNIT})."
        )
    disarm(module)
    module.exit_json(changed=bool(wanted.undo), wall=wall, text=wanted.text)


if __name__ == "__main__":
    main()
