# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running standby of a cluster that has a leader."""

from dataclasses import replace
from typing import Final

from pgherd.actions import (
    Action,
    BeginRestart,
    KeepSlots,
    Lead,
    Promote,
    ReleaseKey,
    StopReceiving,
    WriteSync,
)
from pgherd.model import SyncKey
from pgherd.rules.rule import Rule
from pgherd.rules.successors import (
    free_timeline,
    leading_names,
    names_somebody,
    nobody_named,
    was_succeeded,
)
from pgherd.rules.towards import follow, points_elsewhere, rejoin
from pgherd.view import View


def _follows(view: View) -> bool:
    return view.instance.is_standby and view.origin is not None


def _leads_standbys(view: View) -> bool:
    """Tell whether this is the leader of a standby cluster."""
    return _follows(view) and view.holds_key and view.remote is not None


def _is_diverged(view: View) -> bool:
    # pg_rewind reads the source's control file, which names the new timeline only after the first
    # checkpoint that follows the promotion (R26).
    origin = view.origin
    ready = origin is not None and origin.is_settled_primary
    return _follows(view) and view.diverged is True and ready


def _streams_against_tag(view: View) -> bool:
    return view.tags.nostream and _follows(view) and view.instance.receives


def _leading(view: View) -> tuple[Action, ...]:
    """Ask for a leader's upkeep, of the leader of a standby cluster."""
    if not _leads_standbys(view):
        return ()
    return (WriteSync(nobody_named(view)), Lead()) if names_somebody(view) else (Lead(),)


def _may_promote(view: View) -> bool:
    leads = view.instance.is_standby and view.holds_key and view.store_answers
    return leads and view.remote is None


def _begins_sync(view: View) -> bool:
    wanted = view.settings.synchronous_mode != "off"
    return _may_promote(view) and wanted and view.sync is None


def _number(view: View) -> int:
    """Return the number that our timeline gets: the last one given, which was given to us."""
    return view.cluster.last_timeline if view.cluster is not None else 0


def _lacks_number(view: View) -> bool:
    return _may_promote(view) and _number(view) <= (view.instance.timeline or 0)


def _reserve(view: View) -> tuple[Action, ...]:
    sync = view.sync if view.sync is not None else SyncKey("")
    return (WriteSync(replace(sync, timeline=free_timeline(view))),)


def _copies_slots(view: View) -> bool:
    """Tell whether it is our turn to get the leader's logical slots by a restart.

    One standby at a time, the first by name, and only while all others run: commits need them.
    """
    leader, cluster = view.other_leader, view.cluster
    if not (view.slots_to_copy and _follows(view) and view.store_answers) or cluster is None:
        return False
    if view.restart is not None or view.handover is not None or view.settings.pause:
        return False
    own = cluster.members.get(view.me)
    is_known = own is not None and bool(own.ours.get("slots_to_copy"))
    others = [
        member
        for name, member in cluster.members.items()
        if name != view.me and (leader is None or name != leader.name)
    ]
    return is_known and not any(
        not other.is_running
        or other.ours.get("leaving")
        or (other.ours.get("slots_to_copy") and other.name < view.me)
        for other in others
    )


def _is_short_of_limits(view: View) -> bool:
    asked = view.restart is not None or view.settings.pause
    return _follows(view) and view.instance.lacks_limits and not asked


RULES: Final = (
    Rule(
        "give_up_unelected_key",
        lambda view: view.instance.is_standby and view.holds_key and was_succeeded(view),
        lambda view: (ReleaseKey(),),
        "the key came to us without an election: somebody else may have commits we lack",
    ),
    Rule(
        "begin_sync",
        _begins_sync,
        lambda view: (WriteSync(SyncKey(view.me, timeline=free_timeline(view))),),
        "commits shall be synchronous and nothing says who has them: this leader alone, at first",
    ),
    Rule(
        "reserve_timeline",
        _lacks_number,
        _reserve,
        "no number is reserved for this leader's timeline, or the last one is used: it gets one",
    ),
    Rule(
        "promote",
        _may_promote,
        lambda view: (Promote(leading_names(view), _number(view)),),
        "the key is ours: become the primary",
    ),
    Rule(
        "rejoin_diverged",
        _is_diverged,
        rejoin,
        "our WAL left the leader's history: it cannot be streamed over",
    ),
    Rule(
        "rejoin_stuck",
        lambda view: _follows(view) and view.stuck and view.diverged is False,
        rejoin,
        "this standby keeps to a timeline that came to nothing: started anew it looks afresh",
    ),
    Rule(
        "stop_streaming",
        _streams_against_tag,
        lambda view: (StopReceiving(),),
        "the tag nostream: this member gets its WAL from the archive only",
    ),
    Rule(
        "raise_limits",
        _is_short_of_limits,
        lambda view: (BeginRestart(), KeepSlots()),
        "replay stands still: the WAL is of a primary with higher limits, which need a restart",
    ),
    Rule(
        "compare_first",
        lambda view: _follows(view) and points_elsewhere(view) and view.diverged is None,
        _leading,
        "whether our WAL is the leader's has to be known before we stream from it",
    ),
    Rule(
        "follow",
        lambda view: _follows(view) and points_elsewhere(view),
        lambda view: (*follow(view), *_leading(view)),
        "whom to stream from has changed",
    ),
    Rule(
        "copy_slots",
        _copies_slots,
        lambda view: (BeginRestart(), KeepSlots()),
        "the leader has logical slots that a standby before PostgreSQL 17 only gets by a restart",
    ),
    Rule(
        "lead_standbys",
        _leads_standbys,
        _leading,
        "steady state of the leader of a standby cluster",
    ),
    Rule(
        "stream",
        _follows,
        lambda view: (KeepSlots(),),
        "steady state of a standby",
    ),
)
