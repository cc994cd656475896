# SPDX-License-Identifier: GPL-3.0-or-later
"""An operation is followed to its end, also when the agent that took it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpBroken,
    HttpError,
    HttpRefused,
    Reply,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import (
    OperationError,
    carry_out,
)

OLD = {"id": "0", "state": "done", "result": "long ago"}


@dataclass(frozen=True)
class Scripted:
    """Agents that answer what was laid down: to the request, and each time they are asked."""

    reply: Reply | HttpError = field(default_factory=lambda: Reply(200, "", {}))
    told: list[Any] = field(default_factory=list)

    def get(self, path: str, accept: tuple[int, ...] = ()) -> Any:
        """Return what comes next, the last for ever."""
        assert path == "/operations"
        answer = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        if isinstance(answer, HttpError):
            raise answer
        return answer

    def send(self, *words: Any, **more: Any) -> Reply:
        """Return the reply, or raise it."""
        if isinstance(self.reply, HttpError):
            raise self.reply
        return self.reply


def operation(state: str, number: str = "1") -> dict[str, str]:
    """Return an operation of the cluster."""
    return {"id": number, "state": state, "result": f"it was {state}"}


def test_it_is_followed_by_its_id() -> None:
    told = [[OLD], [OLD, operation("running"), operation("running", "2")], [operation("done")]]
    agents = Scripted(reply=Reply(202, "", {"x-pgherd-operation": "1"}), told=told)
    assert carry_out(agents, "/switchover", {}, 5) == operation("done")


def test_the_others_know_when_the_agent_is_gone() -> None:
    told = [[OLD], HttpRefused("down"), [OLD], [OLD, operation("done")]]
    agents = Scripted(reply=HttpBroken("reset"), told=told)
    assert carry_out(agents, "/switchover", {}, 5) == operation("done")


def test_what_is_scheduled_is_not_waited_for() -> None:
    told = [[OLD], [operation("scheduled")]]
    agents = Scripted(reply=Reply(202, "", {"x-pgherd-operation": "1"}), told=told)
    body = {"scheduled_at": "2030-01-01T03:00:00+00:00"}
    assert carry_out(agents, "/switchover", body, 5) == operation("scheduled")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([[OLD], [operation("refused")]], "refused: it was refused"),
        ([[OLD], [operation("failed")]], "failed: it was failed"),
        ([[OLD], [operation("running")]], "still under way: GET /operations/1"),
        ([[OLD], [OLD]], "no agent knows of it"),
        ([[OLD], HttpRefused("all are down")], "all are down"),
    ],
)
def test_what_does_not_end_well_is_told(told: list[Any], reason: str) -> None:
    with pytest.raises(OperationError, match=reason):
        carry_out(Scripted(told=told), "/switchover", {}, 0)


def test_what_was_refused_at_once_is_not_followed() -> None:
    agents = Scripted(reply=HttpRefused("nobody"), told=[[OLD]])
    with pytest.raises(HttpRefused):
        carry_out(agents, "/switchover", {}, 5)
