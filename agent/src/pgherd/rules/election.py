# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running standby of a cluster without a leader.

The order of candidates is (timeline, WAL position, priority, name): the longest history wins, then
the most WAL, then what the operator prefers, then an order all members agree on. Two candidates
that both think they are first cannot both win: the key is created in one etcd transaction.
"""

from typing import Final

from pgherd.actions import TakeKey
from pgherd.model import Peer, View
from pgherd.rules.rule import Rule, nothing


def _is_voting(view: View) -> bool:
    return view.instance.is_standby and view.is_unlocked


def _history(view: View) -> tuple[int, int]:
    return (view.instance.timeline or 0, view.instance.position)


def _lags(view: View) -> bool:
    """R8: too far behind what the last leader published."""
    if view.cluster is None:
        return True
    behind = view.cluster.optime - view.instance.position
    return behind > view.settings.maximum_lag_on_failover


def _misses_timeline(view: View) -> bool:
    """R8, ``check_timeline``: the cluster is known to have gone on to a later timeline."""
    if view.cluster is None or not view.settings.check_timeline:
        return False
    ended = max((int(row[0]) for row in view.cluster.history), default=0)
    return (view.instance.timeline or 0) <= ended


def _cannot_lead(view: View) -> bool:
    return view.tags.nofailover or not view.has_lease or _lags(view) or _misses_timeline(view)


def _is_ahead(view: View, peer: Peer) -> bool:
    return peer.can_lead and (peer.timeline or 0, peer.position) > _history(view)


def _wins_tie(view: View, peer: Peer) -> bool:
    same = peer.can_lead and (peer.timeline or 0, peer.position) == _history(view)
    ours = (-view.tags.failover_priority, view.me)
    return same and (-peer.priority, peer.name) < ours


def _leaves_tie_to_other(view: View) -> bool:
    # The preferred one of two equals gets the first go, not a veto: it may be unable to move.
    waited = view.now - (view.unlocked_since if view.unlocked_since is not None else view.now)
    return waited < view.tie_grace and any(_wins_tie(view, peer) for peer in view.peers.values())


RULES: Final = (
    Rule(
        "cannot_lead",
        lambda view: _is_voting(view) and _cannot_lead(view),
        nothing,
        "nofailover, no lease, too much lag or an old timeline: not a candidate",
    ),
    Rule(
        "primary_still_alive",
        lambda view: _is_voting(view) and any(peer.is_primary for peer in view.peers.values()),
        nothing,
        "a peer still runs as a primary: it retakes the key or steps down",
    ),
    Rule(
        "peer_is_ahead",
        lambda view: _is_voting(view) and any(_is_ahead(view, p) for p in view.peers.values()),
        nothing,
        "a peer that can lead has more WAL or a later timeline",
    ),
    Rule(
        "peer_is_preferred",
        lambda view: _is_voting(view) and _leaves_tie_to_other(view),
        nothing,
        "an equal peer is preferred by priority or name",
    ),
    Rule(
        "take_key",
        _is_voting,
        lambda view: (TakeKey(),),
        "the cluster has no leader and nobody is a better one",
    ),
)
