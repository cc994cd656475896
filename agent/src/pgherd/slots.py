# SPDX-License-Identifier: GPL-3.0-or-later
"""Which replication slots this node needs, and what has to be done for that (R35 to R38).

Pure: `needs` and `plan` look at a view and say what should be; `slot_keeper` remembers and acts.

A logical subscriber must not be ahead of the next leader. On PostgreSQL 17 the slots of such
subscribers exist on every standby (failover slots), and a walsender sends no more than what all
slots in `synchronized_standby_slots` have confirmed. `waited_for` chooses these: as many of the
standbys in `synchronous_standby_names` as a commit waits for. Whatever a subscriber has got then
lies on *count* + 1 nodes, like an acknowledged commit, and the theorem of `pgherd.quorum` holds for
it: every elected leader has it. And subscribers never wait for longer than commits do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgherd.pgfiles import FAILOVER_SLOTS, slot_name
from pgherd.quorum import NOBODY, Acknowledging
from pgherd.settings import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgherd.model import Instance, Member
    from pgherd.slot_settings import PermanentSlot
    from pgherd.view import View


@dataclass(frozen=True)
class Need:
    """A slot that this node should have.

    :param plugin: of a logical slot in *database*; None for a physical one.
    :param is_used_here: a member streams from this node through it.
    :param position: up to where its user has everything, as far as is known (bytes).
    """

    name: str
    database: str | None = None
    plugin: str | None = None
    is_used_here: bool = False
    position: int | None = None

    @property
    def is_logical(self) -> bool:
        return self.plugin is not None


@dataclass(frozen=True)
class Create:
    """Create the slot; a physical one holds WAL from now on."""

    need: Need


@dataclass(frozen=True)
class Drop:
    """Drop the slot, unless somebody uses it by now."""

    name: str
    why: str


@dataclass(frozen=True)
class Advance:
    """Let the slot go of what is before *position* (bytes).

    :param database: of a logical one.
    """

    name: str
    position: int
    database: str | None = None


Step = Create | Drop | Advance


def published_positions(view: View) -> dict[str, int]:
    """Return what the leader last wrote about slots: how far each one's user is.

    While etcd is silent it is what the leader says when it asks for our promise; of a leader what
    the members have answered (R38).
    """
    if not view.store_answers:
        return dict(view.told)
    return positions(view.cluster.status.get("slots") if view.cluster else None)


def positions(slots: Any) -> dict[str, int]:
    """Return the positions by slot that somebody else has written; what is none is left out."""
    given = slots if isinstance(slots, dict) else {}
    read = {str(name): whole(at) for name, at in given.items()}
    return {name: at for name, at in read.items() if at}


def retained(view: View) -> frozenset[str]:
    """Return the members' slots that the leader wants kept, absent members' ones among them."""
    names = view.cluster.status.get("retain_slots") if view.cluster else None
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


def leads(view: View) -> bool:
    """Tell whether this member leads, be it the standby leader of a standby cluster (R44)."""
    return view.leader is not None and view.leader.name == view.me


def upstream_of(view: View, member: Member) -> str | None:
    """Return the member that *member* streams from, None when there is nobody to do so (R41)."""
    cluster, wanted = view.cluster, member.tags.replicatefrom
    leader = view.leader.name if view.leader else None
    if cluster is None or member.name == leader:
        return None
    return wanted if wanted in cluster.members and wanted != member.name else leader


def needs(view: View) -> dict[str, Need]:
    """Return the slots this node should have, by name.

    A member's slot is on the node it streams from and, while `member_slots_ttl` is not 0, on all
    others too: whoever is promoted can be streamed from at once.
    """
    cluster, settings = view.cluster, view.settings
    if cluster is None or not settings.use_slots:
        return {}
    is_everywhere = settings.member_slots_ttl > 0
    known = published_positions(view)
    found: dict[str, Need] = {}
    if is_everywhere and not leads(view):
        found = {name: Need(name, position=known.get(name)) for name in sorted(retained(view))}
    for member in cluster.members.values():
        name, is_here = slot_name(member.name), upstream_of(view, member) == view.me
        if not member.tags.nostream and (is_everywhere or is_here):
            # Where the leader's slot is, WAL is still kept for the member.
            told = None if leads(view) and view.store_answers else known.get(name)
            position = told if told is not None else member.position
            found[name] = Need(name, is_used_here=is_here, position=position)
    for slot in settings.permanent_slots:
        need = _permanent(view, slot, known.get(slot.name), found)
        if need is not None:
            found[slot.name] = need
    found.pop(slot_name(view.me), None)
    return found


def _permanent(
    view: View, slot: PermanentSlot, position: int | None, found: Mapping[str, Need]
) -> Need | None:
    follows = bool(view.settings.standby_cluster)
    if slot.cluster_type not in (None, "standby" if follows else "primary"):
        return None
    if slot.name in found:
        return None  # A member's own slot stays what it is.
    if slot.is_logical and not (view.instance.is_primary or slot.name in copied_here(view)):
        # PostgreSQL 17 has its failover slots on standbys by itself.
        return None
    return Need(slot.name, slot.database, slot.plugin, position=position)


def has_failover_slots(instance: Instance) -> bool:
    """Tell whether PostgreSQL keeps logical slots on standbys by itself."""
    return (instance.server_version or 0) >= FAILOVER_SLOTS * 10000


def copied_here(view: View) -> dict[str, PermanentSlot]:
    """Return the logical slots that are copied to this member before PostgreSQL 17, by name.

    Not where nobody will be promoted, nor where the leader is not streamed from.
    """
    may_lead = not (view.tags.nofailover or view.tags.nostream or view.instance.is_primary)
    is_done = view.instance.is_running and has_failover_slots(view.instance)
    if is_done or not may_lead or view.remote is not None or not view.settings.use_slots:
        return {}
    return {
        slot.name: slot
        for slot in view.settings.permanent_slots
        if slot.is_logical and slot.cluster_type in (None, "primary")
    }


def plan(view: View, needed: Mapping[str, Need], unneeded: Iterable[str]) -> list[Step]:
    """Return what has to be done for *needed*, and for slots that are *unneeded* for good.

    In pause nothing is dropped (R42).
    """
    steps: list[Step] = []
    for need in needed.values():
        slot = view.instance.slots.get(need.name)
        # A standby gets a logical slot when it starts (see `slot_copies`).
        makes = [] if need.is_logical and view.instance.is_standby else [Create(need)]
        if slot is None:
            steps += makes
            continue
        why = _flaw(view, need, slot)
        if why and not is_busy(slot) and not view.settings.pause:
            steps += [Drop(need.name, why), *makes]
            continue
        target = _target(view, need, slot)
        if target is not None:
            steps.append(Advance(need.name, target, need.database))
    if not view.settings.pause:
        steps += [Drop(name, "nobody needs it any more") for name in sorted(unneeded)]
    return steps


def is_busy(slot: Mapping[str, Any]) -> bool:
    """Tell whether somebody uses the slot now; a temporary one belongs to its session."""
    return bool(slot.get("active") or slot.get("temporary"))


def _flaw(view: View, need: Need, slot: Mapping[str, Any]) -> str:
    """Return why an existing slot has to be made anew, empty when it is as it should be.

    A logical slot that PostgreSQL has invalidated stays: its subscriber must learn that it has
    missed changes, and would go on without them over a new one.
    """
    if need.is_logical:
        have = (slot.get("type"), slot.get("database"), slot.get("plugin"))
        wanted = ("logical", need.database, need.plugin)
        if view.instance.is_standby and slot.get("wal_status") == "lost":
            return "PostgreSQL has invalidated this copy"
        return "" if have == wanted else "it is another kind of slot than `slots` says"
    if slot.get("type") != "physical":
        return "it is another kind of slot than is needed"
    if slot.get("wal_status") == "lost":
        return "PostgreSQL has removed the WAL it was to hold"
    if slot.get("xmin") is not None and not need.is_used_here and not _is_consumed(view, need):
        return "nobody uses it here and it holds back vacuum"
    return ""


def _target(view: View, need: Need, slot: Mapping[str, Any]) -> int | None:
    """Return where to move a slot that nobody here moves; None to leave it where it is."""
    if need.is_logical and not view.instance.is_standby:
        return None
    restart = slot.get("confirmed") if need.is_logical else slot.get("restart")
    if need.is_used_here or is_busy(slot) or restart is None:
        return None
    ours = view.instance.location if view.instance.is_primary else view.instance.replayed
    if need.position is None or _is_consumed(view, need):
        return None
    target = min(need.position, ours or 0)
    return target if target > restart else None


def _is_consumed(view: View, need: Need) -> bool:
    """Tell whether it is a permanent slot of a leader: only whoever uses it moves it."""
    is_permanent = any(slot.name == need.name for slot in view.settings.permanent_slots)
    return is_permanent and leads(view)


def failover_slots(view: View) -> list[str]:
    """Return the logical slots from which subscribers can go on here, now or once it is promoted.

    A temporary one has not caught up with the primary's yet, and would go with the promotion.
    """
    instance = view.instance
    permanent = {slot.name for slot in view.settings.permanent_slots if slot.is_logical}
    ours = {name for name, slot in instance.slots.items() if slot.get("failover")}
    copies = {name for name in ours if instance.slots[name].get("synced")}
    if not has_failover_slots(instance):
        ours |= permanent & instance.slots.keys()
        copies |= ours & view.copied_slots
    return sorted(
        name
        for name in (ours if instance.is_primary else copies)
        if not instance.slots[name].get("temporary")
        and instance.slots[name].get("wal_status") != "lost"
    )


def in_the_way(view: View, name: str, slot: Mapping[str, Any]) -> bool:
    """Tell whether a standby's logical slot keeps PostgreSQL from copying the leader's.

    It is left from a time as primary. The synchronization of failover slots ends with an error
    where a slot of that name is none that it has made itself (slotsync.c).
    """
    if not view.instance.is_standby or not _is_left_over(slot):
        return False
    leader = view.cluster.leader_member if view.cluster else None
    theirs = leader.ours.get("failover_slots") if leader else None
    return isinstance(theirs, list) and name in theirs


def _is_left_over(slot: Mapping[str, Any]) -> bool:
    is_ours = slot.get("failover") and not slot.get("synced")
    return bool(slot.get("type") == "logical" and is_ours)


def may_be_dropped(view: View, slot: Mapping[str, Any], *, was_ours: bool) -> bool:
    """Tell whether a slot that nobody needs may be dropped at all.

    Never a logical one that is not ours: it may be all that a subscriber's data hang on. But what
    a primary's subscribers used is of no use on a standby, and would hold WAL for good. Copies of
    failover slots are PostgreSQL's own business.
    """
    if view.instance.is_standby and slot.get("synced"):
        return False
    if slot.get("type") == "physical" or was_ours:
        return True
    return view.instance.is_standby and _is_left_over(slot)


def status(view: View, needed: Mapping[str, Need], kept: Iterable[str]) -> dict[str, Any]:
    """Return the `slots` and `retain_slots` of ``/status`` as Patroni writes them.

    :param kept: slots of absent members that are to be kept.
    """
    settings, have = view.settings, view.instance.slots
    if not settings.use_slots:
        return {}
    is_everywhere = settings.member_slots_ttl > 0
    permanent = {slot.name for slot in settings.permanent_slots}
    names = ({*needed, *kept} if is_everywhere else set()) | (permanent & needed.keys())
    positions = {
        name: have[name].get("confirmed") or have[name].get("restart")
        for name in sorted(names & have.keys())
    }
    # That a slot has been there must not be forgotten while it is missing (see `slot_keeper`).
    for name in [name for name, need in needed.items() if need.is_logical and name not in have]:
        positions[name] = needed[name].position
    if is_everywhere:
        positions[slot_name(view.me)] = view.instance.position or None
    known = {name: at for name, at in positions.items() if at is not None}
    members = {slot_name(view.me), *needed, *kept} - permanent if is_everywhere else set()
    written: dict[str, Any] = {"slots": known} if known else {}
    return written | ({"retain_slots": sorted(members)} if members else {})


def shared_positions(view: View) -> dict[str, int]:
    """Return what a leader tells the members of slots while etcd is silent."""
    return positions(status(view, needs(view), ()).get("slots"))


def candidates(view: View) -> list[str]:
    """Return the standbys that stream from this primary and move, the furthest ahead first.

    Whom subscribers wait for already comes before one that is a little ahead: no change without
    reason.
    """
    members = view.cluster.members if view.cluster else {}
    having = view.instance.subscribers_wait_for or frozenset()
    limit = view.settings.maximum_lag_on_failover
    found = []
    for row in view.instance.replication:
        name, flush = str(row.get("application_name")), row.get("flush")
        member = members.get(name)
        if member is None or name == view.me or name in view.stalled or flush is None:
            continue
        behind = (view.instance.location or 0) - flush
        if row.get("state") == "streaming" and (view.sync is not None or behind <= limit):
            rank = (not member.could_lead, slot_name(name) not in having, -flush, name)
            found.append((rank, member))
    return [member.name for _, member in sorted(found, key=lambda pair: pair[0])]


def electable(view: View, names: Iterable[str]) -> list[str]:
    """Return those of *names* that may lead."""
    members = view.cluster.members if view.cluster else {}
    return [name for name in names if name in members and members[name].could_lead]


def waited_for(
    acknowledging: Acknowledging, streaming: Sequence[str], *, anybody_may_lead: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the members whose slots subscribers wait for; see the module.

    :param acknowledging: whom commits wait for.
    :param streaming: members that stream and move, best first.
    :param anybody_may_lead: without synchronous replication any standby that can lead may be
        elected: subscribers wait for all of these. Nothing is promised then, as for commits.
    """
    if acknowledging.count == 0:
        return tuple(sorted(anybody_may_lead))
    standbys = acknowledging.standbys - {NOBODY}
    alive = [name for name in streaming if name in standbys]
    others = sorted(standbys - set(alive))
    return tuple(sorted([*alive, *others][: acknowledging.count]))
