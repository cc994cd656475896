#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restart this host's agent, and see the cluster as well as it was before going on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_restart
short_description: Restart the pgherd agent of a host, one host after the other
description:
  - Restarts the agent; PostgreSQL runs on meanwhile.
  - Before and after, it waits until all O(members) are well. So with C(throttle) 1 an agent that
    does not come up, or comes up and does no good, stops the run at the first host.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  url:
    description: URL of this host's REST API.
    type: str
    required: true
  members:
    description: Names of the members that were well before the run, and have to be again.
    type: list
    elements: str
    default: []
  wait_seconds:
    description: How long to wait for them, before and after.
    type: float
    default: 60
  timeout_seconds:
    description: After how many seconds an agent counts as silent.
    type: float
    default: 2
  unit:
    description: The agent's unit.
    type: str
    default: pgherd.service
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says that it would restart the agent, and does not.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Restart the agent
  pgherd.cluster.agent_restart:
    url: http://10.0.0.1:8008
    members: [pg1, pg2, pg3]
  throttle: 1
"""

RETURN = r"""
seconds:
  description: How long it took until the members were well again.
  returned: when it was restarted
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import journal, wait
from ansible_collections.pgherd.cluster.plugins.module_utils._http import Tls


def run_unit(module: AnsibleModule, *words: str) -> None:
    """Run systemctl; ends the module with the unit's journal when that fails."""
    code, _output, errors = module.run_command(["systemctl", *words])
    if code != 0:
        unit = module.params["unit"]
        module.fail_json(
            msg=f"systemctl {' '.join(words)}: {errors.strip()}. The last lines of {unit}:\n"
            f"{journal(module, unit)}"
        )


def await_members(module: AnsibleModule, params: dict[str, Any], what: str) -> None:
    """Wait until the members are well; ends the module when they are not in time."""
    agents = Agents((params["url"],), params["timeout_seconds"], Tls(**params["tls"]))
    seen = wait(agents, params["members"], params["wait_seconds"])[1]
    if seen["problems"]:
        module.fail_json(
            msg=f"{what} after {params['wait_seconds']:g} s: {'; '.join(seen['problems'])}. No "
            f"agent is restarted while that is so. The last lines of {params['unit']} here:\n"
            f"{journal(module, params['unit'])}"
        )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "default": []},
            "wait_seconds": {"type": "float", "default": 60},
            "timeout_seconds": {"type": "float", "default": 2},
            "unit": {"type": "str", "default": "pgherd.service"},
            "tls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    params: dict[str, Any] = dict(module.params)
    knows = bool(params["members"])
    if knows:
        await_members(module, params, "A member that was well before this run is not")
    began = time.monotonic()
    run_unit(module, "daemon-reload")
    run_unit(module, "restart", params["unit"])
    if knows:
        await_members(module, params, "The agent was restarted, and not all is well")
    module.exit_json(changed=True, seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
