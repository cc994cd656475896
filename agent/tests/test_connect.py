# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd dsn` and `query`: the member that is meant, and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from agent.tests.command import Host, agent, host, pgherd
from agent.tests.postgres_processes import nodes
from pgherd.commands import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.tests.command import Agent, Command

__all__ = ["agent", "connect", "host", "pgherd"]


class TestDsn:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ([], "host=pg1 port=5432\n"),
            (["--role", "replica"], "host=pg2 port=5432\n"),
            (["--member", "pg3"], "host=pg3 port=5432\n"),
            (
                ["--uri"],
                "postgresql://pg1:5432,pg2:5432,pg3:5432/postgres?target_session_attrs=read-write\n",
            ),
        ],
    )
    def test_whom_it_means(self, host: Host, arguments: list[str], told: str) -> None:
        assert host("dsn", *arguments) == (0, told, "")

    def test_for_a_script(self, host: Host) -> None:
        assert host.json("dsn", "demo") == {"name": "pg1", "host": "pg1", "port": 5432}

    def test_a_role_that_nobody_plays_is_1(self, host: Host) -> None:
        host.show(host.member("pg2"))
        assert host("dsn") == (1, "", "pgherd: no member is a leader\n")


class TestQuery:
    @pytest_asyncio.fixture
    async def known(self, pgherd: Command, agent: Agent) -> AsyncIterator[Host]:
        """A host whose cluster is one real instance."""
        async with nodes(1) as [node]:
            await node.create()
            # Whose user may not write where tests do.
            known = Host(pgherd, agent, node.config.runtime_dir, ["127.0.0.1:1"])
            row = {"host": "127.0.0.1", "port": node.config.postgres.port}
            known.show(known.member("pg1", "leader", **row))
            yield known

    async def ask(self, host: Host, *arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(host, "query", *arguments)

    async def test_rows_are_a_table(self, known: Host) -> None:
        sql = "SELECT 1 AS one, NULL AS nothing, true AS yes UNION ALL SELECT 22, 'x', false"
        code, output, _ = await self.ask(known, "-c", sql)
        assert code == 0
        assert [line.split() for line in output.splitlines()] == [
            ["one", "nothing", "yes"],
            ["1", "true"],
            ["22", "x", "false"],
        ]

    async def test_they_are_json_and_separated_by_tabs_too(self, known: Host) -> None:
        sql = "SELECT 1 AS one, 'a b' AS text"
        _, output, _ = await self.ask(known, "-c", sql, "--json")
        assert json.loads(output) == [{"one": 1, "text": "a b"}]
        _, output, _ = await self.ask(known, "-c", sql, "--tsv")
        assert output == "one\ttext\n1\ta b\n"

    async def test_several_statements_of_a_file(self, known: Host) -> None:
        file = Path(known.path).with_name("x.sql")
        file.write_text("CREATE TABLE t (n int); INSERT INTO t VALUES (5); SELECT n FROM t;")
        code, output, _ = await self.ask(known, "--file", str(file), "--tsv")
        assert (code, output) == (0, "n\n5\n")

    async def test_what_postgresql_refuses_is_1_and_its_sentence(self, known: Host) -> None:
        code, _, problems = await self.ask(known, "-c", "SELECT nothing")
        assert code == 1
        assert problems.startswith('pgherd: pg1: column "nothing" does not exist')

    async def test_it_must_be_said_what(self, known: Host) -> None:
        assert (await self.ask(known))[0] == 2
        assert (await self.ask(known, "-c", "SELECT 1", "--file", "-"))[0] == 2
