# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for restarts that an operator asks for, now or later, and for new copies.

A standby first leaves those that commits wait for, so that no commit waits for it while it is away
(R34). A primary keeps the key, and so the lead: nobody is elected meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgherd.actions import (
    Action,
    BeginScheduledRestart,
    ClearData,
    DropScheduledRestart,
    RestartPrimary,
    RestartStandby,
)
from pgherd.model import Member, Process
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import leading_names, was_succeeded

if TYPE_CHECKING:
    from pgherd.view import View

# A standby that commits wait for is let go within this time, or restarts all the same. Seconds.
LEAVE_SECONDS: Final = 5.0
# A scheduled restart that could not be made for so long is not made at all. Seconds.
STALE_SECONDS: Final = 60.0


def _overdue(view: View) -> float:
    """Return for how many seconds the scheduled restart has been due; less than 0 before."""
    scheduled = view.scheduled_restart
    return view.wall - scheduled.at if scheduled is not None else -1.0


def _why_void(view: View) -> str:
    """Return why the scheduled restart is not to be made, empty when it is."""
    scheduled, instance = view.scheduled_restart, view.instance
    if scheduled is None:
        return ""
    if scheduled.server and instance.started_at and scheduled.server != instance.started_at:
        return "PostgreSQL has been restarted since"
    if _overdue(view) < 0:
        return ""
    if view.settings.pause:
        return "the cluster is paused"
    if _overdue(view) > STALE_SECONDS:
        return "its time has passed"
    if instance.is_running and not scheduled.conditions.hold(instance, holds_key=view.holds_key):
        return "its conditions are not satisfied"
    return ""


def _is_due(view: View) -> bool:
    return view.restart is None and view.instance.is_running and _overdue(view) >= 0


def _acknowledges(view: View) -> bool:
    """Tell whether commits may be waiting for this standby."""
    if view.sync is None or view.settings.synchronous_mode == "off":
        return False
    leader = view.other_leader
    awaited = leader.ours.get("awaits") if leader is not None else None
    return view.me in view.sync.electing.voters or view.me in (awaited or ())


def _was_primary(view: View) -> bool:
    control = view.instance.control
    stopped = view.instance.process is Process.STOPPED
    return stopped and control is not None and control.was_primary


def _restarts_primary(view: View) -> bool:
    if view.restart is None:
        return False
    if view.settings.pause and view.other_leader is None and view.instance.has_data:
        return view.instance.is_primary or (_was_primary(view) and not was_succeeded(view))
    return view.instance.is_primary and view.holds_key and view.store_answers


def _names(view: View) -> str:
    """Return whose acknowledgement commits wait for from the first one on."""
    running = view.instance.is_running
    return view.instance.sync_names if running else leading_names(view)


def _restarts_standby(view: View) -> bool:
    if view.restart is None or (view.holds_key and view.remote is None):
        return False
    if view.settings.pause and view.instance.process is Process.STOPPED:
        return view.instance.has_data and not _was_primary(view)
    # Without a leader it has a vote to cast first.
    return view.instance.is_standby and (view.settings.pause or view.leader is not None)


def _is_cleared(view: View) -> bool:
    """Tell whether the data here gives way to a copy of a leader that is there."""
    leader = view.other_leader
    wanted = view.is_to_be_cleared and not view.holds_key and view.store_answers
    return wanted and leader is not None and leader.is_running


def _leaves_first(view: View) -> bool:
    asked = view.restart or view.reinitialize
    if asked is None or not (_restarts_standby(view) or _is_cleared(view)):
        return False
    can_leave = view.instance.is_standby and _acknowledges(view)
    return can_leave and view.now - asked.since < LEAVE_SECONDS


def _clear(view: View) -> tuple[Action, ...]:
    leader = view.other_leader
    return (ClearData(leader),) if leader is not None else ()


def _upstream(view: View) -> Member | None:
    if view.origin is not None:
        return view.upstream
    if view.instance.upstream is None:
        return view.other_leader
    return Member("upstream", {"conn_url": f"postgres://{view.instance.upstream}/postgres"})


def _drop(view: View) -> tuple[Action, ...]:
    return (DropScheduledRestart(_why_void(view)),)


RULES: Final = (
    Rule(
        "drop_scheduled_restart",
        lambda view: bool(_why_void(view)),
        _drop,
        "a restart was scheduled, and what it was scheduled for is no more so",
    ),
    Rule(
        "begin_scheduled_restart",
        _is_due,
        lambda view: (BeginScheduledRestart(),),
        "the time of a scheduled restart has come",
    ),
    Rule(
        "restart_primary",
        _restarts_primary,
        lambda view: (RestartPrimary(_names(view)),),
        "a restart was asked for: this primary keeps the key meanwhile",
    ),
    Rule(
        "leave_sync_first",
        _leaves_first,
        nothing,
        "a restart or a new copy was asked for: no commit shall wait for this standby meanwhile",
    ),
    Rule(
        "clear_data",
        _is_cleared,
        _clear,
        "a new copy was asked for: the data here gives way to it",
    ),
    Rule(
        "restart_standby",
        _restarts_standby,
        lambda view: (RestartStandby(_upstream(view)),),
        "a restart of this standby was asked for",
    ),
)
