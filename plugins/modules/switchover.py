#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand the lead of a cluster over, now or at a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: switchover
short_description: Hand the lead of a pgherd cluster over
description:
  - Has the primary stop in good order and another member lead.
  - Nothing that was acknowledged is lost.
  - Does nothing when O(candidate) leads already.
  - What cannot be is refused before anything is changed, with the reason.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  candidate:
    description: Who is to lead; without it the best standby, and each run hands the lead over.
    type: str
    default: ""
  leader:
    description: Who has to lead now; refused when that is another one.
    type: str
    default: ""
  scheduled:
    description: When it shall happen, ISO 8601 with a time zone; at once without it.
    type: str
    default: ""
  transactions:
    description:
      - What becomes of transactions that have been under way for long.
      - They are waited for and then ended (V(cancel)), or the switchover is called off
        (V(call-off), V(wait)).
    type: str
    choices: [cancel, call-off, wait]
    default: cancel
  transaction_timeout_seconds:
    description: How long they are waited for; without it what the agents have as the default.
    type: float
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
"""

EXAMPLES = r"""
- name: Let pg2 lead
  pgherd.cluster.switchover:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008]
    username: pgherd
    password: "{{ password }}"
    candidate: pg2
"""

RETURN = r"""
leader_before:
  description: Who led before.
  returned: success
  type: str
leader:
  description: Who leads now; in a check run who would, if O(candidate) says it.
  returned: success
  type: str
seconds:
  description: How long it took, from the request to its end, by the agents' clocks.
  returned: when the lead was handed over
  type: float
operation:
  description: The operation as C(GET /operations/ID) has it.
  returned: when something was asked for
  type: dict
"""

from datetime import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import (
    VOTERS,
    by_name,
    is_synchronous,
    leader_of,
    tag,
    unknown,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import (
    OperationError,
    Plan,
    carry_out,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "candidate": {"type": "str", "default": ""},
    "leader": {"type": "str", "default": ""},
    "scheduled": {"type": "str", "default": ""},
    "transactions": {
        "type": "str",
        "choices": ["cancel", "call-off", "wait"],
        "default": "cancel",
    },
    "transaction_timeout_seconds": {"type": "float"},
    "wait_seconds": {"type": "float", "default": 120},
}
# What the agents allow a candidate to be behind where the configuration does not say.
LAG_BYTES_MAX = 1048576


def plan(cluster: dict[str, Any], config: dict[str, Any], params: dict[str, Any]) -> Plan:
    """Return what to ask for, so that the cluster is led as *params* want it."""
    leader, candidate = leader_of(cluster), params["candidate"]
    if not leader:
        return Plan("nobody leads: a failover to a named candidate may be what you want")
    wrong = unknown(cluster, candidate) if candidate else ""
    if wrong:
        return Plan(f"candidate: {wrong}")
    if candidate == leader or is_scheduled(cluster, params):
        return Plan()
    if params["leader"] and params["leader"] != leader:
        return Plan(f"leader: {params['leader']} does not lead, {leader} does")
    refusal = refuse_time(cluster, params) or (
        refuse_candidate(cluster, config, candidate) if candidate else ""
    )
    if not refusal and len(by_name(cluster)) == 1:
        refusal = f"{leader} is the only member: there is nobody to hand the lead to"
    return Plan(refusal) if refusal else Plan(body=request_of(leader, params))


def refuse_time(cluster: dict[str, Any], params: dict[str, Any]) -> str:
    """Return why it cannot be at that time, or in a paused cluster, nothing if it can."""
    if params["scheduled"]:
        try:
            at = datetime.fromisoformat(params["scheduled"])
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            return (
                f"scheduled: {params['scheduled']} is no time in ISO 8601 with a time zone, "
                "such as 2030-01-01T03:00:00+00:00"
            )
    if not cluster.get("pause"):
        return ""
    if params["scheduled"]:
        return "the cluster is paused, and nothing that is scheduled happens: resume it first"
    return "" if params["candidate"] else "the cluster is paused: name a candidate, or resume it"


def refuse_candidate(cluster: dict[str, Any], config: dict[str, Any], candidate: str) -> str:
    """Return why *candidate*, a standby, may not lead, nothing if it may."""
    member = by_name(cluster)[candidate]
    if tag(member, "nofailover"):
        return f"candidate: {candidate} must not lead (it is tagged nofailover)"
    if member.get("state") not in ("streaming", "running", "in archive recovery"):
        return f"candidate: {candidate} does not stream, it is `{member.get('state', '')}`"
    lag, most = member.get("lag"), int(config.get("maximum_lag_on_failover", LAG_BYTES_MAX))
    if not isinstance(lag, int):
        return f"candidate: nobody knows how far {candidate} is behind: is its PostgreSQL up?"
    if lag > most:
        return (
            f"candidate: {candidate} is {lag} bytes behind, and maximum_lag_on_failover allows "
            f"{most}: wait until it has caught up"
        )
    if is_synchronous(cluster) and member.get("role") not in VOTERS:
        return (
            f"candidate: no commit waits for {candidate}, so it may lack some: name one of "
            f"{', '.join(voters(cluster)) or 'those that acknowledge, once there are any'}"
        )
    return ""


def voters(cluster: dict[str, Any]) -> list[str]:
    """Return the names of those for whom commits wait."""
    return sorted(n for n, m in by_name(cluster).items() if m.get("role") in VOTERS)


def is_scheduled(cluster: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether the switchover that is asked for is planned already."""
    planned = cluster.get("scheduled_switchover") or {}
    if not params["scheduled"] or not planned.get("at"):
        return False
    try:
        same = datetime.fromisoformat(planned["at"]) == datetime.fromisoformat(params["scheduled"])
    except (TypeError, ValueError):
        return False
    return same and str(planned.get("to") or "") == params["candidate"]


