# SPDX-License-Identifier: GPL-3.0-or-later
"""`/pooler` of the REST API: whether clients may use this host's poolers, and pausing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd.answers import Answer
from pgherd.health_checks import Health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.requests import Request

# Who asks for a pause waits no longer than this for it to be complete, seconds.
LONGEST_SECONDS: Final = 60.0
NONE_HERE: Final = Answer(404, "there is no such pooler on this host")


def pooler(loop: Loop, request: Request) -> Answer:
    """Answer from what is known already: balancers ask often."""
    name = request.path.strip("/").partition("/")[2]
    if name == "rw" and loop.pooling.has_rw:
        problem = loop.pooling.problem()
        body = _rw_body(loop, problem)
    elif name == "ro" and loop.pooling.has_ro:
        problem = _ro_problem(loop, request)
        body = {"state": _state(is_up=loop.pooling.ro_is_up), "problem": problem or None}
    else:
        return NONE_HERE
    # Balancers are content with the code.
    return Answer(503 if problem else 200, body if request.method == "GET" else "")


def _state(*, is_up: bool) -> str:
    return "up" if is_up else "down"


def _rw_body(loop: Loop, problem: str) -> dict[str, Any]:
    pooling, state = loop.pooling, loop.pooling.state
    return {
        "state": _state(is_up=state.is_up),
        "target": state.target.name if state.target else None,
        "address": f"{state.target.host}:{state.target.port}" if state.target else None,
        "leader": state.leader.name if state.leader else None,
        "paused": bool(pooling.paused_for),
        "operation": pooling.paused_for or None,
        "problem": problem or None,
    }


def _ro_problem(loop: Loop, request: Request) -> str:
    """Return why reading clients should not come here, empty when they may."""
    if not loop.pooling.ro_is_up:
        return "PgBouncer does not answer"
    if not Health(loop.view, loop.effects.clock(), request.query).is_replica:
        return "the server here is no replica that may be used (see GET /replica)"
    return ""


async def post_pooler(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Pause or resume the pooler for writes; a pause is answered when it is complete."""
    action, operation = body.get("action"), body.get("operation")
    if not isinstance(operation, str) or not operation:
        return Answer(400, "`operation` must say what the pooler is paused for")
    if not loop.pooling.has_rw:
        return NONE_HERE
    if action == "pause":
        within = body.get("within", 1)
        is_number = isinstance(within, int | float) and not isinstance(within, bool)
        if not is_number or not 0 < within <= LONGEST_SECONDS:
            return Answer(400, f"`within` must be a number of seconds up to {LONGEST_SECONDS:g}")
        problem = await loop.pooling.pause(operation, within)
    elif action == "resume":
        problem = await loop.pooling.resume(operation)
    else:
        return Answer(400, "`action` must be pause or resume")
    return Answer(503, problem) if problem else Answer(200, _rw_body(loop, ""))
