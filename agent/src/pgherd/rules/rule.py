# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a rule."""

from collections.abc import Callable
from dataclasses import dataclass

from pgherd.actions import Action
from pgherd.view import View


@dataclass(frozen=True)
class Rule:
    """One row of the decision table.

    :param name: what the log, the API and the metrics show.
    :param when: whether the rule fires for a view; pure.
    :param actions: what is to be done then; pure.
    :param why: one sentence for the person who reads the log at night.
    """

    name: str
    when: Callable[[View], bool]
    actions: Callable[[View], tuple[Action, ...]]
    why: str


def nothing(view: View) -> tuple[Action, ...]:
    """Ask for no action: the state is right, or somebody else's move is awaited."""
    return ()
