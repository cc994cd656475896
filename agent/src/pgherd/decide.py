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

# The table by subject, as people read it (see `pgherd.rules_page`).
SUBJECTS: Final[tuple[tuple[str, tuple[Rule, ...]], ...]] = (
    ("What comes before everything else", safety.RULES),
    ("A restart that was asked for", restart.RULES),
    ("Maintenance mode", pause.RULES),
    ("A rolling restart", rolling.RULES),
    ("A member without data", birth.RULES),
    ("PostgreSQL has data and does not answer", recovery.RULES),
    ("A running primary", primary.RULES),
    ("A running standby, and somebody holds the leader key", standby.RULES),
    ("A running standby, and nobody holds the leader key", election.RULES),
    ("Nothing of the above", (IDLE,)),
)
RULES: Final = tuple(rule for _, rules in SUBJECTS for rule in rules)


@dataclass(frozen=True)
class Decision:
    """The rule that fired, and what it asks for."""

    rule: Rule
    actions: tuple[Action, ...]


def decide(view: View) -> Decision:
    """Return the first rule that matches *view*; the last one matches everything."""
    rule = next(rule for rule in RULES if rule.when(view))
    return Decision(rule, rule.actions(view))
