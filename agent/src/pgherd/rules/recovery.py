# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a member whose PostgreSQL has data and does not run."""

from typing import Final

from pgherd.actions import (
    Demote,
    ReleaseKey,
    StartPrimary,
    StartStandby,
    TakeKey,
)
from pgherd.model import Member, Process, SyncKey
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import (
    failover_is_possible,
    leading_names,
    others_can_lead,
)
from pgherd.rules.towards import follow, points_elsewhere, rejoin
from pgherd.view import View

# A crashed primary is started in place once; when that fails somebody else shall lead.
MAX_START_FAILURES: Final = 1
# A standby with nobody to follow has this long to come up from its own WAL. Seconds.
LONELY_START_SECONDS: Final = 5.0


def _is_stopped(view: View) -> bool:
    return view.instance.process is Process.STOPPED


def _was_primary(view: View) -> bool:
    """Tell whether it may go on as the primary it was: a standby cluster has none."""
    if view.remote is not None:
        return False
    return view.instance.control is not None and view.instance.control.was_primary


def _can_restart_as_primary(view: View) -> bool:
    return (
        _is_stopped(view)
        and view.holds_key
        and _was_primary(view)
        and view.start_failures < MAX_START_FAILURES
    )


def _can_hand_over(view: View) -> bool:
    # R20: with a limit of 0 no crashed primary is started again where another one can take over.
    impatient = view.settings.primary_start_timeout == 0 and failover_is_possible(view)
    down = _is_stopped(view) and view.holds_key and _was_primary(view)
    return down and (others_can_lead(view) or impatient)


def _known_upstream(view: View) -> Member | None:
    """Return whom a standby of a standby cluster has WAL of already, and may need more to come up.

    A former primary comes up by itself, and its WAL has to be compared first.
    """
    control = view.instance.control
    was_standby = control is not None and not control.was_primary
    return view.upstream if view.remote is not None and was_standby else None


def _is_restored(view: View) -> bool:
    """Tell whether a restore has left this member to be the primary, and nobody leads."""
    able = view.store_answers and view.has_lease and not view.settings.pause
    free = view.is_unlocked and not view.holds_key and view.remote is None
    lives = any(peer.is_primary for peer in view.peers.values())
    return _is_stopped(view) and view.instance.is_restored and able and free and not lives


def _restored_sync(view: View) -> SyncKey:
    """Return `/sync` of a restored cluster: its leader alone has the commits, on this timeline."""
    control, cluster = view.instance.control, view.cluster
    timeline = max(
        control.timeline if control is not None else 1,
        cluster.last_timeline if cluster is not None else 0,
    )
    leader = "" if view.settings.synchronous_mode == "off" else view.me
    return SyncKey(leader, timeline=timeline)


def _is_starting(view: View) -> bool:
    return view.instance.process is Process.STARTING


def _starts_too_long(view: View) -> bool:
    since = view.starting_since
    limit = view.settings.primary_start_timeout
    is_over = since is not None and view.now - since > limit
    return _is_starting(view) and view.holds_key and is_over and failover_is_possible(view)


def _starts_towards_another(view: View) -> bool:
    # A standby that needs more WAL to become consistent can get it from the current leader only.
    return _is_starting(view) and view.instance.upstream is not None and points_elsewhere(view)


def _was_left_waiting(view: View) -> bool:
    """Tell whether a standby that was started with nobody to follow seems to need WAL (R22).

    After a rewind it becomes consistent, and answers, only with WAL of the source. It is stopped
    and rejoins, for what it has can only be compared with the leader's while it does not run.
    """
    since, leader = view.starting_since, view.other_leader
    if since is None or leader is None or not view.store_answers or view.upstream is None:
        return False
    lonely = _is_starting(view) and view.instance.in_recovery is True
    waited = view.now - since > LONELY_START_SECONDS
    return lonely and view.instance.upstream is None and waited and leader.is_settled_primary


RULES: Final = (
    Rule(
        "read_etcd_first",
        lambda view: _can_restart_as_primary(view) and not view.store_answers,
        nothing,
        "the primary is down, and whether it still leads can only be read in etcd",
    ),
    Rule(
        "hand_over_crashed",
        _can_hand_over,
        lambda view: (Demote(), ReleaseKey()),
        "the primary is down and standbys have every acknowledged commit: one of them shall lead",
    ),
    Rule(
        "restart_crashed_primary",
        _can_restart_as_primary,
        lambda view: (StartPrimary(leading_names(view)),),
        "the primary crashed, the key is still ours: the same timeline goes on",
    ),
    Rule(
        "give_up_key",
        lambda view: (
            _is_stopped(view) and view.holds_key and view.start_failures >= MAX_START_FAILURES
        ),
        lambda view: (Demote(), ReleaseKey()),
        "this primary does not start; another member shall lead",
    ),
    Rule(
        "wait_for_disk",
        lambda view: _is_stopped(view) and bool(view.instance.disk),
        nothing,
        "the data disk is full, read-only or stuck: PostgreSQL starts again once it is well",
    ),
    Rule(
        "lead_restored",
        _is_restored,
        lambda view: (TakeKey(_restored_sync(view)),),
        "a restore has ended here: the cluster goes on from this member, on the timeline it has",
    ),
    Rule(
        "rejoin",
        lambda view: (
            _is_stopped(view)
            and view.store_answers
            and view.remote is None
            and view.other_leader is not None
            and view.other_leader.is_settled_primary
        ),
        rejoin,
        "another member leads: get onto its history and follow it",
    ),
    Rule(
        "start_standby",
        _is_stopped,
        lambda view: (StartStandby(_known_upstream(view)),),
        "nobody is known to be safe to follow: come up read-only, then compare or elect",
    ),
    Rule(
        "start_takes_too_long",
        _starts_too_long,
        lambda view: (Demote(), ReleaseKey()),
        "primary_start_timeout has passed and another member can lead: it shall",
    ),
    Rule(
        "follow_while_starting",
        _starts_towards_another,
        follow,
        "the leader has changed while this standby was starting",
    ),
    Rule(
        "rejoin_while_starting",
        _was_left_waiting,
        rejoin,
        "started with nobody to follow, this standby may need WAL of the leader to come up",
    ),
    Rule(
        "wait_for_postgres",
        _is_starting,
        nothing,
        "PostgreSQL is starting and does not answer yet",
    ),
)
