# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running standby of a cluster that has a leader."""

from dataclasses import replace
from typing import Final

from pgherd.actions import Action, KeepSlots, Promote, ReleaseKey, WriteSync
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import free_timeline, leading_names, was_succeeded
from pgherd.rules.towards import follow, points_elsewhere, rejoin
from pgherd.view import View


def _has_other_leader(view: View) -> bool:
    return view.instance.is_standby and view.other_leader is not None


def _is_diverged(view: View) -> bool:
    # pg_rewind reads the source's control file, which names the new timeline only after the first
    # checkpoint that follows the promotion (R26).
    leader = view.other_leader
    return (
        _has_other_leader(view)
        and view.diverged is True
        and leader is not None
        and leader.is_settled_primary
    )


def _lacks_number(view: View) -> bool:
    sync = view.sync
    leads = view.instance.is_standby and view.holds_key and view.store_answers
    return leads and sync is not None and sync.timeline <= (view.instance.timeline or 0)


def _reserve(view: View) -> tuple[Action, ...]:
    assert view.sync is not None
    return (WriteSync(replace(view.sync, timeline=free_timeline(view))),)


RULES: Final = (
    Rule(
        "give_up_unelected_key",
        lambda view: view.instance.is_standby and view.holds_key and was_succeeded(view),
        lambda view: (ReleaseKey(),),
        "the key came to us without an election: somebody else may have commits we lack",
    ),
    Rule(
        "reserve_timeline",
        _lacks_number,
        _reserve,
        "the number that was reserved for this leader's timeline is used: it gets another one",
    ),
    Rule(
        "promote",
        lambda view: view.instance.is_standby and view.holds_key and view.store_answers,
        lambda view: (Promote(leading_names(view), view.sync.timeline if view.sync else 0),),
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
        lambda view: _has_other_leader(view) and view.stuck and view.diverged is False,
        rejoin,
        "this standby keeps to a timeline that came to nothing: started anew it looks afresh",
    ),
    Rule(
        "compare_first",
        lambda view: _has_other_leader(view) and points_elsewhere(view) and view.diverged is None,
        nothing,
        "whether our WAL is the leader's has to be known before we stream from it",
    ),
    Rule(
        "follow",
        lambda view: _has_other_leader(view) and points_elsewhere(view),
        follow,
        "the leader has changed: stream from it",
    ),
    Rule(
        "stream",
        _has_other_leader,
        lambda view: (KeepSlots(),),
        "steady state of a standby",
    ),
)
