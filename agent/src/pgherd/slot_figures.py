# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of slots: by `GET /patroni`, and in the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgherd.slots import failover_slots, has_failover_slots

if TYPE_CHECKING:
    from pgherd.model import Cluster, Instance, Member
    from pgherd.view import View


def slot_rows(instance: Instance) -> dict[str, dict[str, Any]]:
    """Return what is told of each slot: its kind, whether it is used, how many bytes it holds.

    A temporary slot is its session's own business.
    """
    return {
        name: {
            "type": slot.get("type"),
            "active": bool(slot.get("active")),
            "lost": slot.get("wal_status") == "lost",
            "retained_bytes": _retained(instance, slot.get("restart")),
        }
        for name, slot in sorted(instance.slots.items())
        if not slot.get("temporary")
    }


def _retained(instance: Instance, restart: int | None) -> int:
    # A standby's slot cannot be ahead of what it has, whatever it has replayed.
    return max(0, instance.position - restart) if restart is not None else 0


def missing_failover_slots(view: View) -> list[str]:
    """Return the leader's failover slots from which subscribers could not go on here yet.

    Were this standby promoted now, they would have to begin anew.
    """
    leader = view.other_leader
    never_leads = view.tags.nofailover and not has_failover_slots(view.instance)
    if leader is None or not view.instance.is_standby or never_leads:
        return []
    return sorted(_told(leader) - set(failover_slots(view)))


def lacking_slots(cluster: Cluster, member: Member) -> list[str]:
    """Return the same for another *member*, by what it has published; nothing for the leader."""
    leader = cluster.leader_member
    if leader is None or leader.name == member.name:
        return []
    return sorted(_told(leader) - _told(member))


def _told(member: Member) -> set[str]:
    """Return the failover slots that *member* says it has."""
    names = member.ours.get("failover_slots")
    return {str(name) for name in names} if isinstance(names, list) else set()
