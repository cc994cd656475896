# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for synchronous replication: whose acknowledgement a leader waits for, and being alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgherd.actions import Action, Demote, Lead, ReleaseKey, SetSyncNames, WriteSync
from pgherd.model import Member, SyncKey
from pgherd.quorum import (
    NOBODY,
    Acknowledging,
    Electing,
    format_names,
    holds,
    next_step,
    parse_names,
)
from pgherd.relays import leaves_leader
from pgherd.rules.rule import Rule
from pgherd.rules.successors import names_somebody, nobody_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pgherd.view import View

# A leader without any standby asks those that live whom they reach, and goes on alone when they
# have answered and nobody is back: not so long that clients notice much. Seconds.
ASK_AFTER_SECONDS: Final = 0.2
ALONE_SECONDS: Final = 0.8
# Where packets vanish an answer takes a while: they wait for one another first. Seconds.
ANSWER_SECONDS: Final = 2.5
# After a promotion the others need a moment to find the new leader. Seconds.
ASK_AFTER_PROMOTION_SECONDS: Final = 1.5
AFTER_PROMOTION_SECONDS: Final = 3.0


def _may_acknowledge(view: View, member: Member) -> bool:
    """Tell whether commits may wait for *member*: not for one that is to stream from another (R30).

    Where that other one is gone it streams from us, and counts.
    """
    tags = member.tags
    if member.name == view.me or tags.nosync or tags.nostream or view.cluster is None:
        return False
    return not leaves_leader(view.cluster, member)


def standbys(view: View) -> list[tuple[Member, Mapping[str, Any]]]:
    """Return the members that could acknowledge commits now, with their replication rows."""
    members = view.cluster.members if view.cluster else {}
    limit = view.settings.maximum_lag_on_syncnode
    found = []
    for row in view.instance.replication:
        member = members.get(str(row.get("application_name")))
        if member is None or not _may_acknowledge(view, member):
            continue
        behind = (view.instance.location or 0) - (row.get("flush") or 0)
        streams = row.get("state") == "streaming" and member.name not in view.stalled
        if streams and row.get("flush") is not None and (limit < 0 or behind <= limit):
            found.append((member, row))
    return found


def _chosen(view: View) -> frozenset[str]:
    """Return the standbys commits shall wait for (R30, R31).

    Members that may not lead acknowledge only when there are not enough others: what only they
    have could not be elected.
    """
    settings, having = view.settings, view.instance.acknowledging.standbys
    # Who acknowledges already stays before one that is a little ahead: no change without reason.
    ranked = sorted(
        standbys(view),
        key=lambda found: (
            found[0].tags.nofailover,
            -found[0].tags.sync_priority,
            found[0].name not in having,
            -found[1]["flush"],
            found[0].name,
        ),
    )
    count = settings.synchronous_node_count
    if settings.synchronous_mode == "quorum":
        count = max(count, sum(not member.tags.nofailover for member, _ in ranked))
    return frozenset(member.name for member, _ in ranked[:count])


def _awaited(view: View) -> list[Member]:
    """Return the members that live and could acknowledge again in a moment."""
    members = view.cluster.members if view.cluster else {}
    return [
        member
        for member in members.values()
        if member.state in ("running", "starting") and _may_acknowledge(view, member)
    ]


def _is_alone(view: View) -> bool:
    return view.settings.synchronous_mode != "off" and view.alone_since is not None


def _waits_for_others(view: View) -> bool:
    """Tell whether a leader that is alone still holds its breath."""
    awaited = _awaited(view)
    if view.alone_since is None or not awaited:
        return False
    asked = view.sync.revision if view.sync is not None and view.sync.isolated else None
    answered = all(member.ours.get("asked") == asked for member in awaited)
    limit = ALONE_SECONDS if asked is not None and answered else ANSWER_SECONDS
    if _has_just_promoted(view):
        limit = AFTER_PROMOTION_SECONDS
    return view.now - view.alone_since < limit


def _has_just_promoted(view: View) -> bool:
    """Tell whether this primary has never had a standby."""
    since = view.alone_since
    return since is not None and view.promoted_at is not None and since <= view.promoted_at


def _target(view: View, sync: SyncKey) -> tuple[Acknowledging, Electing]:
    have, settings = view.instance.acknowledging, view.settings
    chosen = _chosen(view)
    if not chosen:
        if have.count == 0 and settings.synchronous_mode_strict:
            return Acknowledging(1, frozenset({NOBODY})), Electing()
        if settings.synchronous_mode_strict or _waits_for_others(view):
            return have, sync.electing
        return Acknowledging(), Electing()
    count = min(settings.synchronous_node_count, len(chosen))
    return Acknowledging(count, chosen), Electing(chosen, len(chosen) - count)


