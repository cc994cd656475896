# SPDX-License-Identifier: GPL-3.0-or-later
"""Which drills are meant, and whom each breaks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drill
short_description: Which drills are meant, and whom each breaks
description: The drill itself, or those of C(all). An unknown name is refused with the list of all.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description: Name of a drill, or C(all).
    type: str
    required: true
  every:
    description: What C(all) stands for.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Run one after the other
  ansible.builtin.debug:
    msg: "{{ 'all' | pgherd.cluster.drill_names(drill_all) | join(', ') }}"
"""

RETURN = r"""
_value:
  description: Names of drills.
  type: list
  elements: str
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults import FAULTS, fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def drill_names(name: str, every: Sequence[str]) -> list[str]:
    """Return the drills that *name* stands for. Raises AnsibleFilterError for unknown ones."""
    names = [str(one) for one in every] if name == "all" else [name]
    try:
        for one in names:
            fault(one)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return names


def drill_target(name: str, seen: Mapping[str, Any]) -> str:
    """Return the host that the drill *name* breaks; raises AnsibleFilterError when there is none.

    *seen* has `leader`, `balancers` (who has the address first), `etcd` (host to its answer about
    itself, `member_id` and `leader`) and `wanted`, the host that a person named, or nothing.
    """
    kind = fault(name).target
    answers: Mapping[str, Mapping[str, str]] = seen["etcd"]
    leads = {host: say.get("leader") == say.get("member_id") for host, say in answers.items()}
    of_kind = {
        "leader": seen["members"],
        "balancer": seen["balancers"],
        "etcd_leader": [host for host, leader in leads.items() if leader],
        "etcd_follower": [host for host, leader in leads.items() if not leader],
    }
    possible = [str(host) for host in of_kind[kind]]
    wanted = str(seen["wanted"])
    if not possible:
        raise AnsibleFilterError(f"drill: {name} has nobody to break here: no {kind} was found")
    if wanted and wanted not in possible:
        raise AnsibleFilterError(
            f"drill_target: {wanted} cannot be the target of {name}; "
            f"choose of {', '.join(possible)}"
        )
    return wanted or (str(seen["leader"]) if kind == "leader" else possible[0])


def drill_texts(_nothing: object) -> dict[str, str]:
    """Return what happens in each drill, by its name."""
    return {name: one.text for name, one in FAULTS.items()}


def drill_etcd(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return `member_id` and `leader` of what a member of etcd says of itself."""
    header: Mapping[str, Any] = answer.get("header", {})
    return {"member_id": str(header.get("member_id", "")), "leader": str(answer.get("leader", ""))}


def drill_member(
    name: str, addresses: Mapping[str, str], port: int, agents: Mapping[str, str]
) -> dict[str, Any]:
    """Return where the probe finds the member *name*: `host`, `port` and `agent`."""
    return {"host": addresses[name], "port": int(port), "agent": f"{agents[name]}/patroni"}


def drill_wall(start: str) -> float:
    """Return seconds of the epoch of what Ansible says of a command's `start`, local time."""
    return datetime.fromisoformat(start).timestamp()


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "drill_etcd": drill_etcd, "drill_member": drill_member, "drill_names": drill_names,
            "drill_target": drill_target, "drill_texts": drill_texts, "drill_wall": drill_wall,
        }  # fmt: skip
