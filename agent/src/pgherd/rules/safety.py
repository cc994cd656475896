# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that come before everything else: the lease, the stop request, foreign data."""

from typing import Final

from pgherd.actions import Action, Demote, FinishStop, Refuse, StopAndLeave
from pgherd.model import Process
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import was_succeeded
from pgherd.view import View


def _leads_without_key(view: View) -> bool:
    # A free key may be retaken by a primary that has a good lease (see `retake_key`); in pause the
    # operator has asked for PostgreSQL to be left alone.
    may_retake = view.has_lease and view.is_unlocked and view.is_fit and not was_succeeded(view)
    if view.settings.failsafe_mode and view.now >= view.failsafe_until:
        # Somebody else may have been promised the lead meanwhile.
        may_retake = False
    paused = view.settings.pause
    holds = view.holds_key or view.leads_by_promise
    return view.instance.may_write and not holds and not may_retake and not paused


def _is_hung(view: View) -> bool:
    limit = view.hang_timeout
    running = view.instance.process is not Process.STOPPED
    return running and 0 < limit < view.silent_seconds and not view.settings.pause


def _is_told_to_stop(view: View) -> bool:
    return view.instance.is_told_to_stop and not view.settings.pause


def _expected(view: View) -> str:
    return (view.cluster.initialize or "") if view.cluster else ""


def _refuse(view: View) -> tuple[Action, ...]:
    return (Refuse(found=view.instance.system_id or "", expected=_expected(view)),)


RULES: Final = (
    Rule(
        "demote_without_key",
        _leads_without_key,
        lambda view: (Demote(),),
        "a primary without a valid lease may not be the only one",
    ),
    Rule(
        "kill_hung",
        _is_hung,
        lambda view: (Demote(),),
        "PostgreSQL has answered no new connection for hang_timeout: what is stuck is killed",
    ),
    Rule(
        "busy",
        lambda view: view.operation is not None,
        nothing,
        "a long operation is under way and nothing above forbids it",
    ),
    Rule(
        "stop",
        lambda view: view.stopping,
        lambda view: (StopAndLeave(),),
        "the agent was asked to stop, and PostgreSQL with it",
    ),
    Rule(
        "finish_stop",
        _is_told_to_stop,
        lambda view: (FinishStop(),),
        "somebody has told PostgreSQL to stop when its clients are gone; poolers never go",
    ),
    Rule(
        "refuse_foreign_data",
        lambda view: view.is_foreign and not view.settings.pause,
        _refuse,
        "the data directory belongs to another cluster and is not ours to touch",
    ),
    Rule(
        "wait_for_etcd",
        lambda view: view.cluster is None,
        nothing,
        "nothing is known about the cluster until etcd has answered once",
    ),
)
