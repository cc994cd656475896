# SPDX-License-Identifier: GPL-3.0-or-later
"""Cascading replication: which standby stands between the leader and us (the tag `replicatefrom`).

A standby is streamed from instead of the leader only while it is of use: it streams in the leader's
own term, so what it has is the leader's WAL, and it is not far behind us. Else the leader itself is
streamed from, and whoever names one another in a circle streams from it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgherd.model import Cluster, Instance, LeaderKey, Member

# Members publish their position every few seconds, so one that keeps up looks this far behind one
# that streams from the leader itself; it is not waited for by who has more, bytes.
BEHIND_BYTES: Final = 64 * 2**20


def relay(cluster: Cluster, me: str, named: str, instance: Instance) -> Member | None:
    """Return the member *named* if we, *me*, had better stream from it than from the leader."""
    key, member = cluster.leader, cluster.members.get(named)
    if key is None or member is None or named in (me, key.name) or not member.host:
        return None
    if me in _upstreams(cluster.members, named) or not _has_wal_of(member, key):
        return None
    # What we have came from there, if we stream from it: it cannot be behind.
    streams = instance.is_streaming and instance.upstream == member.address
    behind = instance.position - (member.position or 0)
    return member if streams or behind <= BEHIND_BYTES else None


def leaves_leader(cluster: Cluster, member: Member) -> bool:
    """Tell whether *member* is told to stream from another standby, which runs.

    If it streams from the leader it will not do so for long.
    """
    named = cluster.members.get(member.tags.replicatefrom)
    leader = cluster.leader.name if cluster.leader else None
    if named is None or named.name in (leader, member.name) or not named.is_running:
        return False
    return member.name not in _upstreams(cluster.members, named.name)


def _has_wal_of(member: Member, leader: LeaderKey) -> bool:
    """Tell whether *member* is a standby that streams the WAL of this very *leader*."""
    streams = member.is_running and member.data.get("replication_state") == "streaming"
    return streams and member.terms[:1] == (leader.create_revision,)


def _upstreams(members: Mapping[str, Member], name: str) -> Iterator[str]:
    """Yield whom *name* is told to stream from, whom that one is, and so on; nobody twice."""
    seen = {name}
    while name in members and (name := members[name].tags.replicatefrom) not in seen:
        seen.add(name)
        yield name
