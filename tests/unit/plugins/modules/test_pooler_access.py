# SPDX-License-Identifier: GPL-3.0-or-later
"""What PgBouncer may look up in a real PostgreSQL, and that nobody may do more by it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from ansible_collections.pgherd.cluster.plugins.modules.pooler_access import (
    is_verifier_of,
    settle,
)

from agent.tests.pooler_processes import PoolerProcess, Server
from agent.tests.postgres_processes import INSTALLED, MISSING, unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE: Final = Path(__file__).parents[4] / "roles" / "pgbouncer"
AUTH: Final = "pgbouncer_auth"
# RFC 7677's example, as PostgreSQL stores it: its keys are of the password `pencil`.
PENCIL: Final = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


OTHER: Final = (
    "CREATE FUNCTION pgbouncer.pgherd_lookup(wanted text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL that runs."""
    assert INSTALLED, MISSING
    with unprivileged(), tempfile.TemporaryDirectory(prefix="pgherd-") as directory:
        made = Server(Path(directory))
        made.start()
        yield made
        made.stop()


def connect(server: Server, user: str = "postgres", dbname: str = "postgres") -> Any:
    """Return a connection."""
    return psycopg.connect(
        host="127.0.0.1", port=server.port, user=user, dbname=dbname, autocommit=True
    )


def run(
    server: Server, *databases: str, changes: bool = True, **params: Any
) -> tuple[bool, list[str]]:
    """Run the module's work."""
    given = {
        "name": AUTH, "password": "one", "databases": list(databases), "superusers": False,
        "socket_dir": "127.0.0.1", "port": server.port, "system_user": "postgres", **params,
    }  # fmt: skip
    found: tuple[bool, list[str]] = settle(given, changes)
    return found


@pytest.fixture
def ready(server: Server) -> Iterator[Server]:
    """The server with the role and the function, and without them afterwards."""
    assert run(server, "postgres") == (False, ["make the role", "make the function in postgres"])
    yield server
    with connect(server) as admin:
        for database in ("postgres", "template1"):
            with connect(server, dbname=database) as each:
                each.execute("DROP SCHEMA IF EXISTS pgbouncer CASCADE")
                each.execute(f"DROP OWNED BY {AUTH}")
        admin.execute(f"DROP ROLE {AUTH}")


@contextlib.contextmanager
def role(server: Server, name: str, words: str) -> Iterator[None]:
    """Have a role for a while."""
    with connect(server) as admin:
        admin.execute(f"CREATE ROLE {name} {words}")
        try:
            yield
        finally:
            admin.execute(f"DROP OWNED BY {name}")
            admin.execute(f"DROP ROLE {name}")


def looked_up(server: Server, name: str, user: str = AUTH) -> list[tuple[Any, ...]]:
    """Return what PgBouncer's question about *name* is answered."""
    with connect(server, user) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT username, verifier FROM pgbouncer.pgherd_lookup(%s)", [name]
        ).fetchall()
        return rows


def test_a_verifier_is_known_by_its_password() -> None:
    assert is_verifier_of(PENCIL, "pencil")
    assert not is_verifier_of(PENCIL, "pen")
    assert not is_verifier_of(None, "pencil")
    assert not is_verifier_of("md5" + 32 * "0", "pencil")


def test_the_second_run_finds_nothing_to_do(ready: Server) -> None:
    assert run(ready, "postgres") == (False, [])


def test_a_check_run_says_what_it_would_do_and_does_nothing(server: Server) -> None:
    due = (False, ["make the role", "make the function"])
    assert run(server, "postgres", changes=False) == due
    assert run(server, "postgres", changes=False) == due


def test_a_user_is_found_with_the_verifier_postgresql_has(ready: Server) -> None:
    with role(ready, "app", "LOGIN PASSWORD 'secret'"):
        ((name, verifier),) = looked_up(ready, "app")
        assert name == "app"
        assert is_verifier_of(verifier, "secret")


@pytest.mark.parametrize(
    "words", ["SUPERUSER LOGIN PASSWORD 'x'", "REPLICATION LOGIN PASSWORD 'x'", "PASSWORD 'x'"]
)
def test_who_must_not_come_is_not_found(ready: Server, words: str) -> None:
    with role(ready, "other", words):
        assert looked_up(ready, "other") == []
    assert looked_up(ready, "nobody") == []


def test_a_password_that_has_run_out_is_none(ready: Server) -> None:
    with role(ready, "late", "LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'"):
        assert looked_up(ready, "late") == [("late", None)]


def test_superusers_come_when_they_are_let(ready: Server) -> None:
    assert run(ready, "postgres", superusers=True)[1] == ["put right the function in postgres"]
    with role(ready, "chief", "SUPERUSER LOGIN PASSWORD 'x'"):
        assert looked_up(ready, "chief")[0][0] == "chief"
    with role(ready, "copier", "REPLICATION LOGIN PASSWORD 'x'"):
        assert looked_up(ready, "copier") == []


