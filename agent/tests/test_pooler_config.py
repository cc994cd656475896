# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `pgherd.pooler`: what is refused, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.tests.builders import raw_config
from pgherd.config import build
from pgherd.pooler_config import PoolerSocket
from pgherd.schema import check

RW = {
    "socket_directory": "/run/pgbouncer-rw",
    "port": 6432,
    "target_file": "/var/lib/pgherd/pooler-rw.ini",
}
RO = {"socket_directory": "/run/pgbouncer-ro", "port": 6433}


def raw(**pooler: Any) -> dict[str, Any]:
    """Return a whole configuration with that section."""
    return {**raw_config(), "pgherd": {"lease_ttl": 5, "pooler": pooler}}


def test_without_the_section_there_is_no_pooler() -> None:
    assert build(raw_config()).pooler is None


def test_both_poolers_are_described() -> None:
    given = raw(rw=RW, ro=RO, databases={"*": "", "app": "pool_size=5"}, pause_limit=7)
    assert check(given, partial=False) == []
    config = build(given)
    pooler = config.pooler
    assert pooler is not None
    file = Path("/var/lib/pgherd/pooler-rw.ini")
    assert pooler.rw == PoolerSocket(Path("/run/pgbouncer-rw"), 6432, file)
    assert pooler.ro == PoolerSocket(Path("/run/pgbouncer-ro"), 6433)
    assert (pooler.databases["app"], pooler.pause_limit) == ("pool_size=5", 7)
    assert config.timing.lease_ttl == 5


def test_every_database_is_let_in_unless_said_otherwise() -> None:
    pooler = build(raw(rw=RW)).pooler
    assert pooler is not None
    assert (pooler.databases, pooler.pause_limit, pooler.ro) == ({"*": ""}, 10.0, None)


@pytest.mark.parametrize("key", sorted(RW))
def test_what_a_pooler_lacks_is_named(key: str) -> None:
    given = raw(rw={name: value for name, value in RW.items() if name != key})
    assert check(given, partial=False) == [f"pgherd.pooler.rw.{key}: is missing"]
    assert check(given, partial=True) == []


@pytest.mark.parametrize(
    "databases",
    [
        {},
        "app",
        {"app": "host=192.0.2.9"},
        {"app": "pool_size=5 port = 5433"},
        {"app": "pool_size=5\n[pgbouncer]"},
        {"a\nb": ""},
        {"": ""},
        {"a b": ""},
        {'"quoted"': ""},
        {"app": 5},
    ],
)
def test_databases_that_would_spoil_the_file_are_refused(databases: Any) -> None:
    [problem] = check(raw(rw=RW, databases=databases), partial=False)
    assert problem.startswith("pgherd.pooler.databases: must be a mapping of names of databases")


@pytest.mark.parametrize("port", [0, 65536, "6432", True])
def test_a_port_is_a_number(port: Any) -> None:
    [problem] = check(raw(rw={**RW, "port": port}), partial=False)
    assert problem.startswith("pgherd.pooler.rw.port: must be a port")