def request_of(leader: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the body of `POST /switchover`."""
    body = {
        "leader": leader,
        "candidate": params["candidate"],
        "scheduled_at": params["scheduled"],
        "transactions": params["transactions"],
        "transaction_timeout": params["transaction_timeout_seconds"],
    }
    return {name: value for name, value in body.items() if value not in ("", None)}


def outcome(agents: Agents, params: dict[str, Any], leader: str, body: dict[str, Any]) -> Any:
    """Carry the switchover out and return what the module returns; raises as carry_out()."""
    operation = carry_out(agents, "/switchover", body, params["wait_seconds"])
    if operation["state"] == "scheduled":
        return {"leader": leader, "operation": operation}
    ends = [datetime.fromisoformat(operation[key]) for key in ("requested_at", "finished_at")]
    return {
        "leader": leader_of(agents.cluster()),
        "seconds": round((ends[1] - ends[0]).total_seconds(), 2),
        "operation": operation,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**AGENT_ARGUMENTS, **OPTIONS},
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    agents = Agents.of(params)
    leader = ""
    try:
        cluster = agents.cluster()
        leader = leader_of(cluster)
        wanted = plan(cluster, agents.config(), params)
        if wanted.refusal:
            module.fail_json(msg=f"Switchover refused: {wanted.refusal}.", leader_before=leader)
        if wanted.body is None:
            module.exit_json(changed=False, leader_before=leader, leader=leader)
        if module.check_mode:
            later = "" if params["scheduled"] else params["candidate"]
            seen: dict[str, Any] = {"leader": later or leader}
        else:
            seen = outcome(agents, params, leader, wanted.body)
    except (HttpError, OperationError) as error:
        module.fail_json(msg=f"Switchover failed: {error}", leader_before=leader)
    shown = {"before": f"leader: {leader}\n", "after": f"leader: {seen['leader']}\n"}
    module.exit_json(changed=True, leader_before=leader, diff=shown, **seen)


if __name__ == "__main__":
    main()