def test_the_role_can_do_nothing_else(ready: Server) -> None:
    with connect(ready, AUTH) as connection:
        for statement in (
            "SELECT rolpassword FROM pg_authid",
            "CREATE TABLE pgbouncer.mine ()",
            "CREATE ROLE mine",
            "CREATE DATABASE mine",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_nobody_else_can_ask(ready: Server) -> None:
    with (
        role(ready, "curious", "LOGIN"),
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        looked_up(ready, "app", "curious")


@pytest.mark.parametrize(
    ("damage", "due"),
    [
        (f"ALTER ROLE {AUTH} PASSWORD 'two'", "give the role its password"),
        (f"ALTER ROLE {AUTH} PASSWORD NULL", "give the role its password"),
        (f"ALTER ROLE {AUTH} SUPERUSER", "give the role back its attributes"),
        (f"ALTER ROLE {AUTH} NOLOGIN", "give the role back its attributes"),
        (f"ALTER ROLE {AUTH} VALID UNTIL '2001-01-01'", "give the role back its attributes"),
        ("DROP SCHEMA pgbouncer CASCADE", "make the function in postgres"),
        (
            "GRANT EXECUTE ON FUNCTION pgbouncer.pgherd_lookup(text) TO PUBLIC",
            "put right the function in postgres",
        ),
        (
            f"REVOKE ALL ON FUNCTION pgbouncer.pgherd_lookup(text) FROM {AUTH}",
            "put right the function in postgres",
        ),
        (
            "ALTER FUNCTION pgbouncer.pgherd_lookup(text) RESET search_path",
            "put right the function in postgres",
        ),
        (
            "ALTER FUNCTION pgbouncer.pgherd_lookup(text) SECURITY INVOKER",
            "put right the function in postgres",
        ),
        ("GRANT CREATE ON SCHEMA pgbouncer TO PUBLIC", "put right the function in postgres"),
        (f"GRANT CREATE ON SCHEMA pgbouncer TO {AUTH}", "put right the function in postgres"),
        (f"REVOKE USAGE ON SCHEMA pgbouncer FROM {AUTH}", "put right the function in postgres"),
        (f"ALTER SCHEMA pgbouncer OWNER TO {AUTH}", "put right the function in postgres"),
        (
            "DROP FUNCTION pgbouncer.pgherd_lookup(text); " + OTHER,
            "put right the function in postgres",
        ),
    ],
)
def test_what_was_changed_is_put_right(ready: Server, damage: str, due: str) -> None:
    with connect(ready) as admin:
        admin.execute(damage)
    assert run(ready, "postgres", changes=False) == (False, [due])
    assert run(ready, "postgres") == (False, [due])
    assert run(ready, "postgres") == (False, [])


def test_without_a_database_for_all_every_database_gets_the_function(ready: Server) -> None:
    assert run(ready)[1] == ["make the function in template1"]
    with connect(ready) as admin:
        admin.execute("CREATE DATABASE later")
        try:
            assert run(ready) == (False, [])
        finally:
            admin.execute("DROP DATABASE later")


def test_the_password_is_in_no_log(server: Server) -> None:
    with connect(server) as admin:
        admin.execute("ALTER SYSTEM SET log_statement = 'all'")
        admin.execute("SELECT pg_reload_conf()")
        try:
            run(server, "postgres", password="a-password-nobody-logs")
            (log,) = Path(server.directory).glob("postgresql.log")
            text = log.read_text(encoding="utf-8")
            assert "pgherd_lookup" in text
            assert "a-password-nobody-logs" not in text
            assert "SCRAM-SHA-256$" not in text
        finally:
            admin.execute("ALTER SYSTEM RESET log_statement")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("DROP SCHEMA pgbouncer CASCADE")
            admin.execute(f"DROP OWNED BY {AUTH}")
            admin.execute(f"DROP ROLE {AUTH}")


def comes_in(address: str, password: str) -> bool:
    """Return whether a client is let in."""
    try:
        psycopg.connect(address, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


async def test_pgbouncer_lets_in_whom_it_finds(ready: Server) -> None:
    """As on Debian 12, where PgBouncer asks in the database that a client wants."""
    values = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    (query,) = re.findall(r"^  auth_query: (.*)$", values, re.MULTILINE)
    settings = f"auth_type = scram-sha-256\nauth_user = {AUTH}\nauth_query = {query}\n"
    with (
        role(ready, "app", "LOGIN PASSWORD 'right'"),
        role(ready, "chief", "SUPERUSER LOGIN PASSWORD 'right'"),
        tempfile.TemporaryDirectory(prefix="pgherd-") as directory,
    ):
        users = Path(directory) / "userlist.txt"
        users.write_text(f'"{AUTH}" "one"\n', encoding="utf-8")
        pooler = PoolerProcess(Path(directory) / "pooler", f"{settings}auth_file = {users}")
        pooler.target_file.write_text(f"[databases]\n* = host=127.0.0.1 port={ready.port}\n")
        await pooler.start()
        try:
            for user, password, welcome in (
                ("app", "right", True),
                ("app", "wrong", False),
                ("chief", "right", False),
                ("nobody", "right", False),
            ):
                address = f"host=127.0.0.1 port={pooler.socket.port} dbname=postgres user={user}"
                assert comes_in(address, password) is welcome, (user, password)
        finally:
            await pooler.kill()
