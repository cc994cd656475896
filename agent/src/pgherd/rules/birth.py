# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a member without data: create the cluster, or copy it."""

from typing import Final

from pgherd.actions import Action, Bootstrap, Clone, Demote, ReleaseKey
from pgherd.model import Member
from pgherd.rules.rule import Rule, nothing
from pgherd.view import View


def _is_empty(view: View) -> bool:
    return not view.instance.has_data


def _may_bootstrap(view: View) -> bool:
    cluster = view.cluster
    return (
        _is_empty(view)
        and view.is_unlocked
        and view.has_lease
        and not view.tags.nofailover
        and cluster is not None
        and cluster.initialize is None
    )


def _exists(view: View) -> bool:
    """Whether the cluster was created; the key is empty while somebody is at it."""
    return view.cluster is not None and bool(view.cluster.initialize)


def _source(view: View) -> Member | None:
    """Return a member to copy from: one tagged ``clonefrom``, else the leader (R40)."""
    leader = view.other_leader
    if view.cluster is None or leader is None or not leader.is_running:
        return None
    willing = [
        member
        for name, member in sorted(view.cluster.members.items())
        if name not in (view.me, leader.name) and member.tags.clonefrom and member.is_running
    ]
    wish = view.reinitialize
    from_leader = wish is not None and wish.from_leader
    if not willing or from_leader:
        return leader
    # Members that ask at the same time do not all ask the same one.
    return willing[sum(view.me.encode()) % len(willing)]


def _clone(view: View) -> tuple[Action, ...]:
    source = _source(view)
    return (Clone(source),) if source else ()


RULES: Final = (
    Rule(
        "give_up_key_without_data",
        lambda view: _is_empty(view) and view.holds_key,
        lambda view: (Demote(), ReleaseKey()),
        "the data of this leader is gone; another member shall lead",
    ),
    Rule(
        "bootstrap",
        _may_bootstrap,
        lambda view: (Bootstrap(),),
        "there is no cluster yet and no data here",
    ),
    Rule(
        "clone",
        lambda view: _is_empty(view) and view.store_answers and _source(view) is not None,
        _clone,
        "the cluster lives and this member has no data",
    ),
    Rule(
        "restore",
        lambda view: _is_empty(view) and view.restores and view.is_unlocked and _exists(view),
        lambda view: (Clone(None),),
        "the cluster has no leader to be copied, and there is a backup",
    ),
    Rule(
        "wait_for_source",
        _is_empty,
        nothing,
        "this member has no data and nobody to copy it from yet",
    ),
)
