# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for a change of the lead that somebody asked for.

The leader stops its PostgreSQL in good order, waits until the *heir* has the shutdown checkpoint,
and leaves it the lead in the transaction that gives up its own key: it writes the heir's name into
`/status`, and into `/sync` as the leader whom every acknowledged commit is with. So the heir needs
nobody's vote and asks nobody, and the others leave it the first go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgherd.actions import Action, EndHandover, HandOver, Lead, ReleaseKey, TakeKey
from pgherd.rules.rule import Rule, nothing
from pgherd.rules.successors import succession

if TYPE_CHECKING:
    from pgherd.handover import Handover
    from pgherd.model import Member
    from pgherd.view import View

# A request whose time passed this long ago, with nobody there to carry it out, is not made up for.
MISSED_SECONDS: Final = 60.0
# For so long the others leave the lead to whoever was named. Seconds.
STAND_BACK_SECONDS: Final = 2.0


def obstacle(view: View, name: str, request: Handover) -> str | None:
    """Return why *name* cannot take over from this leader, None when it can (R13, R15)."""
    member = view.cluster.members.get(name) if view.cluster else None
    rows = [row for row in view.instance.replication if row.get("application_name") == name]
    streaming = [row for row in rows if row.get("state") == "streaming"]
    if member is None:
        return f"{name} is no member of the cluster"
    if not member.is_running:
        return f"{name} is not running: its state is {member.state}"
    if member.tags.nofailover:
        return f"{name} has the tag nofailover"
    if not member.could_lead:
        return f"{name} says that it may not lead now: see GET /patroni there"
    if not streaming:
        return f"{name} does not stream from {view.me}"
    needs_vote = view.settings.synchronous_mode != "off" and request.kind == "switchover"
    if needs_vote and (view.sync is None or name not in view.sync.electorate):
        return f"{name} is no synchronous standby; a failover may go to it all the same"
    behind = (view.instance.location or 0) - (streaming[0].get("flush") or 0)
    limit = view.settings.maximum_lag_on_failover
    if behind > limit:
        return f"{name} is {behind} bytes behind; maximum_lag_on_failover is {limit}"
    return None


def heirs(view: View, request: Handover) -> list[Member]:
    """Return the members that could take over, the best first.

    Whoever has a copy of every failover slot comes before one whose lead subscribers would lose.
    """
    members = view.cluster.members if view.cluster else {}
    flushed = {row.get("application_name"): row.get("flush") for row in view.instance.replication}
    able = [
        member
        for name, member in members.items()
        if name != view.me
        and request.candidate in (None, name)
        and obstacle(view, name, request) is None
    ]
    return sorted(
        able,
        key=lambda member: (
            _missing_slots(view, member),
            -member.tags.failover_priority,
            -(flushed.get(member.name) or 0),
            member.name,
        ),
    )


def _missing_slots(view: View, member: Member) -> int:
    """Return how many of our failover slots *member* has no copy of: it would leave them behind."""
    slots = view.instance.slots
    ours = {name for name, slot in slots.items() if slot.get("failover")}
    # Before PostgreSQL 17 those are copied that the configuration names.
    ours |= {slot.name for slot in view.settings.permanent_slots if slot.is_logical} & slots.keys()
    theirs = member.ours.get("failover_slots")
    return len(ours.difference(theirs if isinstance(theirs, list) else ()))


def _leads(view: View) -> bool:
    leads_standbys = view.instance.is_standby and view.remote is not None
    serves = view.instance.is_primary or leads_standbys
    return serves and view.holds_key and view.store_answers


def _is_over(view: View) -> bool:
    """Tell whether the lead has changed hands already, or was never in those named."""
    request = view.handover
    if request is None or not _leads(view):
        return False
    return view.me == request.candidate or request.leader not in (None, view.me)


def _finish(view: View) -> tuple[Action, ...]:
    request = view.handover
    assert request is not None
    return (EndHandover(request, "done", request.outcome(view.me)), Lead())


def _is_due(view: View) -> bool:
    request = view.handover
    if request is None or not _leads(view):
        return False
    if request.at is None:
        return True
    return view.wall >= request.at and not view.settings.pause


def _refusal(view: View) -> str | None:
    request = view.handover
    assert request is not None
    if view.handover_failure is not None:
        return view.handover_failure
    if request.at is not None and view.wall - request.at > MISSED_SECONDS:
        return "its time has passed while there was no leader to carry it out"
    if view.settings.pause and request.candidate is None:
        return "in maintenance mode a candidate has to be named"
    if heirs(view, request):
        return None
    if request.candidate is not None:
        return obstacle(view, request.candidate, request)
    return "no good candidates have been found"


