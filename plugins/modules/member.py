#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restart, reload or renew members of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: member
short_description: Restart, reload or renew members of a pgherd cluster
description:
  - Has the agents of members restart PostgreSQL, read their configuration again, or replace the
    data by a new copy; and waits until each is well again before the next one.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  name:
    description: The members; the leader comes last, whatever the order.
    type: list
    elements: str
    default: []
  rolling:
    description:
      - All members, one after the other, with one switchover. The agents do it, and go on when
        nobody waits any more. Only with O(state=restarted), and without O(name).
    type: bool
    default: false
  state:
    description:
      - V(restarted), PostgreSQL is restarted; V(reloaded), the agent reads its files again.
      - V(reinitialized), a new copy replaces the data of a standby.
    type: str
    choices: [restarted, reloaded, reinitialized]
    required: true
  pending_only:
    description: Restart only members with settings that wait for it.
    type: bool
    default: false
  from_leader:
    description: Copy from the leader, whoever else could be copied from.
    type: bool
    default: false
  wait_seconds:
    description: How long each member may take; with O(rolling) all of them together.
    type: float
    default: 600
attributes:
  check_mode:
    description: Says what would be done, or why it would be refused.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Restart who waits for it
  pgherd.cluster.member:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008]
    username: pgherd
    password: "{{ password }}"
    rolling: true
    pending_only: true
    state: restarted

- name: Give pg3 a new copy
  pgherd.cluster.member:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008]
    username: pgherd
    password: "{{ password }}"
    name: [pg3]
    state: reinitialized
"""

RETURN = r"""
members:
  description: Names of those concerned, in the order in which it was their turn.
  returned: always
  type: list
  elements: str
operation:
  description: The operation as C(GET /operations/ID) has it.
  returned: with O(rolling), when something was asked for
  type: dict
"""

import time
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import is_well
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpBroken,
    HttpError,
    HttpSilent,
    request_json,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._members import (
    by_name,
    leader_of,
    unknown,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import (
    OperationError,
    carry_out,
)

PAUSE_SECONDS = 0.3
PATHS = {"restarted": "/restart", "reloaded": "/reload", "reinitialized": "/reinitialize"}
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "list", "elements": "str", "default": []},
    "rolling": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": list(PATHS), "required": True},
    "pending_only": {"type": "bool", "default": False},
    "from_leader": {"type": "bool", "default": False},
    "wait_seconds": {"type": "float", "default": 600},
}


@dataclass(frozen=True)
class Turns:
    """Whose turn it is, in order, or why nobody's: *refusal*."""

    members: tuple[str, ...] = ()
    refusal: str = ""


def plan(cluster: dict[str, Any], params: dict[str, Any]) -> Turns:
    """Return whom the parameters concern."""
    names, state = params["name"], params["state"]
    if params["rolling"] and (names or state != "restarted"):
        return Turns(refusal="rolling: it restarts all members: leave out name, say restarted")
    if not names and not params["rolling"]:
        return Turns(refusal="name: nobody is named: name members, or say `rolling: true`")
    wrong = [said for said in (unknown(cluster, name) for name in names) if said]
    if wrong:
        return Turns(refusal=f"name: {wrong[0]}")
    members, leader = by_name(cluster), leader_of(cluster)
    if state == "reinitialized" and not leader:
        return Turns(refusal="nobody leads: there is nobody to copy from")
    if state == "reinitialized" and leader in names:
        return Turns(refusal=f"name: {leader} leads, its data are the cluster's: switch over first")
    chosen = sorted(set(names) or set(members), key=lambda name: (name == leader, name))
    if params["pending_only"]:
        chosen = [name for name in chosen if members[name].get("pending_restart")]
    return Turns(tuple(chosen))


def body_of(params: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent to a member's agent."""
    if params["state"] == "reinitialized":
        return {"from_leader": params["from_leader"]}
    # The agent looks again: the setting may be back to what it was.
    waits = params["state"] == "restarted" and params["pending_only"]
    return {"restart_pending": True} if waits else {}


def order_of(operation: dict[str, Any], turns: Turns) -> list[str]:
    """Return who was restarted, in order: as the agents did it, who know what was lowered."""
    plan = (operation.get("details") or {}).get("plan") or turns.members
    return list(dict.fromkeys(plan))


def started_at(agents: Agents, url: str) -> str:
    """Return when the PostgreSQL of the agent at *url* was started, empty if it does not say."""
    try:
        page = request_json(f"{url}/patroni", None, agents.timeout_seconds, agents.tls, (503,))
    except HttpError:
        return ""
    return str(page.get("postmaster_start_time") or "")


def take_turn(agents: Agents, name: str, params: dict[str, Any]) -> None:
    """Have it done by the agent of *name*, and wait until that one is well again.

    Raises HttpError when the agent refuses, OperationError when it takes too long.
    """
    deadline = time.monotonic() + params["wait_seconds"]
    url = agents.url_of(by_name(agents.cluster())[name])
    before = started_at(agents, url)
    try:
        path = PATHS[params["state"]]
        agents.send("POST", path, body_of(params), params["wait_seconds"], at=url)
    except (HttpBroken, HttpSilent):
        pass  # what became of it is seen below
    if params["state"] == "reloaded":
        return
    while True:
        seen = by_name(agents.cluster()).get(name, {})
        now = started_at(agents, url)
        if now not in ("", before) and is_well(seen):
            return
        if time.monotonic() >= deadline:
            why = f"it is `{seen.get('state', '')}`" if now != before else "it was not restarted"
            raise OperationError(f"{name} is not back after {params['wait_seconds']:g} s: {why}")
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**AGENT_ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    params: dict[str, Any] = dict(module.params)
    agents, done = Agents.of(params), []
    try:
        turns = plan(agents.cluster(), params)
        if turns.refusal:
            module.fail_json(msg=f"Refused: {turns.refusal}.", changed=False, members=[])
        seen: dict[str, Any] = {"members": list(turns.members)}
        if turns.members and not module.check_mode:
            if params["rolling"]:
                body = {"pending": params["pending_only"]}
                operation = carry_out(agents, "/rolling_restart", body, params["wait_seconds"])
                seen = {"members": order_of(operation, turns), "operation": operation}
            else:
                for name in turns.members:
                    take_turn(agents, name, params)
                    done.append(name)
    except (HttpError, OperationError) as error:
        module.fail_json(
            msg=f"Not all is {params['state']}: {error}", changed=bool(done), members=done
        )
    module.exit_json(changed=bool(turns.members), **seen)


if __name__ == "__main__":
    main()
