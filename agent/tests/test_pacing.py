# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom logical subscribers wait for, chosen together with whom commits wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import primary
from agent.tests.fakes import Rig
from pgherd.errors import PostgresError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.fakes import ScriptedPostgres
    from pgherd.pacing import Pacing

ANY = 'ANY 1 ("pg2","pg3")'


@pytest.fixture
def postgres(tmp_path: Path) -> ScriptedPostgres:
    """An instance of PostgreSQL 17."""
    known = Rig(tmp_path, primary()).postgres
    (tmp_path / "data").mkdir()
    (tmp_path / "data/PG_VERSION").write_text("17\n")
    return known


def waits(pacing: Pacing) -> tuple[str, ...]:
    """Return what is to be written."""
    return pacing._files.subscribers_wait_for


async def test_who_streams_is_preferred_once_it_is_known(postgres: ScriptedPostgres) -> None:
    pacing = postgres.pacing
    await pacing.choose(ANY)
    assert waits(pacing) == ("pg2",)
    assert await pacing.see(["pg3"], [])
    assert waits(pacing) == ("pg3",)
    assert not await pacing.see(["pg3", "pg2"], [])
    await pacing.choose('2 ("pg2","pg3")')
    assert waits(pacing) == ("pg2", "pg3")


async def test_a_slot_is_made_before_it_is_named(postgres: ScriptedPostgres) -> None:
    await postgres.pacing.choose('ANY 1 ("PG-9")')
    assert postgres.calls == [("create_slot", "pg_9")]
    assert waits(postgres.pacing) == ("pg_9",)


async def test_one_that_cannot_be_made_is_named_all_the_same(postgres: ScriptedPostgres) -> None:
    """Subscribers wait rather than get ahead."""
    postgres.fails["create_slot"] = PostgresError("all slots are in use")
    await postgres.pacing.choose(ANY)
    assert waits(postgres.pacing) == ("pg2",)


async def test_of_a_stopped_one_nothing_is_asked(postgres: ScriptedPostgres) -> None:
    await postgres.pacing.choose(ANY, is_running=False)
    assert (waits(postgres.pacing), postgres.calls) == (("pg2",), [])


async def test_where_commits_wait_for_nobody_all_that_may_lead_count(
    postgres: ScriptedPostgres,
) -> None:
    pacing = postgres.pacing
    assert await pacing.see(["pg2", "pg3"], ["pg2", "pg3"])
    assert waits(pacing) == ("pg2", "pg3")
    await pacing.choose(ANY)
    assert waits(pacing) == ("pg2",)


async def test_an_agent_started_anew_goes_on_with_what_is_in_force(
    postgres: ScriptedPostgres,
) -> None:
    instance = primary(sync_names=ANY, subscribers_wait_for=frozenset({"pg3"}))
    postgres.pacing.adopt(instance)
    assert waits(postgres.pacing) == ("pg3",)
    assert not await postgres.pacing.see(["pg3", "pg2"], [])
