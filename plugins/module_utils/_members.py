# SPDX-License-Identifier: GPL-3.0-or-later
"""The members in the answer of `GET /cluster`. Private to the collection."""

from __future__ import annotations

from typing import Any

LEADERS = ("leader", "standby_leader")
VOTERS = ("sync_standby", "quorum_standby")


def by_name(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the members by their names."""
    return {str(member["name"]): member for member in cluster.get("members", [])}


def leader_of(cluster: dict[str, Any]) -> str:
    """Return the name of the leader, empty without one."""
    return next((n for n, m in by_name(cluster).items() if m.get("role") in LEADERS), "")


def unknown(cluster: dict[str, Any], name: str) -> str:
    """Return a sentence when the cluster has no member *name*, else nothing."""
    names = by_name(cluster)
    if name in names:
        return ""
    return f"{name} is no member of the cluster: its members are {', '.join(sorted(names))}"


def tag(member: dict[str, Any], name: str) -> Any:
    """Return the value of a tag, None where *member* does not have it."""
    return (member.get("tags") or {}).get(name)


def is_synchronous(cluster: dict[str, Any]) -> bool:
    """Whether commits wait for standbys."""
    mode = (cluster.get("pgherd") or {}).get("synchronous_mode", "off")
    return str(mode).lower() not in ("off", "false")
