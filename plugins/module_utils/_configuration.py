# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of the dynamic configuration, and what members tell of it. Private to the collection.

A member's plan is the answer of its agent's `POST /config_plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# What a change comes to on a member; of several members the one that counts most is told.
EFFECTS = ("none", "agent", "unknown", "reload", "restart")


@dataclass(frozen=True)
class Told:
    """What the members told of a change that is to be made.

    plans: by member. silent: why a member told nothing. refusals: the agents' own sentences.
    """

    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()


def laid_on(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return *base* with *patch* laid on it as the agents do: null takes a key out."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            old = merged.get(key)
            merged[key] = laid_on(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def patch_of(
    current: dict[str, Any], config: dict[str, Any], timings: dict[str, Any]
) -> dict[str, Any]:
    """Return what has to be asked for: *config*, and of *timings* what *current* holds."""
    given = current.get("pgherd")
    held = given if isinstance(given, dict) else {}
    ours = {name: value for name, value in timings.items() if name in held}
    if not ours or config.get("pgherd", {}) is None:
        return config
    return {**config, "pgherd": {**ours, **config.get("pgherd", {})}}


def changes_of(plans: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each change once, with its effect where that is greatest, and whom it restarts."""
    found: dict[str, dict[str, Any]] = {}
    for name, plan in sorted(plans.items()):
        for change in plan["changes"]:
            known = found.setdefault(change["key"], {**change, "restarts": []})
            known["effect"] = max(known["effect"], change["effect"], key=EFFECTS.index)
            if change["effect"] == "restart":
                known["restarts"].append(name)
    return list(found.values())


def turns(plans: dict[str, dict[str, Any]], leader: str) -> list[str]:
    """Return who would be restarted, in the order of their turns; the leader's word on it counts.

    Where settings are raised and others lowered that standbys need, a standby has two turns.
    """
    lead = plans.get(leader, {})
    everybody = lead.get("restart_all", False)
    chosen = sorted(name for name, plan in plans.items() if everybody or plan["pending_restart"])
    those = {
        "standbys": [name for name in chosen if name != leader],
        "leader": [name for name in chosen if name == leader],
    }
    return [
        name for stage in lead.get("restart_order", ("standbys", "leader")) for name in those[stage]
    ]


def in_place(told: Told, leader: str, config: dict[str, Any]) -> bool:
    """Whether the leader would be restarted without handing the lead over, with *config*."""
    lowered = told.plans.get(leader, {}).get("restart_all", False)
    alone = {*told.plans, *told.silent} == {leader}
    return bool(lowered or alone or config.get("standby_cluster"))


def outcome(told: Told, leader: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return what the module tells of the change, made or not, that makes *config*."""
    waits = {
        name: plan["pending_restart"]
        for name, plan in sorted(told.plans.items())
        if plan["pending_restart"]
    }
    return {
        "changes": changes_of(told.plans),
        "restart_members": list(waits),
        "restart_reasons": waits,
        "restart_order": turns(told.plans, leader),
        "restart_in_place": in_place(told, leader, config),
        "leader": leader,
        "silent": told.silent,
    }