def _refuse(view: View) -> tuple[Action, ...]:
    request = view.handover
    assert request is not None
    if view.handover_failure is not None:
        text = f"{request.kind.capitalize()} failed: {view.handover_failure}"
        return (EndHandover(request, "failed", text), Lead())
    text = f"{request.kind} is not possible: {_refusal(view)}"
    return (EndHandover(request, "refused", text), Lead())


def _hand_over(view: View) -> tuple[Action, ...]:
    request = view.handover
    assert request is not None
    return (HandOver(request, heirs(view, request)[0]), Lead())


LEADER_RULES: Final = (
    Rule(
        "finish_handover",
        _is_over,
        _finish,
        "the lead has changed hands as somebody asked: what came of it is written down",
    ),
    Rule(
        "refuse_handover",
        lambda view: _is_due(view) and _refusal(view) is not None,
        _refuse,
        "somebody asks for another leader, and there is a reason against it",
    ),
    Rule(
        "hand_over_standbys",
        lambda view: _is_due(view) and view.remote is not None,
        lambda view: (ReleaseKey(),),
        "somebody asks for another leader of a standby cluster: nothing has to stop for that",
    ),
    Rule(
        "hand_over",
        _is_due,
        _hand_over,
        "somebody asks for another leader: stop in good order and leave the lead to it",
    ),
)


def _is_without_leader(view: View) -> bool:
    return view.instance.is_standby and view.is_unlocked


def is_heir(view: View) -> bool:
    """Tell whether the last leader left the lead to us, and we have all it had."""
    heir = view.cluster.heir if view.cluster else None
    succeeds = view.sync is None or view.sync.leader == view.me
    return heir is not None and heir[0] == view.me and view.instance.position > heir[1] and succeeds


def is_called(view: View) -> bool:
    """Tell whether somebody wants this standby to lead a cluster without a leader."""
    request = view.handover
    named = request is not None and request.candidate == view.me
    return _is_without_leader(view) and (named or is_heir(view))


def _may_take(view: View) -> bool:
    return view.is_fit and view.has_lease and not view.is_held_back


def _inherits(view: View) -> bool:
    return _is_without_leader(view) and is_heir(view) and _may_take(view)


def _inherit(view: View) -> tuple[Action, ...]:
    # The former leader has written /sync for us; written anew it makes counts of votes worthless.
    return (TakeKey(view.sync if view.sync is not None else succession(view)),)


def _waited(view: View) -> float:
    return view.now - (view.unlocked_since if view.unlocked_since is not None else view.now)


def _leaves_it_to_heir(view: View) -> bool:
    heir = view.cluster.heir if view.cluster else None
    other = heir is not None and heir[0] != view.me
    return _is_without_leader(view) and other and _waited(view) < STAND_BACK_SECONDS


def _is_forced(view: View) -> bool:
    """Tell whether a failover to us was asked for, that is, whatever it lacks (R14, R15)."""
    request = view.handover
    if request is None or request.kind != "failover" or request.candidate != view.me:
        return False
    alive = any(peer.is_primary for peer in view.peers.values())
    return _is_without_leader(view) and _may_take(view) and not alive


def _leaves_it_to_candidate(view: View) -> bool:
    request, cluster = view.handover, view.cluster
    if request is None or cluster is None or request.candidate in (None, view.me):
        return False
    member = cluster.members.get(request.candidate or "")
    able = member is not None and member.could_lead
    return _is_without_leader(view) and able and _waited(view) < STAND_BACK_SECONDS


# Before a standby casts its vote, and after it.
HEIR_RULES: Final = (
    Rule(
        "inherit",
        _inherits,
        _inherit,
        "the former leader has stopped in good order and left the lead to this standby",
    ),
    Rule(
        "leave_it_to_heir",
        _leaves_it_to_heir,
        nothing,
        "the former leader has left the lead to another standby: it gets the first go",
    ),
)
CANDIDATE_RULES: Final = (
    Rule(
        "take_key_as_asked",
        _is_forced,
        lambda view: (TakeKey(succession(view)),),
        "somebody asked for a failover to this standby, whatever it may lack",
    ),
    Rule(
        "leave_it_to_candidate",
        _leaves_it_to_candidate,
        nothing,
        "somebody asked for another standby to lead: it gets the first go",
    ),
)
