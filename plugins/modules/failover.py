#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a member lead although the leader is gone, or although it may lack commits."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover
short_description: Have a member of a pgherd cluster lead that may lack commits
description:
  - For a cluster without a leader whose standbys wait for somebody who does not come back.
  - B(Commits that only others have are lost.)
  - With a healthy leader use M(pgherd.cluster.switchover).
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  candidate:
    description: Who is to lead.
    type: str
    required: true
  force:
    description: Also when there is a leader that runs.
    type: bool
    default: false
  wait_seconds:
    description: How long to wait for the outcome.
    type: float
    default: 120
attributes:
  check_mode:
    description: Says what would be done, or why it would be refused.
    support: full
  diff_mode:
    description: Shows who leads before and after.
    support: full
seealso:
  - module: pgherd.cluster.switchover
"""

EXAMPLES = r"""
- name: Go on with pg3, the only host that is left
  pgherd.cluster.failover:
    agents: [http://10.0.0.3:8008]
    username: pgherd
    password: "{{ password }}"
    candidate: pg3
"""

RETURN = r"""
leader_before:
  description: Who led before, empty when nobody did.
  returned: success
  type: str
leader:
  description: Who leads now.
  returned: success
  type: str
operation:
  description: The operation as C(GET /operations/ID) has it.
  returned: when something was asked for
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import (
    by_name,
    leader_of,
    tag,
    unknown,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import (
    OperationError,
    Plan,
    carry_out,
)


def plan(cluster: dict[str, Any], candidate: str, force: bool) -> Plan:
    """Return what to ask for, so that *candidate* leads."""
    wrong = unknown(cluster, candidate)
    if wrong:
        return Plan(f"candidate: {wrong}")
    leader = leader_of(cluster)
    if candidate == leader:
        return Plan()
    members = by_name(cluster)
    if leader and members[leader].get("state") == "running" and not force:
        return Plan(
            f"{leader} leads and runs: a switchover loses nothing; `force: true` if you mean it"
        )
    if tag(members[candidate], "nofailover"):
        return Plan(f"candidate: {candidate} must not lead (it is tagged nofailover)")
    return Plan(body={"candidate": candidate})


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **AGENT_ARGUMENTS,
            "candidate": {"type": "str", "required": True},
            "force": {"type": "bool", "default": False},
            "wait_seconds": {"type": "float", "default": 120},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    agents, candidate = Agents.of(params), params["candidate"]
    leader, seen = "", {}
    try:
        cluster = agents.cluster()
        leader = leader_of(cluster)
        wanted = plan(cluster, candidate, params["force"])
        if wanted.refusal:
            module.fail_json(msg=f"Failover refused: {wanted.refusal}.", leader_before=leader)
        if wanted.body is None:
            module.exit_json(changed=False, leader_before=leader, leader=leader)
        if not module.check_mode:
            seen["operation"] = carry_out(agents, "/failover", wanted.body, params["wait_seconds"])
    except (HttpError, OperationError) as error:
        module.fail_json(msg=f"Failover failed: {error}", leader_before=leader)
    shown = {"before": f"leader: {leader}\n", "after": f"leader: {candidate}\n"}
    module.exit_json(changed=True, leader_before=leader, leader=candidate, diff=shown, **seen)


if __name__ == "__main__":
    main()
