#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask what backups there are, what a restore would do, and what an earlier one left."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: Ask what backups there are, and what a restore would do
description:
  - Asks C(pgherd-backup) of the host, which the role C(pgbackrest) has installed.
  - A restore that is not possible fails the task, with the reason and with what is possible.
version_added: 0.3.0
author: The pgherd developers (@pgherd)
options:
  query:
    description:
      - What is asked. V(info), what the repositories hold; V(place), what an earlier restore left
        on the host; V(plan), what a restore would do.
    type: str
    choices: [info, place, plan]
    default: info
  type:
    description: For V(plan), to which moment.
    type: str
    choices: [latest, immediate, time, lsn, xid, name]
    default: latest
  target:
    description: For V(plan), the time with its zone, position, number of a transaction or name.
    type: str
    default: ''
  exclusive:
    description: For V(plan), whether to stop just before it.
    type: bool
    default: false
  set:
    description: For V(plan), the backup to begin with; the best one without it.
    type: str
    default: ''
  timeline:
    description: For V(plan), which timeline is followed.
    type: str
    default: latest
  repository:
    description: For V(plan), the number of the repository; V(0) for the first where it is possible.
    type: int
    default: 0
  beside:
    description: For V(plan), the name of a copy beside the cluster; in its place without it.
    type: str
    default: ''
  keep_old:
    description: For V(plan), whether what is replaced is kept.
    type: bool
    default: true
  fail:
    description: Whether to fail when the program does; else RV(found) says why under C(problem).
    type: bool
    default: true
  program:
    description: Where the program is.
    type: path
    default: /usr/local/bin/pgherd-backup
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: See what a restore would do
  pgherd.cluster.backup_info:
    query: plan
    type: time
    target: '2026-12-01 13:45:00+00'
  register: plan
"""

RETURN = r"""
found:
  description: What the program says.
  returned: success
  type: dict
options:
  description: The words that tell C(pgherd-backup) of the restore that was planned.
  returned: success
  type: list
  elements: str
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

REFUSED = 3
PREFIX = "pgherd-backup: "


def target_options(params: dict[str, Any]) -> list[str]:
    """Return how the program is told of a restore."""
    words = [f"--type={params['type']}", f"--timeline={params['timeline']}"]
    words += [f"--target={params['target']}"] if params["target"] else []
    words += [f"--set={params['set']}"] if params["set"] else []
    words += ["--exclusive"] if params["exclusive"] else []
    return [*words, f"--repo={params['repository']}"]


def command(params: dict[str, Any]) -> list[str]:
    """Return the command line."""
    words = [params["program"], params["query"], "--json"]
    if params["query"] != "plan":
        return words
    words += target_options(params)
    words.append("--keep-old" if params["keep_old"] else "--no-keep-old")
    return [*words, f"--beside={params['beside']}"] if params["beside"] else words


def complaint(code: int, said: str) -> str:
    """Return what a failed program means."""
    text = said.strip().removeprefix(PREFIX)
    if code == REFUSED:
        return f"Nothing was changed. {text.removeprefix('refused: ')}."
    return text or f"it ended with {code}"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "query": {"type": "str", "choices": ["info", "place", "plan"], "default": "info"},
            "type": {
                "type": "str",
                "choices": ["latest", "immediate", "time", "lsn", "xid", "name"],
                "default": "latest",
            },
            "target": {"type": "str", "default": ""},
            "exclusive": {"type": "bool", "default": False},
            "set": {"type": "str", "default": ""},
            "timeline": {"type": "str", "default": "latest"},
            "repository": {"type": "int", "default": 0},
            "beside": {"type": "str", "default": ""},
            "keep_old": {"type": "bool", "default": True},
            "fail": {"type": "bool", "default": True},
            "program": {"type": "path", "default": "/usr/local/bin/pgherd-backup"},
        },
        supports_check_mode=True,
    )
    try:
        code, out, err = module.run_command(command(module.params))
    except OSError as error:
        module.fail_json(msg=f"{module.params['program']} cannot be run: {error}")
    if code != 0 and module.params["fail"]:
        module.fail_json(msg=complaint(code, err), code=code)
    found = json.loads(out) if code == 0 else {"problem": complaint(code, err)}
    module.exit_json(changed=False, found=found, options=target_options(module.params))


if __name__ == "__main__":
    main()
