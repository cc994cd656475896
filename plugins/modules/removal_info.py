#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell whether a member may leave its cluster for good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: removal_info
short_description: Assert that a member may leave the cluster
description:
  - Asks the agents and fails with a sentence for each reason why the member has to stay for now.
  - The others have to be well, and commits must not lose the standbys that they wait for.
  - A member that is gone already may be removed while others are gone, too.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  member:
    description: Name of the member.
    type: str
    required: true
  members:
    description: Names of all members that the cluster is to have, this one among them.
    type: list
    elements: str
    required: true
  stoppable:
    description: Whether what runs on the member's host can be stopped.
    type: bool
    default: true
  wait_seconds:
    description: How long to wait until nothing is in the way; V(0) looks once.
    type: float
    default: 0
attributes:
  check_mode:
    description: Reads only, so a check run is a run; it does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: See whether pg3 can be spared
  pgherd.cluster.removal_info:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008, http://10.0.0.3:8008]
    member: pg3
    members: [pg1, pg2, pg3]
"""

RETURN = r"""
leader:
  description: Name of the leader, empty without one.
  returned: always
  type: str
present:
  description: Whether the member is in the cluster.
  returned: always
  type: bool
problems:
  description: Why it has to stay, a sentence each.
  returned: always
  type: list
  elements: str
"""

import time
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._health import (
    Allowed,
    Seen,
    examine,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import (
    LEADERS,
    leader_of,
    tag,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._observe import observe

PAUSE_SECONDS = 0.5
CHECKS = ["leader", "members", "timeline", "paused"]
OFF = ("off", "false", "none", "")


@dataclass(frozen=True)
class Asked:
    """Who is to leave, who is to be left, and whether what runs there can be stopped."""

    member: str
    others: tuple[str, ...]
    stoppable: bool = True


def without(seen: Seen, name: str) -> Seen:
    """Return *seen* without the member *name*, however it is; a leader stays, for it matters."""
    members = [
        member
        for member in seen.cluster.get("members", [])
        if member.get("name") != name or member.get("role") in LEADERS
    ]
    pages = {each: page for each, page in seen.pages.items() if each != name}
    return Seen({**seen.cluster, "members": members}, pages)


def too_few(seen: Seen, config: dict[str, Any], asked: Asked) -> str:
    """Return a sentence when commits wait for more standbys than would be left, else nothing."""
    mode = str(config.get("synchronous_mode") or "off").lower()
    if mode in OFF:
        return ""
    needed = int(config.get("synchronous_node_count") or 1)
    left = [
        name
        for name, member in sorted(seen.members.items())
        if name != asked.member and not tag(member, "nosync")
    ]
    # One of those that are left leads.
    standbys = len([name for name in left if name != leader_of(seen.cluster)])
    if leader_of(seen.cluster) == asked.member:
        standbys = max(len(left) - 1, 0)
    if standbys >= needed:
        return ""
    return (
        f"commits wait for {needed} of the standbys (synchronous_mode is {mode}), and without "
        f"{asked.member} {standbys} would be left: add a host first, or have fewer waited for "
        "(synchronous_node_count, synchronous_mode in the dynamic configuration), which lets a "
        "failover lose commits"
    )


def problems(seen: Seen, config: dict[str, Any], asked: Asked) -> list[str]:
    """Return why the member has to stay, a sentence each."""
    if not asked.others:
        return [f"{asked.member} is the last member: to end the cluster run pgherd.cluster.stop"]
    present = asked.member in seen.members
    if present and not asked.stoppable:
        why = f"{asked.member} is in the cluster, and Ansible does not reach its host"
        remedy = "Mend the connection, leave --limit out, or switch the host off"
        return [f"{why}: what runs there cannot be stopped and would go on. {remedy}"]
    # Who has lost several hosts must be able to begin with one of them.
    wanted = asked.others if present else ()
    said = examine(without(seen, asked.member), Allowed(members=wanted), CHECKS)
    found = [sentence for sentences in said.values() for sentence in sentences]
    return [*found, *filter(None, [too_few(seen, config, asked)])]


def look(agents: Agents, asked: Asked) -> dict[str, Any]:
    """Look once and return what the module returns; an agent that is silent is a problem."""
    try:
        seen, config = observe(agents), agents.config()
    except HttpError as error:
        return {"problems": [str(error)], "leader": "", "present": False}
    return {
        "problems": problems(seen, config, asked),
        "leader": leader_of(seen.cluster),
        "present": asked.member in seen.members,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **AGENT_ARGUMENTS,
            "member": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "str", "required": True},
            "stoppable": {"type": "bool", "default": True},
            "wait_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    others = tuple(name for name in params["members"] if name != params["member"])
    asked = Asked(params["member"], others, params["stoppable"])
    agents = Agents.of(params)
    deadline = time.monotonic() + (0 if module.check_mode else params["wait_seconds"])
    while True:
        found = look(agents, asked)
        if not found["problems"] or time.monotonic() >= deadline:
            break
        time.sleep(PAUSE_SECONDS)
    if found["problems"]:
        said = "; ".join(found["problems"])
        module.fail_json(
            msg=f"{asked.member} cannot be removed now: {said}. Nothing was changed.",
            changed=False,
            **found,
        )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
