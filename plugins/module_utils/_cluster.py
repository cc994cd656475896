# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as an agent sees it, and waiting until it is well. Private to the collection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    Tls,
    request_json,
)

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

PAUSE_SECONDS = 0.5
# What every module takes that waits for members.
ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "members": {"type": "list", "elements": "str", "default": []},
    "timeout_seconds": {"type": "float", "default": 2},
    "unit": {"type": "str", "default": "pgherd.service"},
    "tls": {"type": "dict", "default": {}},
}
LEADERS = ("leader", "standby_leader")


def good_states(member: dict[str, Any]) -> tuple[str, ...]:
    """Return the states in which *member* does what its role and its tags ask of it."""
    if member.get("role") == "leader":
        return ("running",)
    from_archive = member.get("role") == "standby_leader" or (member.get("tags") or {}).get(
        "nostream"
    )
    return ("streaming", "in archive recovery") if from_archive else ("streaming",)


def is_well(member: dict[str, Any]) -> bool:
    """Whether *member* is in one of its good states."""
    return str(member.get("state", "")) in good_states(member)


def assess(members: list[dict[str, Any]], wanted: list[str]) -> list[str]:
    """Return what keeps the cluster of *wanted* members from health, a sentence each."""
    problems = []
    known = {str(member.get("name")): member for member in members}
    leaders = [name for name, member in known.items() if member.get("role") in LEADERS]
    if len(leaders) != 1:
        problems.append(f"there are {len(leaders)} leaders" if leaders else "there is no leader")
    for name in wanted:
        if name not in known:
            problems.append(f"{name} has not shown up in the cluster")
        elif not is_well(known[name]):
            problems.append(f"{name} is `{known[name].get('state', '')}`")
    return problems


def observe(params: dict[str, Any], tls: Tls) -> dict[str, Any]:
    """Ask the agent once and return healthy, leader, members and problems."""
    try:
        answer = request_json(f"{params['url']}/cluster", None, params["timeout_seconds"], tls)
    except HttpError as error:
        problem = f"the agent at {params['url']}: {error}"
        return {"healthy": False, "leader": "", "members": [], "well": [], "problems": [problem]}
    members = answer.get("members", []) if isinstance(answer, dict) else []
    leaders = [str(member["name"]) for member in members if member.get("role") in LEADERS]
    problems = assess(members, params["members"])
    return {
        "healthy": not problems,
        "leader": leaders[0] if len(leaders) == 1 else "",
        "members": members,
        "well": [str(member["name"]) for member in members if is_well(member)],
        "problems": problems,
    }


def wait(params: dict[str, Any], tls: Tls) -> dict[str, Any]:
    """Observe until the cluster is healthy or the bound has passed."""
    deadline = time.monotonic() + params["wait_seconds"]
    while True:
        seen = observe(params, tls)
        left = deadline - time.monotonic()
        if seen["healthy"] or left <= 0:
            return seen
        time.sleep(min(PAUSE_SECONDS, left))


def journal(module: AnsibleModule, unit: str) -> str:
    """Return the last lines of the unit's journal."""
    command = ["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"]
    code, output, errors = module.run_command(command)
    return str(output if code == 0 else errors).strip()
