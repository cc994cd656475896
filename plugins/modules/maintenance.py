#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Switch a cluster's automatic failover off and on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Pause and resume a pgherd cluster
description:
  - In a paused cluster nobody is elected, and the agents neither start nor stop PostgreSQL.
  - Waits until the agents of all members know.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  state:
    description: Whether the cluster shall be V(paused), or look after itself (V(running)).
    type: str
    choices: [paused, running]
    required: true
  wait_seconds:
    description: How long to wait for the members' agents; V(0) does not wait.
    type: float
    default: 30
attributes:
  check_mode:
    description: Says whether anything would be changed.
    support: full
  diff_mode:
    description: Shows the state before and after.
    support: full
"""

EXAMPLES = r"""
- name: Pause the cluster
  pgherd.cluster.maintenance:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008]
    username: pgherd
    password: "{{ password }}"
    state: paused
"""

RETURN = r"""
members:
  description: Names of the members whose agents know.
  returned: success, unless in check mode
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    request_json,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._members import by_name
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import Plan

PAUSE_SECONDS = 0.2


def plan(is_paused: bool, state: str) -> Plan:
    """Return what to ask for, so that the cluster is in *state*."""
    if is_paused == (state == "paused"):
        return Plan()
    return Plan(body={"pause": True if state == "paused" else None})


def knowing(agents: Agents, state: str) -> tuple[list[str], list[str]]:
    """Return the members whose agents are in *state*, and the others with what they say."""
    know, others = [], []
    for name, member in sorted(by_name(agents.cluster()).items()):
        url = agents.url_of(member)
        try:
            page = request_json(f"{url}/patroni", None, agents.timeout_seconds, agents.tls, (503,))
        except HttpError as error:
            others.append(f"{name}: {error}")
            continue
        if bool(page.get("pause")) == (state == "paused"):
            know.append(name)
        else:
            others.append(f"{name} is not {state} yet")
    return know, others


def await_all(agents: Agents, state: str, wait_seconds: float) -> tuple[list[str], list[str]]:
    """Return the same once all members are in *state*, or the bound has passed."""
    deadline = time.monotonic() + wait_seconds
    while True:
        know, others = knowing(agents, state)
        if not others or time.monotonic() >= deadline:
            return know, others
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **AGENT_ARGUMENTS,
            "state": {"type": "str", "choices": ["paused", "running"], "required": True},
            "wait_seconds": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    agents, state = Agents.of(params), params["state"]
    changed = False
    try:
        was_paused = bool(agents.config().get("pause"))
        wanted = plan(was_paused, state)
        shown = {"before": f"paused: {was_paused}\n", "after": f"paused: {state == 'paused'}\n"}
        if module.check_mode:
            module.exit_json(changed=wanted.body is not None, diff=shown)
        if wanted.body is not None:
            agents.send("PATCH", "/config", wanted.body)
            changed = True
        know, others = await_all(agents, state, params["wait_seconds"])
    except HttpError as error:
        module.fail_json(msg=f"The cluster cannot be {state}: {error}", changed=changed)
    if others and params["wait_seconds"]:
        module.fail_json(
            msg=f"The cluster is told to be {state}, and after {params['wait_seconds']:g} s not "
            f"all agents know: {'; '.join(others)}. They will when they are back.",
            changed=changed,
            members=know,
        )
    module.exit_json(changed=changed, members=know, diff=shown)


if __name__ == "__main__":
    main()
