# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as an agent sees it, and waiting until it is well. Private to the collection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import LEADERS

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents

PAUSE_SECONDS = 0.5


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


def describe(cluster: dict[str, Any]) -> dict[str, Any]:
    """Return what the answer of `GET /cluster` says, in a module's words."""
    members = cluster.get("members", [])
    leaders = [member for member in members if member.get("role") in LEADERS]
    leader = leaders[0] if len(leaders) == 1 else {}
    return {
        "leader": str(leader.get("name", "")),
        "timeline": leader.get("timeline"),
        "paused": bool(cluster.get("pause")),
        "members": members,
        "well": [str(member["name"]) for member in members if is_well(member)],
        "lag_bytes": {
            str(member["name"]): lag_bytes(member)
            for member in members
            if member.get("role") not in LEADERS
        },
    }


def lag_bytes(member: dict[str, Any]) -> int | None:
    """Return how many bytes of WAL *member* has yet to apply, None when nobody knows."""
    lag = member.get("lag")
    return lag if isinstance(lag, int) else None


def observe(agents: Agents, wanted: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask once and return the answer, and what it says, with healthy and problems.

    The answer is empty when no agent gives one.
    """
    try:
        cluster = agents.cluster()
    except HttpError as error:
        return {}, {"healthy": False, "problems": [str(error)], **describe({})}
    problems = assess(cluster.get("members", []), wanted)
    return cluster, {"healthy": not problems, "problems": problems, **describe(cluster)}


def wait(
    agents: Agents, wanted: list[str], wait_seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Observe until the cluster is healthy or the bound has passed; return as observe()."""
    deadline = time.monotonic() + wait_seconds
    while True:
        cluster, seen = observe(agents, wanted)
        left = deadline - time.monotonic()
        if seen["healthy"] or left <= 0:
            return cluster, seen
        time.sleep(min(PAUSE_SECONDS, left))


def journal(module: AnsibleModule, unit: str) -> str:
    """Return the last lines of the unit's journal."""
    command = ["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"]
    code, output, errors = module.run_command(command)
    return str(output if code == 0 else errors).strip()
