# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd dsn` for applications: the entry in the words of every driver, as libpq takes it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from agent.tests.command import Agent, Command, Host, agent, host, pgherd, write
from agent.tests.postgres_processes import nodes
from pgherd.commands.dsn import FORMATS, Way, service_file
from pgherd.endpoints import Endpoints

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["agent", "host", "pgherd"]

VIP = Endpoints(("192.0.2.100:5000",), ("192.0.2.100:5001",))
POOLERS = Endpoints(("192.0.2.1:6432", "[fd00::2]:6432"), ("192.0.2.1:6433", "[fd00::2]:6433"))
SERVERS = Endpoints(
    (places := ("192.0.2.1:5432", "192.0.2.2:5432", "192.0.2.3:5432")), places, direct=True
)
# For whom quoting matters.
ODD = {"database": "a b'c\\d", "user": "x@y/z%"}


def way(endpoints: Endpoints, use: str = "rw", **named: str) -> Way:
    return Way.to(endpoints, use, **named)


class TestTheWay:
    @pytest.mark.parametrize(
        ("endpoints", "use", "session"),
        [
            (VIP, "rw", ""),
            (VIP, "ro", ""),
            (POOLERS, "rw", "read-write"),
            (POOLERS, "ro", "prefer-standby"),
            (SERVERS, "rw", "read-write"),
            (SERVERS, "ro", "prefer-standby"),
        ],
    )
    def test_a_client_that_knows_several_hosts_looks_for_one_of_its_kind(
        self, endpoints: Endpoints, use: str, session: str
    ) -> None:
        assert way(endpoints, use).session == session

    def test_a_lone_server_may_still_be_a_standby(self) -> None:
        lone = Endpoints(("192.0.2.1:5432",), ("192.0.2.1:5432",), direct=True)
        assert way(lone).session == "read-write"


class TestLibpq:
    def test_the_address_that_moves(self) -> None:
        assert FORMATS["libpq"](way(VIP, database="shop", user="app")) == (
            "host=192.0.2.100 port=5000 dbname=shop user=app connect_timeout=3 keepalives_idle=5"
            " keepalives_interval=2 keepalives_count=2 tcp_user_timeout=9000"
        )

    def test_the_uri_says_the_same(self) -> None:
        uri = FORMATS["uri"](way(VIP, database="shop", user="app"))
        assert uri.startswith(
            "postgresql://app@192.0.2.100:5000/shop?connect_timeout=3&keepalives_"
        )
        assert conninfo_to_dict(uri) == conninfo_to_dict(
            FORMATS["libpq"](way(VIP, database="shop", user="app"))
        )

    @pytest.mark.parametrize("form", ["libpq", "uri"])
    @pytest.mark.parametrize("endpoints", [VIP, POOLERS, SERVERS])
    def test_libpq_reads_both_as_they_were_meant(self, endpoints: Endpoints, form: str) -> None:
        wanted = way(endpoints, "ro", **ODD)
        found = conninfo_to_dict(FORMATS[form](wanted))
        assert (found["host"], found["port"]) == (wanted.hosts, wanted.ports)
        assert (found["dbname"], found["user"]) == (ODD["database"], ODD["user"])
        assert found.get("target_session_attrs", "") == wanted.session

    def test_several_hosts(self) -> None:
        found = conninfo_to_dict(FORMATS["uri"](way(POOLERS)))
        assert (found["host"], found["port"]) == ("192.0.2.1,fd00::2", "6432,6432")

    def test_the_environment(self) -> None:
        text = FORMATS["env"](way(SERVERS, **ODD))
        variables = dict(line.split("=", 1) for line in shlex.split(text))
        assert variables == {
            "PGHOST": "192.0.2.1,192.0.2.2,192.0.2.3",
            "PGPORT": "5432,5432,5432",
            "PGDATABASE": ODD["database"],
            "PGUSER": ODD["user"],
            "PGTARGETSESSIONATTRS": "read-write",
            "PGCONNECT_TIMEOUT": "3",
        }


class TestOtherDrivers:
    def test_jdbc_has_words_of_its_own(self) -> None:
        assert FORMATS["jdbc"](way(VIP, database="shop", user="app")) == (
            "jdbc:postgresql://192.0.2.100:5000/shop?user=app&connectTimeout=3&tcpKeepAlive=true"
        )
        assert FORMATS["jdbc"](way(SERVERS, "ro")) == (
            "jdbc:postgresql://192.0.2.1:5432,192.0.2.2:5432,192.0.2.3:5432/"
            "?targetServerType=preferSecondary&hostRecheckSeconds=1&connectTimeout=3&tcpKeepAlive=true"
        )
        assert "targetServerType=primary&" in FORMATS["jdbc"](way(SERVERS))

    def test_jdbc_gets_what_needs_quoting(self) -> None:
        url = urlsplit(FORMATS["jdbc"](way(POOLERS, **ODD)).removeprefix("jdbc:"))
        assert url.netloc == "192.0.2.1:6432,[fd00::2]:6432"
        assert url.path == "/a%20b%27c%5Cd"
        assert parse_qs(url.query)["user"] == [ODD["user"]]

    def test_pgx_sends_to_the_server_what_it_does_not_know(self) -> None:
        assert FORMATS["pgx"](way(SERVERS, database="shop", user="app")) == (
            "postgres://app@192.0.2.1:5432,192.0.2.2:5432,192.0.2.3:5432/shop"
            "?target_session_attrs=read-write&connect_timeout=3"
        )

    def test_node_takes_an_object(self) -> None:
        assert json.loads(FORMATS["node"](way(VIP, "ro", database="shop", user="app"))) == {
            "host": "192.0.2.100",
            "port": 5001,
            "database": "shop",
            "user": "app",
            "connectionTimeoutMillis": 3000,
            "keepAlive": True,
            "keepAliveInitialDelayMillis": 5000,
        }


