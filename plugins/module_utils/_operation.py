# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster was asked to do, followed to its end. Private to the collection."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpBroken,
    HttpError,
    HttpSilent,
)

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents

PAUSE_SECONDS = 0.2
UNDER_WAY = ("scheduled", "running")


class OperationError(Exception):
    """An operation that did not come to what was asked; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What is to be done: nothing, something (*body* is what is sent), or not that (*refusal*)."""

    refusal: str = ""
    body: dict[str, Any] | None = None


def find(operations: list[dict[str, Any]], known: set[str], number: str) -> dict[str, Any] | None:
    """Return the operation *number*, without it the newest that is not *known*."""
    fits = [o for o in operations if (o["id"] == number if number else o["id"] not in known)]
    return fits[-1] if fits else None


def carry_out(
    agents: Agents, path: str, body: dict[str, Any], wait_seconds: float
) -> dict[str, Any]:
    """Ask for an operation and return it as it ended, or as it is scheduled.

    When the agent that took the request is gone the others are asked what became of it.
    Raises OperationError when it is refused, fails, or is not over within *wait_seconds*; and
    HttpError when no agent can be reached to begin with.
    """
    deadline = time.monotonic() + wait_seconds
    known = {str(operation["id"]) for operation in agents.get("/operations")}
    number = ""
    try:
        reply = agents.send("POST", path, body, wait_seconds)
        number = reply.headers.get("x-pgherd-operation", "")
    except (HttpBroken, HttpSilent):
        pass  # the cluster remembers it, if it was taken
    return _follow(agents, known, number, deadline, bool(body.get("scheduled_at")))


def _follow(
    agents: Agents, known: set[str], number: str, deadline: float, scheduled: bool
) -> dict[str, Any]:
    said = "no agent knows of it"
    while True:
        try:
            operation = find(agents.get("/operations"), known, number)
        except HttpError as error:
            operation, said = None, str(error)
        if operation is not None:
            number, state = str(operation["id"]), str(operation["state"])
            if state == "done" or (scheduled and state == "scheduled"):
                return operation
            if state not in UNDER_WAY:
                raise OperationError(f"{state}: {operation['result']}")
            said = f"it is still under way: GET /operations/{number} tells its outcome"
        if time.monotonic() >= deadline:
            raise OperationError(said)
        time.sleep(PAUSE_SECONDS)
