# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running standby of a cluster without a leader.

The order of candidates is (timeline, WAL position, priority, name): the longest history wins, then
the most WAL, then what the operator prefers, then an order all members agree on. Two candidates
that both think they are first cannot both win: the key is created in one etcd transaction.

With synchronous replication a candidate also needs votes: answers of `quorum` + 1 of the electorate
that have no more than it has (see `pgherd.quorum`). A vote counts only from a standby that streams
from nobody: what it has is then final, so no former leader, were it still there, could have one
more commit acknowledged by it (the argument of a Raft vote, Ongaro and Ousterhout 2014, 5.2).
"""

from typing import Final

from pgherd.actions import Action, Follow, StopReceiving, TakeKey
from pgherd.rules import handover
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import succession
from pgherd.view import Peer, View


def _is_voting(view: View) -> bool:
    return view.instance.is_standby and view.is_unlocked


def _history(view: View) -> tuple[int, int]:
    return (view.instance.timeline or 0, view.instance.position)


def _lags(view: View) -> bool:
    """R8: too far behind what the last leader published; votes make that question moot."""
    if view.cluster is None:
        return True
    if view.sync is not None:
        return False
    behind = view.cluster.optime - view.instance.position
    return behind > view.settings.maximum_lag_on_failover


def _misses_timeline(view: View) -> bool:
    """R8, ``check_timeline``: the cluster is known to have gone on to a later timeline."""
    if view.cluster is None or not view.settings.check_timeline:
        return False
    ended = max((int(row[0]) for row in view.cluster.history), default=0)
    return (view.instance.timeline or 0) <= ended


def _cannot_lead(view: View) -> bool:
    unable = not view.is_fit or not view.has_lease or view.is_held_back
    return unable or _lags(view) or _misses_timeline(view)


def _is_promised(view: View) -> bool:
    if not view.settings.failsafe_mode:
        return False
    promises = [view.promised_to, *(peer.promised_to for peer in view.peers.values())]
    return any(leader not in (None, view.me) for leader in promises)


def _is_minority(view: View) -> bool:
    """Tell whether, in failsafe mode, too few members answer.

    A leader that etcd does not hear may hold the promises of a majority: any majority that we ask
    includes a member that knows.
    """
    if view.cluster is None or not view.settings.failsafe_mode or not view.cluster.failsafe:
        return False
    members = set(view.cluster.failsafe)
    answered = members & {view.me, *view.peers}
    return view.me not in members or 2 * len(answered) <= len(members)


def _still_receives(view: View) -> bool:
    return _is_voting(view) and view.sync is not None and view.instance.receives


def _lacks_votes(view: View) -> bool:
    sync = view.sync
    # Whom /sync names as the leader has every acknowledged commit: all there were when it took the
    # key, in the transaction that named it, and its own.
    if sync is None or sync.leader == view.me:
        return False
    votes = [
        name
        for name, peer in view.peers.items()
        if name in sync.electorate and peer.votes and peer.history <= _history(view)
    ]
    own = view.me in sync.electorate
    return len(votes) + own < sync.electing.quorum + 1


def _is_ahead(view: View, peer: Peer) -> bool:
    if view.remote is not None:
        # They go on receiving while they vote, and what one lacks the other cluster has.
        further = peer.position - view.instance.position
        return peer.can_lead and further > view.settings.maximum_lag_on_failover
    return peer.can_lead and peer.history > _history(view)


def _wins_tie(view: View, peer: Peer) -> bool:
    same = peer.can_lead and peer.history == _history(view)
    ours = (-view.tags.failover_priority, view.me)
    return same and (-peer.priority, peer.name) < ours


def _leaves_tie_to_other(view: View) -> bool:
    # The preferred one of two equals gets the first go, not a veto: it may be unable to move.
    waited = view.now - (view.unlocked_since if view.unlocked_since is not None else view.now)
    return waited < view.tie_grace and any(_wins_tie(view, peer) for peer in view.peers.values())


def _keeps_promise(view: View) -> bool:
    if view.promised is None or view.sync is None or not view.settings.failsafe_mode:
        return False
    # Only whoever led last is streamed from: of its WAL we know that ours is part of it.
    return _is_voting(view) and view.sync.leader == view.promised.name


def _stream_on(view: View) -> tuple[Action, ...]:
    leader = view.promised
    assert leader is not None
    points_there = view.instance.upstream == f"{leader.host}:{leader.port}"
    return () if points_there else (Follow(leader),)


def _was_removed(view: View) -> bool:
    """Tell whether the cluster's keys are gone, and with them who has every commit (R10)."""
    removed = view.cluster is not None and view.cluster.initialize is None
    return _is_voting(view) and removed and not handover.is_called(view)


RULES: Final = (
    Rule(
        "wait_for_initialize",
        _was_removed,
        nothing,
        "somebody has deleted the cluster's keys: its primary puts them back, no standby does",
    ),
    *handover.HEIR_RULES,
    Rule(
        "keep_promise",
        _keeps_promise,
        _stream_on,
        "a leader that etcd does not hear holds our promise: its commits need us",
    ),
    Rule(
        "stop_receiving",
        _still_receives,
        lambda view: (StopReceiving(),),
        "the cluster has no leader: what this standby has becomes its vote",
    ),
    Rule(
        "cannot_lead",
        lambda view: _is_voting(view) and _cannot_lead(view),
        nothing,
        "nofailover, no lease, lag, old timeline, sick disk, no watchdog, key just given up",
    ),
    *handover.CANDIDATE_RULES,
    Rule(
        "primary_still_alive",
        lambda view: _is_voting(view) and any(peer.is_primary for peer in view.peers.values()),
        nothing,
        "a peer still runs as a primary: it retakes the key or steps down",
    ),
    Rule(
        "promised",
        lambda view: _is_voting(view) and _is_promised(view),
        nothing,
        "a member has promised a leader without etcd to elect nobody against it",
    ),
    Rule(
        "minority",
        lambda view: _is_voting(view) and _is_minority(view),
        nothing,
        "failsafe mode: fewer than a majority of the members answer",
    ),
    Rule(
        "peer_is_ahead",
        lambda view: _is_voting(view) and any(_is_ahead(view, p) for p in view.peers.values()),
        nothing,
        "a peer that can lead has more WAL or a later timeline",
    ),
    Rule(
        "votes_missing",
        lambda view: _is_voting(view) and _lacks_votes(view),
        nothing,
        "too few of those that may have acknowledged commits answer: one might be lost",
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
        lambda view: (TakeKey(succession(view)),),
        "the cluster has no leader and nobody is a better one",
    ),
)
