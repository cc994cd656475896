# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a running primary."""

from typing import Final

from pgherd.actions import Demote, KeepSlots, Lead, ReleaseKey, Retire, TakeKey
from pgherd.rules import handover, sync
from pgherd.rules.rule import Rule
from pgherd.rules.successors import others_can_lead, someone_went_on
from pgherd.view import View


def _is_unfit(view: View) -> bool:
    unfit = (bool(view.instance.disk) or view.watchdog_missing) and not view.settings.pause
    return view.instance.is_primary and view.holds_key and unfit and others_can_lead(view)


def _is_primary_of_standbys(view: View) -> bool:
    foreign = view.remote is not None and view.store_answers and not view.settings.pause
    return view.instance.is_primary and foreign


RULES: Final = (
    Rule(
        "demote_cluster",
        _is_primary_of_standbys,
        lambda view: (Retire(),),
        "this is a standby cluster now: its primary stops, all its WAL sent, and follows the other",
    ),
    Rule(
        "hand_over_unfit",
        _is_unfit,
        lambda view: (Demote(), ReleaseKey()),
        "the data disk of this leader is sick, or its watchdog is missing, and others are well",
    ),
    *handover.LEADER_RULES,
    *sync.RULES,
    Rule(
        "lead",
        lambda view: view.instance.is_primary and view.holds_key,
        lambda view: (Lead(),),
        "steady state of a primary",
    ),
    Rule(
        "lead_by_promise",
        lambda view: view.instance.is_primary and view.leads_by_promise and not view.store_answers,
        lambda view: (KeepSlots(),),
        "etcd does not answer; a majority of the members has promised to elect nobody else",
    ),
    Rule(
        "demote_behind_history",
        lambda view: view.instance.is_primary and someone_went_on(view),
        lambda view: (Demote(),),
        "the cluster has gone on without this primary",
    ),
    Rule(
        "retake_key",
        lambda view: view.instance.is_primary and view.is_unlocked and view.has_lease,
        # Writing /sync anew, unchanged, makes every count of votes from before worthless.
        lambda view: (TakeKey(view.sync),),
        "this is the only primary and nobody holds the key",
    ),
)
