# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarting PostgreSQL because an operator asks for it: the requests, and carrying them out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from pgherd.answers import Answer
from pgherd.errors import NotAnsweringError, PostgresError, StoreError
from pgherd.model import Process
from pgherd.pooler_pause import PoolerPause
from pgherd.rules.restart import LEAVE_SECONDS
from pgherd.schedules import parse_schedule
from pgherd.stopping import checkpoint_first, shut_down_promptly
from pgherd.timestamps import iso
from pgherd.wanted import FAILED, RESTARTED, STILL_STARTING
from pgherd.wishes import ROLES, Conditions, Restart, ScheduledRestart, seconds, version_number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pgherd.loop import Loop
    from pgherd.model import Member
    from pgherd.view import View

log = logging.getLogger(__name__)

# The checkpoint before the stop, during which clients go on, is given so long, seconds.
CHECKPOINT_SECONDS: Final = 60.0
# Clients wait while a server stops: it is stopped immediately, and recovers, after this. Seconds.
STOP_SECONDS: Final = 30.0
# What a restart takes besides what is bounded: rounds of the loop, programs, seconds.
SLACK_SECONDS: Final = 15.0
# A round has shown a change to others within this time, seconds.
ROUND_SECONDS: Final = 10.0


# Requests


async def post_restart(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Restart PostgreSQL, now or when it is scheduled (`POST /restart`)."""
    if loop.view.settings.pause and "schedule" in body:
        return Answer(500, "Can't schedule restart in the paused state")
    for key, value in body.items():
        refusal = _refusal(key, value)
        if refusal is not None:
            return refusal
    if "schedule" in body:
        return await _schedule(loop, body)
    if "restart_pending" in body:
        await _take_in_configuration(loop)
    return await _restart_now(loop, body)


async def _take_in_configuration(loop: Loop) -> None:
    """Wait until it is known which settings wait for a restart, after a change just before."""
    try:
        revision = (await loop.effects.store.load()).config_revision
    except StoreError:
        # Then what is known here counts.
        return
    if loop.view.instance.is_running and loop.view.config_revision < revision:
        loop.wake.set()
        await loop.changed(lambda view: view.config_revision >= revision, ROUND_SECONDS)


def _refusal(key: str, value: Any) -> Answer | None:
    """Return the answer to a body that holds *value* under *key*, None when that is good."""
    if key == "schedule":
        at = parse_schedule(value, "restart")
        return at if isinstance(at, Answer) else None
    if key == "role" and value not in ROLES:
        words = "primary, standby_leader, or replica"
        return Answer(400, f"PostgreSQL role should be either {words}")
    if key == "postgres_version" and version_number(str(value)) is None:
        return Answer(400, f"Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {value}")
    if key == "timeout" and not seconds(value):
        return Answer(400, "Timeout should be a positive number of seconds")
    if key in ("role", "postgres_version", "timeout", "restart_pending"):
        return None
    return Answer(400, f"Unknown filter for the scheduled restart: {key}")


async def _schedule(loop: Loop, body: Mapping[str, Any]) -> Answer:
    if loop.wanted.scheduled is not None:
        return Answer(409, "Another restart is already scheduled")
    at = parse_schedule(body["schedule"], "restart")
    if isinstance(at, Answer):
        return at
    raw = dict(body)
    if "timeout" in raw:
        raw["timeout"] = seconds(raw["timeout"])
    if loop.view.instance.started_at:
        raw["postmaster_start_time"] = loop.view.instance.started_at
    loop.wanted.schedule(ScheduledRestart(at, raw))
    log.info("a restart is scheduled for %s", iso(at))
    loop.wake.set()
    # Answered when etcd has it, so that it outlives this agent.
    await loop.changed(lambda view: view.scheduled_restart is not None, ROUND_SECONDS)
    return Answer(202, "Restart scheduled")


async def delete_restart(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Forget the scheduled restart (`DELETE /restart`)."""
    if loop.wanted.scheduled is None:
        return Answer(404, "no restarts are scheduled")
    loop.wanted.schedule(None)
    loop.wake.set()
    await loop.changed(lambda view: view.scheduled_restart is None, ROUND_SECONDS)
    return Answer(200, "scheduled restart deleted")


async def _restart_now(loop: Loop, body: Mapping[str, Any]) -> Answer:
    view, wanted = loop.view, loop.wanted
    version = body.get("postgres_version")
    conditions = Conditions(
        role=body.get("role"),
        below_version=version_number(str(version)) if version is not None else None,
        pending="restart_pending" in body,
    )
    if not conditions.hold(view.instance, holds_key=view.holds_key):
        return Answer(503, "restart conditions are not satisfied")
    under_way = "restart" if wanted.restart is not None else loop.operations.current
    if under_way:
        return Answer(503, f"{under_way.split()[0]} already in progress")
    if view.instance.process is Process.STARTING:
        return Answer(503, STILL_STARTING)
    if view.instance.process is Process.STOPPED and not view.settings.pause:
        return Answer(503, f"{FAILED}: PostgreSQL does not run")
    within = seconds(body["timeout"]) if "timeout" in body else None
    request = Restart(loop.effects.clock(), within)
    outcome = wanted.ask_restart(request)
    loop.wake.set()
    bound = LEAVE_SECONDS + CHECKPOINT_SECONDS + _stop_seconds(view) + start_seconds(view, request)
    try:
        async with asyncio.timeout(bound + SLACK_SECONDS):
            text = await outcome
    except TimeoutError:
        wanted.end_restart(FAILED)
        text = FAILED
    return Answer(200 if text == RESTARTED else 503, text)


# Carrying out


def start_seconds(view: View, request: Restart | None) -> float:
    """Return how long the new start may take."""
    if request is not None and request.within is not None:
        return request.within
    return view.settings.start_seconds


def _stop_seconds(view: View) -> float:
    return view.settings.stop_seconds(STOP_SECONDS)


async def restart_primary(loop: Loop, view: View, names: str) -> None:
    """Stop the primary and start it again, the key in hand.

    :raises PostgresError: it does not stop, does not start, or may not lead any more.
    """

    async def start() -> None:
        if not (loop.view.settings.pause or (loop.view.holds_key and loop.leadership.has_lease())):
            raise PostgresError("the lead was lost before PostgreSQL was started again")
        await loop.effects.postgres.start_primary(names)

    await _restart(loop, view, start)


async def restart_standby(loop: Loop, view: View, upstream: Member | None) -> None:
    """Stop the standby and start it again.

    :raises PostgresError: it does not stop or does not start.
    """
    await _restart(loop, view, lambda: loop.effects.postgres.start_standby(upstream))


async def _restart(loop: Loop, view: View, start: Callable[[], Awaitable[None]]) -> None:
    postgres, outcome = loop.effects.postgres, FAILED
    pause = PoolerPause(loop, f"restart of {view.me}")
    try:
        if view.instance.is_primary:
            await checkpoint_first(postgres, CHECKPOINT_SECONDS)
            # Clients of the poolers wait instead of seeing errors.
            await pause.begin()
            await shut_down_promptly(postgres, _stop_seconds(view))
        else:
            await postgres.stop(_stop_seconds(view))
        await start()
        await postgres.wait_until_answering(start_seconds(view, view.restart))
        outcome = RESTARTED
    except NotAnsweringError as error:
        # The rules see to a start that takes too long.
        log.warning("%s", error)
        outcome = STILL_STARTING
    finally:
        await pause.end()
        loop.wanted.end_restart(outcome)
