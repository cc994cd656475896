# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST` and `DELETE` of `/switchover` and `/failover`, `GET /operations`: Patroni's answers.

Any member takes a request, writes it into etcd, and answers when its outcome stands there.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from pgherd.answers import Answer
from pgherd.errors import StoreError
from pgherd.handover import TRANSACTIONS, Handover
from pgherd.ledger import Entry, find
from pgherd.long_transactions import LONGEST_SECONDS
from pgherd.switchover import new_entry
from pgherd.timestamps import ScheduleError, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.model import Cluster
    from pgherd.view import View

# An answer is not held back for longer; the operation can be asked for by its id then. Seconds.
ANSWER_SECONDS: Final = 300.0
STATUS_OF: Final = {"done": 200, "refused": 412}


async def post_switchover(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Have the lead handed over by the leader that is named, to a candidate or to the best."""
    if not body.get("leader"):
        return Answer(400, "Switchover could be performed only from a specific leader")
    return await _ask(loop, body)


async def post_failover(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Have a candidate lead, also when there is no leader or the candidate lacks commits."""
    if body.get("leader"):
        return await post_switchover(loop, body)
    if not _candidate(body):
        return Answer(400, "Failover could be performed only to a specific candidate")
    if body.get("scheduled_at"):
        return Answer(400, "Failover can't be scheduled")
    return await _ask(loop, body)


async def delete_switchover(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Forget a switchover that is not due yet."""
    try:
        cluster = await loop.effects.store.load()
        request = cluster.handover
        if request is None:
            return Answer(404, "no switchover is scheduled")
        now = time.time()
        known = find(cluster.ledger, request.id) or new_entry(request, now)
        entry = known.ended("cancelled", "it was deleted before it began", iso(now))
        if await loop.effects.store.ask_handover(cluster, None, entry):
            return Answer(200, "scheduled switchover deleted")
    except StoreError as error:
        return Answer(503, f"failed to delete the scheduled switchover: {error}")
    return Answer(409, "the scheduled switchover has just changed: look again")


def _candidate(body: Mapping[str, Any]) -> str:
    return str(body.get("candidate") or body.get("member") or "")


async def _ask(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Check what can be checked here, write the request, wait for its outcome."""
    try:
        cluster = await loop.effects.store.load()
        request = _request(body)
        if isinstance(request, Answer):
            return request
        refusal = _refusal(cluster, request)
        if refusal is not None:
            return refusal
        now = time.time()
        entry = new_entry(request, now)
        if request.at is not None:
            entry = Entry(**{**entry.published(), "state": "scheduled"})
        if not await loop.effects.store.ask_handover(cluster, _written(request, body), entry):
            return Answer(503, "failed to write failover key into DCS: it has just changed")
    except StoreError as error:
        return Answer(503, f"failed to write failover key into DCS: {error}")
    loop.wake.set()
    if request.at is not None:
        return _named(Answer(202, "Switchover scheduled"), request)
    return _named(await _outcome(loop, request), request)


def _request(body: Mapping[str, Any]) -> Handover | Answer:
    leader, candidate, text = body.get("leader"), _candidate(body), body.get("scheduled_at")
    if candidate and candidate == leader:
        return Answer(400, "Switchover target and source are the same")
    wrong = _wrong_transactions(body)
    if wrong is not None:
        return wrong
    at = None
    if text:
        try:
            at = parse_time(str(text))
        except ScheduleError as error:
            if error.is_ambiguous:
                return Answer(400, "Timezone information is mandatory for the scheduled switchover")
            return Answer(
                422,
                "Unable to parse scheduled timestamp. It should be in an unambiguous format, "
                "e.g. ISO 8601",
            )
        if at < time.time():
            return Answer(422, "Cannot schedule switchover in the past")
    return Handover(str(leader) if leader else None, candidate or None, at, secrets.token_hex(4))


def _wrong_transactions(body: Mapping[str, Any]) -> Answer | None:
    """Return the answer to what cannot be meant for long transactions."""
    word, patience = body.get("transactions", "cancel"), body.get("transaction_timeout", 0)
    if word not in TRANSACTIONS:
        return Answer(400, f"transactions must be one of {', '.join(TRANSACTIONS)}")
    is_number = isinstance(patience, int | float) and not isinstance(patience, bool)
    if not is_number or not 0 <= patience <= LONGEST_SECONDS:
        return Answer(400, f"transaction_timeout must be seconds, at most {LONGEST_SECONDS:g}")
    return None


def _written(request: Handover, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key as Patroni writes it, with our id."""
    known = {
        "leader": request.leader,
        "member": request.candidate,
        "scheduled_at": body.get("scheduled_at"),
        "id": request.id,
        "transactions": body.get("transactions"),
        "transaction_timeout": body.get("transaction_timeout"),
    }
    return {name: value for name, value in known.items() if value is not None and value != ""}


def _refusal(cluster: Cluster, request: Handover) -> Answer | None:
    """Say no to what cannot be; whether the candidate is near enough only the leader knows."""
    paused = cluster.settings.pause
    if paused and request.at is not None:
        return Answer(400, "Can't schedule switchover in the paused state")
    if paused and not request.candidate:
        return Answer(400, "Switchover is possible only to a specific candidate in a paused state")
    leader = cluster.leader.name if cluster.leader else None
    if request.leader is not None and request.leader != leader:
        return Answer(412, "leader name does not match")
    if request.candidate is not None:
        return _refuse_candidate(cluster, request, leader)
    others = [name for name in cluster.members if name != leader]
    if not others:
        text = "switchover is not possible: cluster does not have members except leader"
        return Answer(412, text)
    if cluster.settings.synchronous_mode == "on" and not (
        cluster.sync and cluster.sync.electing.voters
    ):
        return Answer(412, "switchover is not possible: can not find sync_standby")
    return None


def _refuse_candidate(cluster: Cluster, request: Handover, leader: str | None) -> Answer | None:
    candidate = request.candidate or ""
    if candidate == leader:
        return Answer(412, f"{request.kind} is not possible: {candidate} leads already")
    if candidate not in cluster.members:
        return Answer(412, "candidate does not exists")
    voters = cluster.sync.electorate if cluster.sync else frozenset()
    is_sync = cluster.settings.synchronous_mode != "off"
    if is_sync and request.kind == "switchover" and candidate not in voters:
        return Answer(412, "candidate name does not match with sync_standby")
    if leader is None and not cluster.members[candidate].could_lead:
        return Answer(412, f"{request.kind} is not possible: no good candidates have been found")
    return None


async def _outcome(loop: Loop, request: Handover) -> Answer:
    """Wait until the request is over, and say what came of it."""

    def is_over(view: View) -> bool:
        cluster = view.cluster
        if cluster is None:
            return False
        entry = find(cluster.ledger, request.id)
        asked = cluster.handover
        gone = asked is None or asked.id != request.id
        # A leader that is a Patroni clears the request, and knows no ledger.
        seen = entry is not None and view.store_answers
        return (entry is not None and entry.is_finished) or (gone and seen)

    await loop.changed(is_over, ANSWER_SECONDS)
    cluster = loop.view.cluster
    entry = find(cluster.ledger, request.id) if cluster else None
    if cluster is None or entry is None:
        return Answer(503, f"{request.kind.capitalize()} failed: it was replaced by another one")
    if not entry.is_finished and cluster.handover is None:
        entry = await _settle(loop, cluster, request, entry)
    if not entry.is_finished:
        text = f"{request.kind} is still under way: GET /operations/{request.id} tells its outcome"
        return Answer(202, text)
    return Answer(STATUS_OF.get(entry.state, 503), entry.result)


async def _settle(loop: Loop, cluster: Cluster, request: Handover, entry: Entry) -> Entry:
    """Write the outcome of a handover that was ended by a Patroni."""
    leader = cluster.leader.name if cluster.leader else None
    if leader is not None and leader != request.leader:
        entry = entry.ended("done", request.outcome(leader), iso(time.time()))
    else:
        entry = entry.ended("failed", f"{request.kind.capitalize()} failed", iso(time.time()))
    try:
        await loop.effects.store.note(cluster, entry)
    except StoreError:
        return entry  # It is known here, if nowhere else.
    return entry


def _named(answer: Answer, request: Handover) -> Answer:
    return Answer(answer.status, answer.body, {"X-Pgherd-Operation": request.id})


async def get_operations(loop: Loop, number: str) -> Answer:
    """Tell of all operations that are remembered, or of the one with the id *number*."""
    try:
        cluster = await loop.effects.store.load()
    except StoreError as error:
        return Answer(503, f"etcd does not answer: {error}")
    if not number:
        return Answer(200, [entry.published() for entry in cluster.ledger])
    entry = find(cluster.ledger, number)
    if entry is None:
        return Answer(404, f"no operation {number} is remembered")
    return Answer(200, entry.published())
