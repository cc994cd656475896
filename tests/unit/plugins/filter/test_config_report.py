# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told of a change of the dynamic configuration."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.config_report import (
    VALUE_WIDTH,
    FilterModule,
    config_report,
    conflicts,
    shown,
)

REASONS = {"max_connections": {"old_value": "100", "new_value": "200"}}
CHANGE = {"key": "ttl", "before": 30, "after": 40, "effect": "none", "restarts": []}
NOTHING: dict[str, Any] = {
    "changes": [],
    "restart_members": [],
    "restart_reasons": {},
    "restart_order": [],
    "restart_in_place": False,
    "leader": "pg1",
    "silent": {},
}


def change(effect: str, *restarts: str) -> dict[str, Any]:
    return {**CHANGE, "effect": effect, "restarts": list(restarts)}


def waiting(*order: str, **more: Any) -> dict[str, Any]:
    """Return what is told when a restart in this *order* is waited for."""
    names = sorted(set(order))
    reasons = dict.fromkeys(names, REASONS)
    waits = {"restart_order": list(order), "restart_members": names, "restart_reasons": reasons}
    return {**NOTHING, **waits, **more}


def told(done: dict[str, Any], *, check: bool = True, **asked: Any) -> str:
    """Return the text in one line, so that it does not matter where it is broken."""
    text = config_report(done, {"name": "demo", "check": check, **asked})
    return " ".join(text.split())


def test_what_holds_already_is_said() -> None:
    assert told(NOTHING) == (
        "Dynamic configuration of demo: it holds what is asked for. Nobody waits for a restart."
    )


@pytest.mark.parametrize(
    ("number", "check", "words"),
    [(1, True, "1 change, not made yet."), (2, True, "2 changes, not made yet."),
     (1, False, "1 change made."), (2, False, "2 changes made.")],
)  # fmt: skip
def test_how_much_is_changed(number: int, check: bool, words: str) -> None:
    assert words in told({**NOTHING, "changes": [CHANGE] * number}, check=check)


@pytest.mark.parametrize(
    ("effect", "restarts", "words"),
    [
        ("restart", ["pg2", "pg3"], "restart of pg2, pg3"),
        ("reload", [], "by a reload, which happens by itself"),
        ("agent", [], "at once, in the agents"),
        ("none", [], "in nothing: the members' files say otherwise, or it is the same"),
        ("unknown", [], "in what nobody can tell: no PostgreSQL answers"),
    ],
)
def test_each_change_says_how_it_takes_effect(effect: str, restarts: list[str], words: str) -> None:
    done = {**NOTHING, "changes": [change(effect, *restarts)]}
    assert f"ttl 30 -> 40 {words}" in told(done)


def test_the_columns_stand_below_each_other() -> None:
    longer = {**CHANGE, "key": "postgresql.parameters.work_mem", "after": "16MB"}
    lines = config_report({**NOTHING, "changes": [CHANGE, longer]}, {"name": "x", "check": True})
    first, second = (line for line in lines.splitlines() if "->" in line)
    assert first.index("30 ->") == second.index("30 ->")
    assert first.index("in nothing") == second.index("in nothing")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unset"), ("4MB", "4MB"), (True, "true"), ({"a": [1]}, '{"a": [1]}'),
     ("a\n  b", "a b"), ("x" * 50, "x" * (VALUE_WIDTH - 1) + "…")],
)  # fmt: skip
def test_values_are_short(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("order", "in_place", "words"),
    [
        (["pg2", "pg3"], False, "The safe order: pg2, then pg3. The lead stays where it is."),
        (["pg2", "pg3", "pg1"], False, "then pg1. pg1 leads, and hands the lead over before"),
        (["pg1"], True, "The safe order: pg1. pg1 leads, and is restarted in place: no writes"),
        (["pg1", "pg2"], True, "in place before a standby may have less than it has: no writes"),
        (["pg2", "pg1", "pg2"], True, "in place before a standby may have less"),
    ],
)
def test_the_order_says_what_becomes_of_the_lead(
    order: list[str], in_place: bool, words: str
) -> None:
    assert words in told(waiting(*order, restart_in_place=in_place))


def test_who_waits_is_told_by_tense() -> None:
    planned = told(waiting("pg2", "pg1", changes=[change("restart", "pg1", "pg2")]))
    assert "pg1, pg2 would wait for a restart: max_connections." in planned
    assert "config_apply makes the change; with -e config_restart=true it restarts" in planned
    made = told(waiting("pg2", changes=[change("restart", "pg2")]), check=False)
    assert "pg2 waits for a restart: max_connections." in made
    assert "restart_rolling does it, or config_apply -e config_restart=true." in made
    before = told(waiting("pg2", "pg1"))
    assert "pg1, pg2 wait for a restart: max_connections." in before
    assert "restart_rolling does it" in before


def test_without_a_restart_config_apply_is_all_there_is_to_say() -> None:
    text = told({**NOTHING, "changes": [CHANGE]})
    assert text.endswith("Nobody waits for a restart. config_apply makes the change.")
    assert "config_apply" not in told({**NOTHING, "changes": [CHANGE]}, check=False)


def test_who_was_restarted_waits_no_longer() -> None:
    text = told(waiting("pg2", "pg1"), check=False, restarted=["pg2", "pg1"])
    assert text.endswith("Restarted: pg2, pg1.")
    assert "wait" not in text


def test_who_told_nothing_is_named_and_nobody_is_promised_anything() -> None:
    text = told({**NOTHING, "silent": {"pg3": "no agent answers."}})
    assert "What it means for pg3 is not known: no agent answers." in text
    assert "Nobody waits" not in text


@pytest.mark.parametrize(
    ("changes", "inventory", "keys"),
    [
        ({"a": 1}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"a": 2, "b": {"c": 2, "d": 2}}, ["a", "b.c"]),
        ({"b": None}, {"b": {"c": 2}}, ["b"]),
    ],
)
def test_what_the_inventory_would_undo(
    changes: dict[str, Any], inventory: dict[str, Any], keys: list[str]
) -> None:
    assert list(conflicts(changes, inventory)) == keys
    text = told(NOTHING, changes=changes, inventory=inventory)
    assert (f"says otherwise of {', '.join(keys)}: site brings that back" in text) is bool(keys)


def test_it_is_a_filter() -> None:
    assert FilterModule().filters() == {"config_report": config_report}
