# SPDX-License-Identifier: GPL-3.0-or-later
"""What `pgherd doctor` says of slots: how bad each is, and what a real PostgreSQL tells of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, nodes
from pgherd.commands.examine_slots import failover_slots, judge_slot, slots

if TYPE_CHECKING:
    from pgherd.commands.findings import Finding

GB = 2**30
USUAL = {
    "slot_name": "feed", "slot_type": "logical", "active": True, "wal_status": "reserved",
    "in_recovery": False, "kept": 0, "most": -1,
}  # fmt: skip


def judged(owner: str | None = None, **changes: Any) -> tuple[str, str] | None:
    """Return level and remedy for a slot on pg1."""
    found = judge_slot("pg1", {**USUAL, **changes}, owner)
    return (found.level.value, found.remedy) if found else None


def level(owner: str | None = None, **changes: Any) -> str | None:
    told = judged(owner, **changes)
    return told[0] if told else None


class TestASlot:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, None),
            ({"kept": 8 * GB}, "warning"),
            ({"kept": 8 * GB, "most": 100 * GB}, "warning"),
            ({"kept": 3 * GB, "most": 100 * GB}, None),
            ({"kept": 9 * GB, "most": 10 * GB}, "problem"),
            ({"kept": 5, "most": 10 * GB, "wal_status": "unreserved"}, "problem"),
            ({"kept": None, "wal_status": "lost", "active": False}, "problem"),
            ({"active": False}, "hint"),
            ({"active": False, "kept": 8 * GB}, "warning"),
        ],
    )
    def test_how_bad_it_is(self, changes: dict[str, Any], expected: str | None) -> None:
        assert level(**changes) == expected

    def test_what_nobody_uses_on_a_standby_waits_for_the_day_it_leads(self) -> None:
        assert level(active=False, in_recovery=True) is None
        assert level(active=False, in_recovery=True, kept=8 * GB) == "warning"

    def test_a_members_slot_that_is_not_in_use_is_told_with_the_member(self) -> None:
        assert level("pg2", active=False) is None
        assert level("pg2", active=False, kept=8 * GB) == "warning"

    def test_the_remedy_names_who_is_to_be_helped(self) -> None:
        lost = judged(wal_status="lost")
        assert lost
        assert "SELECT pg_drop_replication_slot('feed') on pg1" in lost[1]
        assert judged("pg2", wal_status="lost") == ("problem", "pgherd reinit pg2")
        late = judged("pg2", kept=9 * GB, most=10 * GB)
        assert late
        assert late[1].startswith("have pg2 catch up, or raise max_slot_wal_keep_size")


def found(members: list[dict[str, Any]]) -> list[tuple[str, str]]:
    patient: Any = SimpleNamespace(members=members)
    return [(each.level.value, each.text.split(":")[0]) for each in failover_slots(patient)]


LEADER = {"name": "pg1", "role": "leader"}
HAS = {"name": "pg2", "role": "replica"}
LACKS = {"name": "pg3", "role": "replica", "pgherd": {"failover_slots_missing": ["a", "b"]}}


class TestFailoverSlots:
    def test_an_heir_that_has_them_is_left(self) -> None:
        assert found([LEADER, HAS, LACKS]) == [("warning", "pg3 lacks a, b")]

    def test_no_heir_has_them(self) -> None:
        assert found([LEADER, LACKS]) == [("problem", "pg3 lacks a, b")]

    def test_of_whom_never_leads_it_does_not_matter(self) -> None:
        assert found([LEADER, {**LACKS, "tags": {"nofailover": True}}]) == []


class TestRealSlots:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        if not INSTALLED:
            pytest.fail(MISSING, pytrace=False)

    async def look(self, *instances: Any) -> list[Finding]:
        first = instances[0]
        rows = [{"name": each.config.name, "role": "replica", "host": "127.0.0.1",
                 "port": each.config.postgres.port} for each in instances]  # fmt: skip
        patient: Any = SimpleNamespace(
            name=first.config.name, config=first.config, members=rows, peers=rows[1:]
        )
        return await asyncio.to_thread(lambda: list(slots(patient)))

    async def test_those_of_all_members_are_looked_at(self) -> None:
        async with nodes(2, max_slot_wal_keep_size="64MB") as [first, second]:
            await first.create()
            await second.copy(first)
            [well] = await self.look(first, second)
            assert (well.level.value, well.text[:22]) == ("good", "1 in all on 2 members,")
            await first.postgres.query(
                "SELECT pg_create_physical_replication_slot('archive', true)"
            )
            [unused] = await self.look(second, first)
            assert unused.level.value == "hint"
            assert unused.text.startswith("pg1: nobody uses slot archive; WAL piles up")

    async def test_an_instance_of_this_host_that_is_silent_is_a_problem(self) -> None:
        async with nodes(1) as [node]:
            [silent] = await self.look(node)
            assert silent.level.value == "problem"
            assert silent.text.startswith("PostgreSQL of this host: ")
            assert silent.text.endswith("failed: Connection refused")
