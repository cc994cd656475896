# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running primary."""

from typing import Final

from pgherd.actions import Demote, Lead, TakeKey
from pgherd.model import View
from pgherd.rules.rule import Rule


def _someone_went_on(view: View) -> bool:
    """Tell whether another primary lives, or a timeline newer than ours exists (R7)."""
    ours = view.instance.timeline or 0
    return any(peer.is_primary or (peer.timeline or 0) > ours for peer in view.peers.values())


RULES: Final = (
    Rule(
        "lead",
        lambda view: view.instance.is_primary and view.holds_key,
        lambda view: (Lead(),),
        "steady state of a primary",
    ),
    Rule(
        "demote_behind_history",
        lambda view: view.instance.is_primary and _someone_went_on(view),
        lambda view: (Demote(),),
        "the cluster has gone on without this primary",
    ),
    Rule(
        "retake_key",
        lambda view: view.instance.is_primary and view.is_unlocked and view.has_lease,
        lambda view: (TakeKey(),),
        "this is the only primary and nobody holds the key",
    ),
)