def test_a_service_file_has_both_entries() -> None:
    ways = {use: way(POOLERS, use) for use in ("rw", "ro")}
    assert service_file("demo", ways).splitlines() == [
        "[demo-rw]",
        "host=192.0.2.1,fd00::2",
        "port=6432,6432",
        "target_session_attrs=read-write",
        *(limits := [
            "connect_timeout=3",
            "keepalives_idle=5",
            "keepalives_interval=2",
            "keepalives_count=2",
            "tcp_user_timeout=9000",
        ]),
        "",
        "[demo-ro]",
        "host=192.0.2.1,fd00::2",
        "port=6433,6433",
        "target_session_attrs=prefer-standby",
        *limits,
    ]  # fmt: skip


def published(endpoints: Endpoints) -> dict[str, Any]:
    return {"pgherd": {"endpoints": endpoints.published()}}


class TestTheCommand:
    def test_a_host_s_own_file_says_it_without_asking_anybody(
        self, pgherd: Command, agent: Agent, tmp_path: Path
    ) -> None:
        known = Host(
            pgherd, agent, tmp_path, ["127.0.0.1:1"], pgherd={"endpoints": VIP.published()}
        )
        code, output, _ = known("dsn", "--ro", "-d", "shop", "-U", "app")
        assert (code, output.split()[:4]) == (
            0,
            ["host=192.0.2.100", "port=5001", "dbname=shop", "user=app"],
        )
        assert agent.asked == []

    def test_else_a_member_says_it(self, host: Host) -> None:
        host.show(**published(SERVERS))
        code, output, _ = host("dsn", "--format", "pgx")
        assert (code, output) == (0, FORMATS["pgx"](way(SERVERS)) + "\n")

    def test_a_client_s_agents_are_asked(
        self, pgherd: Command, agent: Agent, tmp_path: Path
    ) -> None:
        Host(pgherd, agent, tmp_path, ["127.0.0.1:1"]).show(**published(VIP))
        ctl = {"agents": [f"http://{agent.address}"]}
        path = write(tmp_path, {"scope": "demo", "ctl": ctl})
        code, output, problems = pgherd("dsn", "--rw", "--format", "env", "--config", path)
        assert (code, problems) == (0, "")
        assert output == "PGHOST=192.0.2.100\nPGPORT=5000\nPGCONNECT_TIMEOUT=3\n"

    def test_where_nobody_says_it_these_are_the_members(self, host: Host) -> None:
        code, output, _ = host("dsn", "--rw", "--format", "env")
        assert (code, output.splitlines()[:2]) == (
            0,
            ["PGHOST=pg1,pg2,pg3", "PGPORT=5432,5432,5432"],
        )
        assert "PGTARGETSESSIONATTRS=read-write" in output

    def test_for_a_script(self, host: Host) -> None:
        host.show(**published(POOLERS))
        found = host.json("dsn", "--ro", "--format", "uri")
        hosts = [["192.0.2.1", 6433], ["fd00::2", 6433]]
        assert found == {
            "ro": {"hosts": hosts, "target_session_attrs": "prefer-standby"},
            "text": FORMATS["uri"](way(POOLERS, "ro")),
        }
        assert set(host.json("dsn", "--service")) == {"rw", "ro", "text"}

    def test_the_service_file_may_have_one_entry(self, host: Host) -> None:
        host.show(**published(VIP))
        assert host("dsn", "--service", "--ro")[1].startswith("[demo-ro]\nhost=192.0.2.100\n")

    def test_node_cannot_go_through_a_list(self, host: Host) -> None:
        host.show(**published(POOLERS))
        code, output, problems = host("dsn", "--format", "node")
        assert (code, output) == (1, "")
        assert problems.startswith("pgherd: node-postgres connects to one host, and there are 2: ")

    @pytest.mark.parametrize(
        "both", [["--rw", "--uri"], ["--ro", "--role", "any"], ["--service", "--format", "jdbc"]]
    )
    def test_what_does_not_go_together_is_2(self, host: Host, both: list[str]) -> None:
        assert host("dsn", *both)[0] == 2

    def test_without_members_there_is_no_entry(self, host: Host) -> None:
        host.agent.answers.clear()
        host.agent.say("GET", "/cluster", 200, {"members": [], "scope": "demo"})
        assert host("dsn", "--rw")[:2] == (1, "")


async def psql(where: str, environment: Mapping[str, str] | None = None) -> str:
    """Return whether psql finds a server that takes writes, t or f."""
    done = await asyncio.to_thread(
        subprocess.run,
        ["psql", "--no-psqlrc", "-Atc", "SHOW transaction_read_only", where],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PGUSER": "postgres", "PGPASSWORD": "s3cret", **(environment or {})},
    )
    return done.stdout.strip()


async def test_psql_connects_through_all_of_libpq_s() -> None:
    async with nodes(1) as [node]:
        await node.create()
        # Nobody listens at the first place: the second one is tried.
        places = ("127.0.0.1:1", f"127.0.0.1:{node.config.postgres.port}")
        known = Way.to(Endpoints(places, places, direct=True), "rw", "postgres", "postgres")
        assert await psql(FORMATS["libpq"](known)) == "off"
        assert await psql(FORMATS["uri"](known)) == "off"
        lines = shlex.split(FORMATS["env"](known))
        assert await psql("", dict(line.split("=", 1) for line in lines)) == "off"
        # Whose user may not write where tests do.
        file = node.config.runtime_dir / "pg_service.conf"
        file.write_text(service_file("demo", {"rw": known}) + "\n")
        assert await psql("service=demo-rw", {"PGSERVICEFILE": str(file)}) == "off"
