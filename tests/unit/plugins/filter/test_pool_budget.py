# SPDX-License-Identifier: GPL-3.0-or-later
"""All poolers together stay within what a server has, and say the sum when they would not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.pool_budget import pool_budget

NUMBERS: dict[str, Any] = {
    "max_connections": 200,
    "reserved": 3,
    "direct": 20,
    "poolers": 3,
    "auth": 2,
    "database_count": 2,
    "databases": {},
    "config": {},
    "rw_config": {},
    "ro_config": {},
}


def budget(**changes: Any) -> dict[str, Any]:
    """Return the budget of the usual numbers with *changes*."""
    found: dict[str, Any] = pool_budget({**NUMBERS, **changes})
    return found


def used(found: dict[str, Any], poolers: int = 3) -> int:
    """Return what one server may get, by what PgBouncer is told."""
    return int(poolers * found["rw"]["connections"] + found["ro"]["connections"])


def test_every_pooler_gets_the_same_share_and_every_database_the_same_part() -> None:
    found = budget()
    # 177 / 4 poolers = 44, less 2 to look users up: 21 for each of two databases.
    settings = {"max_db_connections": 21, "default_pool_size": 17, "reserve_pool_size": 4}
    assert found["rw"] == {"settings": settings, "databases": {}, "connections": 44}
    assert found["ro"] == found["rw"]
    assert (found["budget"], found["problem"]) == (177, "")


@pytest.mark.parametrize("poolers", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_what_is_derived_never_exceeds_the_server(poolers: int, count: int) -> None:
    databases = {"sized": {"pool_size": 1}, "plain": {"pool_mode": "session"}}
    good = 0
    for connections in range(40, 1000, 37):
        found = budget(
            max_connections=connections, poolers=poolers, database_count=count, databases=databases
        )
        if not found["problem"]:
            good += 1
            assert used(found, poolers) <= connections - 23
            assert found["rw"]["settings"]["max_db_connections"] >= 1
    assert good > 20


def test_listed_databases_are_taken_off_before_the_others_share() -> None:
    databases = {
        "pool": {"pool_size": 8, "reserve_pool_size": 2},
        "whole": {"pool_size": 50, "max_db_connections": 5},
        "mode": {"pool_mode": "session"},
    }
    found = budget(databases=databases, database_count=1)
    # 44 - 2 - 10 - 5 = 27, for the one that is not listed and the one without a size.
    assert found["rw"]["settings"]["max_db_connections"] == 13
    assert found["rw"]["connections"] == 2 + 10 + 5 + 2 * 13
    assert found["rw"]["databases"] == {
        "pool": {"pool_size": 8, "reserve_pool_size": 2, "max_db_connections": 10},
        "whole": {"pool_size": 50, "max_db_connections": 5},
        "mode": {"pool_mode": "session"},
    }
    assert found["problem"] == ""


def test_only_listed_databases_need_no_part_for_others() -> None:
    found = budget(database_count=0, databases={"app": {"pool_size": 42}})
    assert (found["rw"]["connections"], found["problem"]) == (44, "")
    assert found["rw"]["settings"] == {}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            {"max_db_connections": 10},
            {"max_db_connections": 10, "default_pool_size": 8, "reserve_pool_size": 2},
        ),
        (
            {"default_pool_size": 10},
            {"max_db_connections": 10, "default_pool_size": 10, "reserve_pool_size": 2},
        ),
        (
            {"default_pool_size": 10, "reserve_pool_size": 5},
            {"max_db_connections": 15, "default_pool_size": 10, "reserve_pool_size": 5},
        ),
        (
            {"reserve_pool_size": 0},
            {"max_db_connections": 21, "default_pool_size": 21, "reserve_pool_size": 0},
        ),
    ],
)
def test_what_is_given_replaces_what_is_derived(
    config: dict[str, int], settings: dict[str, int]
) -> None:
    found = budget(config=config)
    assert found["rw"]["settings"] == found["ro"]["settings"] == settings
    assert found["problem"] == ""


def test_one_side_can_have_sizes_of_its_own() -> None:
    found = budget(rw_config={"max_db_connections": 25}, ro_config={"max_db_connections": 5})
    assert [found[side]["connections"] for side in ("rw", "ro")] == [52, 12]
    assert (used(found), found["problem"]) == (168, "")


def test_a_sum_over_the_budget_is_shown() -> None:
    problem = budget(
        rw_config={"max_db_connections": 60}, databases={"app": {"pool_size": 9}}
    )["problem"]  # fmt: skip
    assert "3 x (2 + 9 + 2 x 60) + (2 + 9 + 2 x 16) = 436 connections" in problem
    assert "177 are theirs: max_connections 200 less 3 reserved for superusers and 20" in problem
    assert "postgresql_parameters" in problem
    assert "pgbouncer_direct_connections" in problem


def test_a_server_too_small_for_its_poolers_is_told_of() -> None:
    problem = budget(max_connections=33)["problem"]
    assert "share is 10 / 4 connections" in problem
    assert "2 of it are taken" in problem
    assert "max_connections in postgresql_parameters" in problem


def test_listed_databases_may_leave_nothing_for_others() -> None:
    problem = budget(databases={"app": {"pool_size": 42}})["problem"]
    assert "44 of it are taken, and nothing is left for 2 more databases" in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"databases": {"app": {"max_db_connections": 0}}},
        {"databases": {"app": {"pool_size": 0}}},
        {"config": {"max_db_connections": 0}},
        {"ro_config": {"default_pool_size": 0}},
    ],
)
def test_no_limit_is_refused(changes: dict[str, Any]) -> None:
    assert budget(**changes)["problem"] != ""


def test_where_users_are_looked_up_in_their_databases_nothing_is_set_aside() -> None:
    found = budget(auth=0)
    assert found["rw"]["settings"]["max_db_connections"] == 22
    assert found["rw"]["connections"] == 44
    assert "3 x (2 x 99)" in budget(auth=0, rw_config={"max_db_connections": 99})["problem"]
