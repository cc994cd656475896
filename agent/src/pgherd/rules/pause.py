# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for maintenance mode: what runs is left running, what is stopped stays so (R42).

Nobody is elected unless somebody asks for a candidate. A primary goes on leading, retakes a key
that got lost and that nobody else has, and goes on without one; a standby goes on following. What
an operator asks of one member is done: see `pgherd.rules.restart`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgherd.actions import ReleaseKey
from pgherd.model import Process
from pgherd.rules.handover import is_called
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import someone_went_on

if TYPE_CHECKING:
    from pgherd.view import View


def _retakes(view: View) -> bool:
    free = view.is_unlocked and view.has_lease and view.is_fit and not view.is_foreign
    return view.instance.is_primary and free and not someone_went_on(view)


def _follows(view: View) -> bool:
    """Tell whether a standby can go on following without being stopped for it."""
    well = not (view.diverged is True or view.stuck or view.is_foreign)
    return view.instance.is_standby and view.other_leader is not None and well


def _is_copied(view: View) -> bool:
    # A member without data is no harm to anybody: it gets its copy.
    return not view.instance.has_data and view.other_leader is not None


def _is_left_alone(view: View) -> bool:
    if not view.settings.pause or view.holds_key:
        return False
    return not (is_called(view) or _retakes(view) or _follows(view) or _is_copied(view))


def _is_promoted_as_asked(view: View) -> bool:
    request = view.handover
    named = request is not None and request.candidate == view.me
    return view.instance.is_standby and named


def _leads_nothing(view: View) -> bool:
    """Tell whether the key is held by one that is no primary, and shall not become one (R3)."""
    if not (view.settings.pause and view.holds_key and view.instance.has_data):
        return False
    if view.is_foreign:
        return True
    if view.handover is not None and view.handover.candidate != view.me:
        # What stopped it was an operation of ours, which failed, or has its candidate waiting.
        return False
    is_down = view.instance.process is Process.STOPPED
    is_standby = view.instance.is_standby and view.remote is None
    return is_down or (is_standby and not _is_promoted_as_asked(view))


def _starts(view: View) -> bool:
    starting = view.instance.process is Process.STARTING
    return view.settings.pause and view.holds_key and starting


RULES: Final = (
    Rule(
        "paused",
        _is_left_alone,
        nothing,
        "in maintenance mode PostgreSQL is left as it is",
    ),
    Rule(
        "give_up_key_in_pause",
        lambda view: _leads_nothing(view) and view.store_answers,
        lambda view: (ReleaseKey(),),
        "maintenance mode: who is no primary of this cluster does not lead, nor anybody unasked",
    ),
    Rule(
        "wait_in_pause",
        lambda view: _leads_nothing(view) or _starts(view),
        nothing,
        "maintenance mode: PostgreSQL is starting, or etcd does not answer, and nothing is done",
    ),
)