def change(view: View) -> Action | None:
    """Return the next single step towards what is asked for, None when all is as it should be."""
    mode, sync, have = view.settings.synchronous_mode, view.sync, view.instance.acknowledging
    if mode == "off":
        if names_somebody(view):
            return WriteSync(nobody_named(view))
        return SetSyncNames("") if view.instance.sync_names else None
    if sync is None or sync.leader != view.me:
        # Of nobody else is it known that it has every commit.
        return WriteSync(SyncKey(view.me, timeline=_highest(view)))
    if not holds(sync.electing, have) and sync.electing != Electing():
        # Somebody else has changed the names. Electing nobody but us is always safe.
        return WriteSync(replace(sync, electing=Electing()))
    if _is_under_way(view, sync):
        return SetSyncNames(view.names_asked or "")
    any_of_them = mode == "quorum"
    want = _target(view, sync)
    step = next_step((have, sync.electing), want, settled=view.settled)
    if isinstance(step, Electing):
        return WriteSync(replace(sync, electing=step))
    if isinstance(step, Acknowledging):
        return SetSyncNames(format_names(step, any_of_them=any_of_them))
    if view.instance.sync_names != format_names(have, any_of_them=any_of_them):
        return SetSyncNames(format_names(have, any_of_them=any_of_them))
    if sync.timeline < (view.instance.timeline or 0):
        return WriteSync(replace(sync, timeline=view.instance.timeline or 0))
    if sync.isolated and not _is_alone(view):
        return WriteSync(replace(sync, isolated=False))
    return None


def _is_under_way(view: View, sync: SyncKey) -> bool:
    """Tell whether names that we wrote are not in force yet: no other step may come before."""
    asked = view.names_asked
    if asked is None or asked == view.instance.sync_names:
        return False
    return holds(sync.electing, parse_names(asked))


def _highest(view: View) -> int:
    """Return the highest number of a timeline that was given or taken."""
    given = view.cluster.last_timeline if view.cluster is not None else 0
    return max(given, view.instance.timeline or 0)


def _leads(view: View) -> bool:
    return view.instance.is_primary and view.holds_key and view.store_answers


def _asks(view: View) -> bool:
    sync = view.sync
    if sync is None or sync.leader != view.me or view.alone_since is None:
        return False
    patience = ASK_AFTER_PROMOTION_SECONDS if _has_just_promoted(view) else ASK_AFTER_SECONDS
    waited = view.now - view.alone_since >= patience
    return _leads(view) and _is_alone(view) and waited and bool(_awaited(view))


def other_side(view: View) -> frozenset[str]:
    """Return the voters that reach one another and not this leader, which has asked them.

    What they answer stands in their member keys, with the revision of the question.
    """
    sync, cluster = view.sync, view.cluster
    if sync is None or cluster is None or not sync.isolated:
        return frozenset()
    reach: dict[str, set[str]] = {}
    for name in sync.electing.voters:
        member = cluster.members.get(name)
        if member is None or not member.could_lead or member.ours.get("asked") != sync.revision:
            continue
        reach[name] = set(member.ours.get("reach") or ())
    side = {name for name, peers in reach.items() if view.me not in peers}
    while True:
        apart = {name: side - {name} - reach[name] for name in side}
        worst = max(side, key=lambda name: (len(apart[name]), name), default=None)
        if worst is None or not apart[worst]:
            return frozenset(side)
        side.remove(worst)


def _is_cut_off(view: View) -> bool:
    sync = view.sync
    # A side of one would have no second copy either, and would hand the key back in turn.
    wanted = max(2, sync.electing.quorum + 1) if sync is not None else 0
    found = sync is not None and len(other_side(view)) >= wanted
    return found and _asks(view) and not view.settings.pause


def _ask(view: View) -> tuple[Action, ...]:
    assert view.sync is not None
    return (WriteSync(replace(view.sync, isolated=True)), Lead())


def _adjust(view: View) -> tuple[Action, ...]:
    action = change(view)
    return (action, Lead()) if action is not None else (Lead(),)


RULES: Final = (
    Rule(
        "hand_over_cut_off",
        _is_cut_off,
        lambda view: (Demote(), ReleaseKey()),
        "no standby reaches this leader and they reach one another: their side shall lead",
    ),
    Rule(
        "ask_others",
        lambda view: _asks(view) and view.sync is not None and not view.sync.isolated,
        _ask,
        "this leader has lost its standbys: it asks them whom they reach",
    ),
    Rule(
        "adjust_sync",
        lambda view: _leads(view) and change(view) is not None,
        _adjust,
        "who acknowledges commits, or who may be elected, changes by one safe step",
    ),
    Rule(
        "alone",
        lambda view: _leads(view) and _is_alone(view) and view.instance.acknowledging.count > 0,
        lambda view: (Lead(),),
        "no standby acknowledges: commits wait for one, or for the decision to go on alone",
    ),
)
