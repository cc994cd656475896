# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision: a pure function from a view to the rule that fired and its actions.

No clock, no I/O, no log and no dice in here or in `pgherd.rules`.
"""

from dataclasses import dataclass
from typing import Final

from pgherd.actions import Action
from pgherd.rules import (
    birth,
    election,
    pause,
    primary,
    recovery,
    restart,
    rolling,
    safety,
    standby,
)
from pgherd.rules.rule import Rule, nothing
from pgherd.view import View

IDLE: Final = Rule(
    "wait",
    lambda view: True,
    nothing,
    "etcd does not answer and PostgreSQL is no primary: nothing can or need be done",
)

RULES: Final[tuple[Rule, ...]] = (
    *safety.RULES,
    *restart.RULES,
    *pause.RULES,
    *rolling.RULES,
    *birth.RULES,
    *recovery.RULES,
    *primary.RULES,
    *standby.RULES,
    *election.RULES,
    IDLE,
)


@dataclass(frozen=True)
class Decision:
    """The rule that fired, and what it asks for."""

    rule: Rule
    actions: tuple[Action, ...]


def decide(view: View) -> Decision:
    """Return the first rule that matches *view*; the last one matches everything."""
    rule = next(rule for rule in RULES if rule.when(view))
    return Decision(rule, rule.actions(view))
