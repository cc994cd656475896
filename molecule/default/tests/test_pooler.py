# SPDX-License-Identifier: GPL-3.0-or-later
"""Any database is reached through both PgBouncers of every host, by those who may."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.playbook import run
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS: Final = Settings.from_environment()
RW: Final = 6432
RO: Final = 6433
on_every_member = pytest.mark.parametrize("name", MEMBERS)
needs_1_21 = pytest.mark.skipif(
    SETTINGS.release == "12", reason="the PgBouncer of Debian 12 is 1.18: that came later"
)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster, healthy."""
    found = Cluster(SETTINGS)
    found.await_healthy(60)
    return found


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(SETTINGS)


@pytest.fixture(scope="module")
def leader(cluster: Cluster) -> Target:
    """The way to the leader, as superuser and with no pooler between."""
    return cluster.target(cluster.await_healthy(60))


@pytest.fixture(scope="module")
def application(cluster: Cluster, leader: Target) -> Iterator[Target]:
    """A role and a database that were made just now, without telling any pooler."""
    name = f"made_{uuid.uuid4().hex[:8]}"
    target = Target(leader.host, name, uuid.uuid4().hex, name, RW)
    # template0 has nothing of ours; before PgBouncer 1.19 databases must come from template1.
    template = "template1" if SETTINGS.release == "12" else "template0"
    with Wire(leader, 30) as admin:
        admin.query(f"CREATE ROLE {name} LOGIN PASSWORD '{target.password}'")
        admin.query(f"CREATE DATABASE {name} OWNER {name} TEMPLATE {template}")
        yield target
        admin.query(f"DROP DATABASE {name} WITH (FORCE)")
        admin.query(f"DROP ROLE {name}")
    assert cluster.await_healthy(60)


def at(target: Target, member: str, port: int = RW) -> Target:
    """Return *target* through a pooler of *member*."""
    return replace(target, host=SETTINGS.address(member), port=port)


def connect(target: Target) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a driver's connection."""
    return psycopg.connect(
        host=target.host, port=target.port, user=target.user, password=target.password,
        dbname=target.dbname, connect_timeout=10, autocommit=True,
    )  # fmt: skip


def console(lab: Lab, member: str, command: str) -> str:
    """Return what the console of *member*'s pooler for writes says to *command*."""
    words = ["psql", "-XAt", "-h", "/run/pgbouncer-rw", "-p", str(RW), "-U", "pgbouncer"]
    return lab.exec(
        member, ["runuser", "-u", "postgres", "--", *words, "-c", command, "pgbouncer"]
    )[1]


@on_every_member
def test_writes_go_to_the_leader(application: Target, leader: Target, name: str) -> None:
    with Wire(at(application, name), 30) as wire:
        # On its own host the leader is reached by its socket, which has no address.
        [(address, in_recovery)] = wire.query(
            "SELECT coalesce(host(inet_server_addr()), ''), pg_is_in_recovery()"
        )
        own = SETTINGS.address(name) == leader.host
        assert (address, in_recovery) == ("" if own else leader.host, "f")
        wire.query("CREATE TABLE IF NOT EXISTS written (n int); INSERT INTO written VALUES (1)")


@on_every_member
def test_reads_stay_on_the_host(application: Target, leader: Target, name: str) -> None:
    target = at(application, name, RO)
    with Wire(target, 30) as wire:
        standby = target.host != leader.host
        assert wire.query("SELECT pg_is_in_recovery()") == [("t" if standby else "f",)]


@pytest.mark.parametrize("port", [RW, RO])
def test_a_wrong_password_is_refused(application: Target, port: int) -> None:
    with pytest.raises(WireError, match="SASL authentication failed"):
        Wire(replace(at(application, "pg1", port), password="wrong"), 30)


def test_a_new_password_counts_at_once(application: Target, leader: Target) -> None:
    with Wire(leader, 30) as admin:
        try:
            admin.query(f"ALTER ROLE {application.user} PASSWORD 'another'")
            with pytest.raises(WireError, match="SASL authentication failed"):
                Wire(at(application, "pg1"), 30)
            Wire(replace(at(application, "pg1"), password="another"), 30).close()
        finally:
            admin.query(f"ALTER ROLE {application.user} PASSWORD '{application.password}'")


def test_superusers_do_not_come_this_way(leader: Target) -> None:
    with pytest.raises(WireError, match=r"no such user|authentication failed"):
        Wire(at(leader, "pg1"), 30)


@pytest.mark.parametrize(
    "statement", ["SELECT rolpassword FROM pg_authid", "CREATE TABLE pgbouncer.mine ()"]
)
def test_the_role_that_looks_users_up_can_do_no_more(leader: Target, statement: str) -> None:
    with Wire(leader, 30) as admin:
        admin.query("SET ROLE pgbouncer_auth")
        with pytest.raises(WireError, match="permission denied"):
            admin.query(statement)


@needs_1_21
def test_the_alias_for_looking_users_up_is_nobodys(application: Target) -> None:
    with pytest.raises(WireError, match="login rejected"):
        Wire(replace(at(application, "pg1"), dbname="pgherd_auth"), 30)


@needs_1_21
def test_prepared_statements_outlive_their_transaction(application: Target) -> None:
    target = at(application, "pg2")
    with connect(target) as one, connect(target) as other:
        for connection in (one, other):
            connection.prepare_threshold = 0
        for number in range(20):
            for connection in (one, other):
                row = connection.execute("SELECT %s::int + 1", [number]).fetchone()
                assert row == (number + 1,)


@needs_1_21
def test_a_request_to_cancel_finds_its_query(application: Target, leader: Target) -> None:
    with connect(at(application, "pg1")) as connection:
        cancel = connection.pgconn.get_cancel()
        with Wire(leader, 30) as admin:
            sleeping = (
                "SELECT count(*) FROM pg_stat_activity "
                f"WHERE usename = '{application.user}' AND wait_event = 'PgSleep'"
            )
            connection.pgconn.send_query(b"SELECT pg_sleep(60)")
            until(lambda: admin.query(sleeping) == [("1",)], 30, "The query runs")
        cancel.cancel()
        result = connection.pgconn.get_result()
        assert result is not None
        assert b"canceling statement" in result.error_message
        while connection.pgconn.get_result() is not None:
            pass


@on_every_member
def test_pools_together_fit_into_the_server(
    cluster: Cluster, lab: Lab, leader: Target, name: str
) -> None:
    rows = [line.split("|") for line in console(lab, name, "SHOW CONFIG").splitlines()]
    limit = next(int(row[1]) for row in rows if row[0] == "max_db_connections")
    with Wire(leader, 30) as admin:
        ((most, reserved),) = admin.query(
            "SELECT current_setting('max_connections'), "
            "current_setting('superuser_reserved_connections')"
        )
    looking_up = 0 if SETTINGS.release == "12" else 2
    assert (len(MEMBERS) + 1) * (2 * limit + looking_up) + 20 + int(reserved) <= int(most)


def test_settings_change_under_clients_that_stay(application: Target, lab: Lab) -> None:
    with Wire(at(application, "pg1"), 30) as client:
        client.query("SELECT 1")
        for config, seconds in (({"query_wait_timeout": 90}, "90"), ({}, "120")):
            outcome = run(variables={"pgbouncer_config": config}, options=["--tags", "pgbouncer"])
            assert outcome.code == 0, outcome.output[-3000:]
            rows = [row.split("|") for row in console(lab, "pg1", "SHOW CONFIG").splitlines()]
            assert [row[1] for row in rows if row[0] == "query_wait_timeout"] == [seconds]
            assert client.query("SELECT 1") == [("1",)]
