# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling restarts: the requests, and writing down what the leader has decided."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgherd.answers import Answer
from pgherd.errors import StoreError
from pgherd.handover import Handover
from pgherd.ledger import Entry
from pgherd.rolling import KIND, Roll, find_roll
from pgherd.schedules import parse_schedule
from pgherd.switchover import new_entry
from pgherd.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.model import Cluster
    from pgherd.rolling import Step
    from pgherd.view import View

log = logging.getLogger(__name__)


async def post_rolling_restart(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Have every member restarted, one after the other (`POST /rolling_restart`)."""
    at: float | None = None
    if body.get("scheduled_at"):
        parsed = parse_schedule(body["scheduled_at"], "restart")
        if isinstance(parsed, Answer):
            return parsed
        at = parsed
    try:
        cluster = await loop.effects.store.load()
        refusal = _refusal(cluster)
        if refusal is not None:
            return refusal
        entry = Entry(
            id=secrets.token_hex(4),
            kind=KIND,
            state="running" if at is None else "scheduled",
            requested_at=iso(time.time()),
            scheduled_at=iso(at) if at is not None else None,
            details=Roll(pending=body.get("pending") is True).published(),
        )
        if not await loop.effects.store.note(cluster, entry):
            return Answer(503, "what is under way has just changed: ask again")
    except StoreError as error:
        return Answer(503, f"failed to write the operation into DCS: {error}")
    loop.wake.set()
    return Answer(202, entry.published(), {"X-Pgherd-Operation": entry.id})


def _refusal(cluster: Cluster) -> Answer | None:
    under_way = [each for each in cluster.ledger if each.kind == KIND and not each.is_finished]
    if under_way:
        return Answer(409, f"a rolling restart is under way or scheduled: {under_way[0].id}")
    if cluster.settings.pause:
        return Answer(412, "Can't restart members one by one in the paused state")
    if cluster.leader is None:
        return Answer(503, "Cluster has no leader, can not restart members one by one")
    return None


async def delete_rolling_restart(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Call a rolling restart off; the member whose turn it is finishes its own."""
    try:
        cluster = await loop.effects.store.load()
        entry = find_roll(replace(loop.view, cluster=cluster))
        if entry is None:
            return Answer(404, "no rolling restart is under way")
        ended = entry.ended("cancelled", "it was cancelled", iso(time.time()))
        if not await loop.effects.store.note(cluster, ended):
            return Answer(409, "what is under way has just changed: ask again")
    except StoreError as error:
        return Answer(503, f"failed to write the operation into DCS: {error}")
    return Answer(200, "rolling restart cancelled")


async def move_roll(loop: Loop, view: View, step: Step) -> None:
    """Write down as leader how a rolling restart goes on."""
    entry = find_roll(view)
    if entry is None or view.cluster is None:
        return
    store = loop.effects.store
    entry = replace(entry, state=step.state, details=step.roll.published())
    try:
        if step.heir is not None:
            request = Handover(view.me, step.heir, id=secrets.token_hex(4))
            roll = replace(step.roll, handover=request.id)
            entry = replace(entry, details=roll.published())
            written = {"leader": view.me, "member": step.heir, "id": request.id}
            switch = new_entry(request, time.time())
            done = await store.ask_handover(view.cluster, written, entry, switch)
        elif step.result:
            done = await store.note(view.cluster, entry.ended(step.state, step.result, _now()))
        else:
            done = await store.note(view.cluster, entry)
    except StoreError as error:
        log.warning("how the rolling restart goes on could not be written: %s", error)
        return
    if done:
        whose = f"{step.heir} is to lead" if step.heir else f"the turn of {step.roll.name}"
        if step.roll.name is None:
            whose = "members have yet to take in the configuration"
        log.info("rolling restart %s: %s", entry.id, step.result or whose)
    loop.wake.set()


def _now() -> str:
    return iso(time.time())
