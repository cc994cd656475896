# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules ask about the time after this leader: who could lead, and with which setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model import SyncKey
from pgherd.quorum import NOBODY, Acknowledging, format_names, succeed

if TYPE_CHECKING:
    from pgherd.view import View


def others_can_lead(view: View) -> bool:
    """Tell whether the cluster would find another leader that has every acknowledged commit.

    Only `/sync` can say so: without it nobody knows what the others have, and going on here loses
    less. Who in the electorate is behind is found out by their election.
    """
    cluster, sync = view.cluster, view.sync
    if cluster is None or sync is None or sync.leader != view.me:
        return False
    members = [cluster.members.get(name) for name in sync.electing.voters]
    able = [member for member in members if member is not None and member.could_lead]
    return len(able) > sync.electing.quorum


def failover_is_possible(view: View) -> bool:
    """Tell whether another member could take over, also without synchronous replication (R13)."""
    cluster = view.cluster
    if cluster is None:
        return False
    if view.sync is not None:
        return others_can_lead(view)
    limit = view.settings.maximum_lag_on_failover
    return any(
        name != view.me and each.could_lead and cluster.optime - (each.position or 0) <= limit
        for name, each in cluster.members.items()
    )


def was_succeeded(view: View) -> bool:
    """Tell whether another member has taken over since we led: `/sync` names every new leader."""
    return view.sync is not None and view.sync.leader != view.me


def someone_went_on(view: View) -> bool:
    """Tell whether another primary lives or was elected, or a newer timeline exists (R7)."""
    ours = view.instance.timeline or 0
    if view.is_unlocked and was_succeeded(view):
        return True
    return any(peer.is_primary or (peer.timeline or 0) > ours for peer in view.peers.values())


def succession(view: View) -> SyncKey:
    """Return what `/sync` must be once we are the leader.

    Also where it names nobody it is written: our timeline gets a number that no other leader gets.
    """
    if view.sync is None:
        return SyncKey("", timeline=free_timeline(view))
    _, electing = succeed(view.sync.electing, view.sync.leader, view.me)
    return SyncKey(view.me, electing, timeline=free_timeline(view))


def free_timeline(view: View) -> int:
    """Return a number that no timeline of this cluster has, as far as anybody knows."""
    known = [view.instance.timeline or 1, *(peer.timeline or 0 for peer in view.peers.values())]
    if view.cluster is not None:
        known.append(view.cluster.last_timeline)
        # A row tells which timeline ended; the one after it began then.
        known += [int(row[0]) + 1 for row in view.cluster.history]
    return max(known) + 1


def names_somebody(view: View) -> bool:
    """Tell whether `/sync` has names in it, or what cannot be read."""
    cluster = view.cluster
    if cluster is None:
        return False
    return cluster.sync is not None or bool(cluster.sync_revision and not cluster.numbered)


def nobody_named(view: View) -> SyncKey | None:
    """Return `/sync` without any names, None where there is no number to be kept in it."""
    number = view.cluster.last_timeline if view.cluster is not None else 0
    return SyncKey("", timeline=number) if number else None


def leading_names(view: View) -> str:
    """Return `synchronous_standby_names` that fits `/sync`, whose leader we are."""
    sync, settings = view.sync, view.settings
    if settings.synchronous_mode == "off":
        return ""
    acknowledging = sync.electing.fitting if sync is not None else Acknowledging()
    if acknowledging.count == 0 and settings.synchronous_mode_strict:
        acknowledging = Acknowledging(1, frozenset({NOBODY}))
    return format_names(acknowledging, any_of_them=settings.synchronous_mode == "quorum")
