# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a rolling restart (see `pgherd.rolling`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgherd.actions import Action, BeginRestart, Lead, MoveRoll
from pgherd.rolling import is_my_turn, next_step
from pgherd.rules.rule import Rule

if TYPE_CHECKING:
    from pgherd.rolling import Step
    from pgherd.view import View


def _step(view: View) -> Step | None:
    leads = view.instance.is_primary or (view.instance.is_standby and view.remote is not None)
    if not (leads and view.holds_key and view.store_answers):
        return None
    return next_step(view)


def _move(view: View) -> tuple[Action, ...]:
    step = _step(view)
    return (MoveRoll(step), Lead()) if step is not None else ()


def _takes_turn(view: View) -> bool:
    return view.store_answers and view.restart is None and is_my_turn(view)


RULES: Final = (
    Rule(
        "take_turn",
        _takes_turn,
        lambda view: (BeginRestart(),),
        "a rolling restart has come to this member",
    ),
    Rule(
        "move_turn",
        lambda view: _step(view) is not None,
        _move,
        "a rolling restart goes on: the next member's turn, a switchover, or its end",
    ),
)
