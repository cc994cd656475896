# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's parameters, as a real server knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from agent.tests.postgres_processes import nodes
from pgherd.server_settings import Known, check_parameters, known_settings, restart_order, waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known() -> AsyncIterator[Known]:
    """What a server of 60 connections, fresh from initdb, says of itself."""
    async with nodes(1, max_connections=60) as [one]:
        await one.create()
        found = await known_settings(one.postgres)
        assert found is not None
        yield found


pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestChecking:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_connections", "100"),
            ("shared_buffers", "128MB"),
            ("shared_buffers", 16384),
            ("work_mem", "1.5MB"),
            ("checkpoint_timeout", "15min"),
            ("random_page_cost", "1.1"),
            ("wal_level", "hot_standby"),
            ("wal_level", "Logical"),
            ("synchronous_commit", True),
            ("synchronous_commit", "yes"),
            ("archive_mode", "on"),
            ("archive_mode", "always"),
            ("wal_log_hints", "t"),
            ("TimeZone", "UTC"),
            ("timezone", "UTC"),
            ("archive_command", "cp %p /a/%f"),
            ("pg_stat_statements.max", "anything: it is not loaded"),
            ("work_mem", None),
        ],
    )
    async def test_what_the_server_takes_is_taken(
        self, known: Known, name: str, value: Any
    ) -> None:
        assert check_parameters({name: value}, known) == []

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("max_connections", "many", "must be a number"),
            ("max_connections", 0, "must be between 1 and 262143"),
            ("work_mem", "4 mb", "must be a number (unit kB)"),
            ("work_mem", "1s", "must be a number (unit kB)"),
            ("work_mem", "1kB", "must be between 64 and"),
            ("random_page_cost", -1, "must be between 0 and"),
            ("wal_level", "some", "must be one of minimal, replica, logical"),
            ("archive_mode", "sometimes", "must be one of always, on, off"),
            ("fsync", "perhaps", "must be on or off"),
            ("block_size", 8192, "cannot be set"),
        ],
    )
    async def test_what_it_would_refuse_is_refused(
        self, known: Known, name: str, value: Any, reason: str
    ) -> None:
        [problem] = check_parameters({name: value}, known)
        assert problem.startswith(f"postgresql.parameters.{name}: {reason}")
        assert problem.endswith(f", not {value!r}" if reason != "cannot be set" else "8192")

    async def test_an_unknown_name_is_refused_with_the_nearest_one(self, known: Known) -> None:
        [problem] = check_parameters({"shared_bufers": "1GB"}, known)
        assert problem == (
            "postgresql.parameters.shared_bufers: the server knows no such parameter; "
            "did you mean `shared_buffers`?"
        )


class TestWhatWaitsForARestart:
    async def test_a_change_of_what_is_read_at_start_does(self, known: Known) -> None:
        names = {"max_connections", "work_mem", "shared_buffers"}
        wanted = {"max_connections": "101", "work_mem": "8MB", "shared_buffers": "32MB"}
        assert waiting(wanted, names, known) == {
            "max_connections": {"old_value": "60", "new_value": "101"},
            "shared_buffers": {"old_value": "2048", "new_value": "32MB"},
        }

    async def test_another_spelling_of_the_same_does_not(self, known: Known) -> None:
        wanted = {"shared_buffers": "16384kB", "wal_level": "hot_standby", "max_connections": 60.0}
        assert waiting(wanted, set(wanted), known) == {}

    async def test_what_is_given_no_more_goes_back_to_the_default(self, known: Known) -> None:
        assert waiting({}, {"max_connections"}, known) == {
            "max_connections": {"old_value": "60", "new_value": "100"}
        }


class TestTheOrder:
    """Hot-standby-sensitive ones: PostgreSQL documentation 26.4.4."""

    @pytest.mark.parametrize(
        ("reasons", "order"),
        [
            ({}, "any"),
            ({"shared_buffers": ("1", "2")}, "any"),
            ({"max_connections": ("100", "200")}, "standbys first"),
            ({"max_connections": ("200", "100"), "shared_buffers": ("1", "2")}, "primary first"),
            (
                {"max_connections": ("100", "200"), "max_wal_senders": ("10", "5")},
                "standbys first for max_connections; primary first for max_wal_senders",
            ),
            ({"max_connections": ("100", "default")}, "any"),
        ],
    )
    async def test_raised_on_standbys_lowered_on_the_primary_first(
        self, reasons: dict[str, tuple[str, str]], order: str
    ) -> None:
        known = {name: {"old_value": old, "new_value": new} for name, (old, new) in reasons.items()}
        assert restart_order(known) == order
