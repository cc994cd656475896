# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a cluster so that it holds what the inventory says, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.module_utils._configuration import (
    Told,
    changes_of,
    in_place,
    laid_on,
    outcome,
    patch_of,
    turns,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import Reply
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import OperationError
from ansible_collections.pgherd.cluster.plugins.modules.cluster_config import (
    ask,
    await_all,
    gather,
)

from pgherd.merge_patch import merge_patch

CURRENT = {"ttl": 30, "postgresql": {"parameters": {"work_mem": "4MB"}, "use_slots": True}}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({}, CURRENT),
        ({"ttl": 20}, {**CURRENT, "ttl": 20}),
        ({"ttl": None, "pause": None}, {"postgresql": CURRENT["postgresql"]}),
        (
            {"postgresql": {"parameters": {"work_mem": None, "jit": False}}},
            {"ttl": 30, "postgresql": {"parameters": {"jit": False}, "use_slots": True}},
        ),
        ({"ttl": {"a": 1}}, {**CURRENT, "ttl": {"a": 1}}),
    ],
)
def test_a_mapping_is_laid_on_as_the_agent_does_it(
    patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert laid_on(CURRENT, patch) == merge_patch(CURRENT, patch) == result


@pytest.mark.parametrize(
    ("held", "config", "patch"),
    [
        ({}, {"ttl": 20}, {"ttl": 20}),
        ({"pgherd": {"lease_ttl": 9}}, {}, {"pgherd": {"lease_ttl": 5}}),
        (
            {"pgherd": {"lease_ttl": 9}},
            {"ttl": 20, "pgherd": {"loop_interval": 1}},
            {"pgherd": {"lease_ttl": 5, "loop_interval": 1}, "ttl": 20},
        ),
        # Whoever takes it out wants the files to count again.
        ({"pgherd": {"lease_ttl": 9}}, {"pgherd": None}, {"pgherd": None}),
    ],
)
def test_of_the_timings_those_are_brought_up_to_date_that_the_cluster_holds(
    held: dict[str, Any], config: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert patch_of(held, config, {"lease_ttl": 5, "hedge_delay": 0.2}) == patch


RAISED = {"max_connections": {"old_value": "100", "new_value": "200"}}


def plan(
    *effects: str,
    pending: Any = None,
    order: tuple[str, ...] = ("standbys", "leader"),
    everybody: bool = False,
) -> dict[str, Any]:
    """Return what a member tells of changes k0, k1 ... with these *effects*."""
    return {
        "changes": [
            {"key": f"k{number}", "before": None, "after": number, "effect": effect}
            for number, effect in enumerate(effects)
        ],
        "pending_restart": pending or {},
        "restart_order": list(order),
        "restart_all": everybody,
    }


@pytest.mark.parametrize(
    ("here", "there", "effect", "restarts"),
    [
        ("restart", "restart", "restart", ["pg1", "pg2"]),
        ("reload", "restart", "restart", ["pg2"]),
        ("none", "reload", "reload", []),
        ("unknown", "reload", "reload", []),
        ("agent", "unknown", "unknown", []),
        ("none", "agent", "agent", []),
        ("none", "none", "none", []),
    ],
)
def test_a_change_is_told_once_with_its_greatest_effect(
    here: str, there: str, effect: str, restarts: list[str]
) -> None:
    found = changes_of({"pg2": plan(there), "pg1": plan(here)})
    assert found == [
        {"key": "k0", "before": None, "after": 0, "effect": effect, "restarts": restarts}
    ]


def test_without_plans_there_are_no_changes_to_tell() -> None:
    assert changes_of({}) == []


LOWERED = plan(pending=RAISED, order=("leader", "standbys"), everybody=True)
BOTH = plan(pending=RAISED, order=("standbys", "leader", "standbys"), everybody=True)


@pytest.mark.parametrize(
    ("leads", "others", "order"),
    [
        (plan(), plan(), []),
        (plan(pending=RAISED), plan(pending=RAISED), ["pg1", "pg3", "pg2"]),
        (plan(), plan(pending=RAISED), ["pg1", "pg3"]),
        (plan(pending=RAISED), plan(), ["pg2"]),
        (LOWERED, plan(), ["pg2", "pg1", "pg3"]),
        (BOTH, plan(), ["pg1", "pg3", "pg2", "pg1", "pg3"]),
    ],
)
def test_whose_turn_it_is_when(
    leads: dict[str, Any], others: dict[str, Any], order: list[str]
) -> None:
    assert turns({"pg3": others, "pg2": leads, "pg1": others}, "pg2") == order


def test_a_leader_that_tells_nothing_leaves_the_usual_order() -> None:
    assert turns({"pg1": plan(pending=RAISED)}, "pg2") == ["pg1"]
    assert turns({"pg1": plan(pending=RAISED)}, "") == ["pg1"]


@pytest.mark.parametrize(
    ("told", "config", "expected"),
    [
        (Told({"pg1": plan(), "pg2": plan()}), {}, False),
        (Told({"pg1": plan(), "pg2": plan()}), {"standby_cluster": {"host": "far"}}, True),
        (Told({"pg1": LOWERED, "pg2": plan()}), {}, True),
        (Told({"pg1": plan()}), {}, True),
        (Told({"pg1": plan()}, {"pg2": "silent"}), {}, False),
    ],
)
def test_when_the_leader_is_restarted_where_it_is(
    told: Told, config: dict[str, Any], expected: bool
) -> None:
    assert in_place(told, "pg1", config) is expected


def test_the_outcome_tells_who_waits_and_why() -> None:
    told = Told({"pg2": plan("restart", pending=RAISED), "pg1": plan("none")}, {"pg3": "gone"})
    found = outcome(told, "pg1", {})
    assert found["restart_members"] == found["restart_order"] == ["pg2"]
    assert found["restart_reasons"] == {"pg2": RAISED}
    assert (found["restart_in_place"], found["leader"]) == (False, "pg1")
    assert found["silent"] == {"pg3": "gone"}


def reply(status: int, text: str) -> Reply:
    return Reply(status, text, {})


def test_answers_of_all_kinds_are_sorted() -> None:
    told = gather(
        {
            "pg1": reply(200, json.dumps(plan("reload"))),
            "pg2": reply(501, "Unsupported method"),
            "pg3": reply(503, "etcd does not answer: no"),
            "pg4": "no agent answers",
        }
    )
    assert told.plans == {"pg1": plan("reload")}
    assert told.silent == {
        "pg2": "its agent is older than this collection, and cannot tell",
        "pg3": "etcd does not answer: no",
        "pg4": "no agent answers",
    }
    assert told.refusals == ()


def test_what_any_member_refuses_is_refused_in_its_words_once() -> None:
    wrong = "ttl: must be a number of seconds, at least 20, not 5"
    told = gather(
        {"pg1": reply(422, f"{wrong}\nx: unknown"), "pg2": reply(422, wrong), "pg3": "silent"}
    )
    assert told.refusals == (wrong, "x: unknown")


def test_who_cannot_be_asked_is_silent() -> None:
    agents = Agents(("http://127.0.0.1:1",), timeout_seconds=1)
    assert ask(agents, {}, {}) == "nobody knows where its agent listens"
    said = ask(agents, {"api_url": "http://127.0.0.1:1/patroni"}, {})
    assert isinstance(said, str)
    assert "no agent answers (http://127.0.0.1:1" in said


class Informed:
    """Agents of whose members fewer are late each time they are asked."""

    def __init__(self, *late: list[str]) -> None:
        self.late = list(late)

    def cluster(self) -> dict[str, Any]:
        late = self.late.pop(0) if len(self.late) > 1 else self.late[0]
        return {"pgherd": {"uninformed": late}} if late else {}


def test_everybody_is_waited_for() -> None:
    agents = Informed(["pg2", "pg3"], ["pg3"], [])
    await_all(agents, 10)
    assert agents.late == [[]]


def test_who_does_not_take_it_in_is_named() -> None:
    with pytest.raises(OperationError, match=r"after 0\.1 s pg2, pg3 did not take it in"):
        await_all(Informed(["pg2", "pg3"]), 0.1)
