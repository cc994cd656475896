# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/clients.md shows what `pgherd dsn` prints, string by string."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agent.tests.postgres_processes import nodes
from lab.documented import PAGE, kind, program, strings
from pgherd.commands.dsn import FORMATS, Way
from pgherd.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = ("192.0.2.11", "192.0.2.12", "192.0.2.13")


def everywhere(port: int) -> tuple[str, ...]:
    return tuple(f"{host}:{port}" for host in HOSTS)


@pytest.mark.parametrize(
    ("section", "endpoints", "forms"),
    [
        (
            "An address that moves",
            Endpoints(("192.0.2.100:5000",), ("192.0.2.100:5001",)),
            {"libpq", "uri", "jdbc", "pgx", "node"},
        ),
        (
            "Several hosts",
            Endpoints(everywhere(5000), everywhere(5001)),
            {"libpq", "jdbc", "pgx"},
        ),
        (
            "The servers themselves",
            Endpoints(everywhere(5432), everywhere(5432), direct=True),
            {"libpq", "jdbc", "pgx"},
        ),
    ],
)
def test_the_strings_are_those_the_command_prints(
    section: str, endpoints: Endpoints, forms: set[str]
) -> None:
    ways = [Way.to(endpoints, use, "shop", "app") for use in ("rw", "ro")]
    shown = [text for text in strings(section) if kind(text) in FORMATS]
    assert sorted(shown) == sorted(FORMATS[form](way) for form in forms for way in ways)


def test_a_section_that_is_not_there_is_no_empty_one() -> None:
    with pytest.raises(LookupError, match=PAGE.name):
        strings("Nothing")


class Attempts:
    """Work of an application that lasts, and what befalls it the first time.

    :param mishap: SQL.
    """

    def __init__(self, mishap: str) -> None:
        self.mishap = mishap
        self.count = 0

    def __call__(self, connection: psycopg.Connection) -> None:
        self.count += 1
        connection.execute("INSERT INTO t VALUES (1)")
        if self.count == 1:
            connection.execute(self.mishap)


@pytest.fixture(scope="module")
def persist() -> Callable[..., Any]:
    """The function that the page shows."""
    known: dict[str, Any] = {}
    exec(compile(program("What to try again"), str(PAGE), "exec"), known)
    found: Callable[..., Any] = known["persist"]
    return found


async def test_what_can_be_tried_again_is_and_is_done_once(persist: Callable[..., Any]) -> None:
    lost = "SELECT pg_terminate_backend(pg_backend_pid())"
    standby = "SET TRANSACTION READ ONLY; DELETE FROM t"
    serialize = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"
    refused = "SELECT 1 / 0"
    async with nodes(1) as [node]:
        await node.create()
        port = node.config.postgres.port
        conninfo = f"host=127.0.0.1 port={port} user=postgres password=s3cret dbname=postgres"

        def ask(sql: str) -> Any:
            with psycopg.connect(conninfo) as connection:
                return connection.execute(sql).fetchone()

        await asyncio.to_thread(
            persist, conninfo, lambda each: each.execute("CREATE TABLE t (n int)")
        )
        for number, mishap in enumerate((lost, standby, serialize), start=1):
            work = Attempts(mishap)
            await asyncio.to_thread(persist, conninfo, work)
            assert work.count == 2
            assert await asyncio.to_thread(ask, "SELECT count(*) FROM t") == (number,)
        work = Attempts(refused)
        with pytest.raises(psycopg.errors.DivisionByZero):
            await asyncio.to_thread(persist, conninfo, work)
        assert work.count == 1
        with pytest.raises(psycopg.errors.AdminShutdown):
            await asyncio.to_thread(persist, conninfo, Attempts(lost), 0)
