# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's settings: what a person may say, and what its own program makes of that."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.pooler_settings import (
    LATER_SETTINGS,
    SETTINGS,
    STARTING,
    is_later,
    pooler_options,
    pooler_problems,
    pooler_settings,
    split_settings,
)

from agent.tests.pooler_processes import MISSING, PROGRAM, PoolerProcess
from agent.tests.postgres_processes import unprivileged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROLE: Final = Path(__file__).parents[4] / "roles" / "pgbouncer"


@pytest.fixture
async def pooler() -> AsyncIterator[PoolerProcess]:
    """A PgBouncer that runs."""
    with unprivileged(), tempfile.TemporaryDirectory(prefix="pgherd-") as directory:
        made = PoolerProcess(Path(directory) / "pooler")
        await made.start()
        yield made
        await made.kill()


async def test_names_are_those_of_the_program(pooler: PoolerProcess) -> None:
    connection = await psycopg.AsyncConnection.connect(
        host=str(pooler.socket.socket_directory), port=pooler.socket.port, user="pgbouncer",
        dbname="pgbouncer", autocommit=True,
    )  # fmt: skip
    async with connection, psycopg.AsyncClientCursor(connection) as cursor:
        await cursor.execute("SHOW CONFIG")
        rows = {row[0]: row[-1] for row in await cursor.fetchall()}
        await cursor.execute("SHOW VERSION")
        (said,) = await cursor.fetchall()
    version = str(said[0]).split()[1]
    known = SETTINGS | (LATER_SETTINGS if is_later(version) else frozenset())
    # The role is told of what is missing here; what is newer than 1.24 may be.
    assert known - set(rows) == set()
    changeable = {name for name, word in rows.items() if word == "yes"}
    assert changeable & STARTING == set()
    ours = {"job_name", "pidfile", "user", "service_name", "conffile"}
    assert {name for name in known if rows[name] == "no"} - ours - STARTING == set()


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "1"), (False, "0"), (5, "5"), (0.2, "0.2"), ("", ""), (["a", "b"], "a,b")],
)
def test_values_become_texts(value: Any, text: str) -> None:
    assert pooler_settings({"name": value}) == {"name": text}


@pytest.mark.parametrize("value", [None, {}, [1], "two\nlines"])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="a text of one line"):
        pooler_settings({"verbose": value})
    (problem,) = pooler_problems({"verbose": value}, "pgbouncer_config", "1.24")
    assert problem.startswith("pgbouncer_config.verbose: must be a number")


def test_a_number_as_ansible_hands_it_over_is_one() -> None:
    """What ansible-core 2.19 reads from files is of types of its own, below Python's."""

    class Tagged(int):
        pass

    assert pooler_problems({"max_db_connections": Tagged(100)}, "pgbouncer_config", "1.24") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool_mod": "session"}, ["pgbouncer_config", "no pool_mod", "mean pool_mode?"]),
        ({"listen_port": 6432}, ["listen_port", "cannot be set", "ports"]),
        ({"unix_socket_dir": "/tmp"}, ["unix_socket_dir", "agent"]),
        ({"default_pool_size": "many"}, ["default_pool_size", "'many'", "whole number"]),
        ({"max_client_conn": True}, ["max_client_conn", "whole number"]),
        ([], ["must be a mapping"]),
    ],
)
def test_what_is_wrong_names_itself(options: Any, words: list[str]) -> None:
    (problem,) = pooler_problems(options, "pgbouncer_config", "1.24")
    for word in words:
        assert word in problem


def test_a_setting_is_refused_where_the_program_is_too_old() -> None:
    config = {"max_prepared_statements": 100}
    assert pooler_problems(config, "pgbouncer_config", "1.24") == []
    (problem,) = pooler_problems(config, "pgbouncer_config", "1.18")
    assert problem == (
        "pgbouncer_config.max_prepared_statements: PgBouncer 1.18 of this Debian does not have it"
    )


@pytest.mark.parametrize(
    ("kind", "entries", "words"),
    [
        ("databases", {"app": {"host": "x"}}, ["d.app.host", "target is the cluster's"]),
        ("databases", {"app": {"pool_sise": 1}}, ["d.app", "pool_size?"]),
        ("databases", {"pgherd_auth": {}}, ["d.pgherd_auth", "taken"]),
        ("databases", {"*": {}}, ["d.*", "taken", "pgbouncer_config"]),
        ("databases", {"my app": {}}, ["d.my app", "letters"]),
        ("databases", {"app": 5}, ["d.app", "mapping"]),
        ("users", {"app": {"dbname": "x"}}, ["d.app", "no dbname"]),
        ("users", {"a b": {}}, ["d.a b", "letters"]),
    ],
)
def test_entries_that_cannot_be_are_refused(
    kind: str, entries: dict[str, Any], words: list[str]
) -> None:
    (problem,) = pooler_problems(entries, "d", "1.24", kind)
    for word in words:
        assert word in problem


def test_entries_that_can_be_pass() -> None:
    good = {"app": {"pool_size": 5, "pool_mode": "session"}, "other-app.x": {}}
    assert pooler_problems(good, "d", "1.18", "databases") == []
    assert pooler_problems({"app": {"max_user_connections": 5}}, "d", "1.18", "users") == []


def test_options_become_a_line() -> None:
    options = {"dbname": "my app", "reserve_pool_size": 2, "connect_query": "SET x = 'y'"}
    assert pooler_options(options) == (
        "dbname='my app' reserve_pool=2 connect_query='SET x = ''y'''"
    )
    assert pooler_options({"password": ""}) == "password=''"


def test_settings_are_parted_by_when_they_are_taken_over() -> None:
    assert split_settings({"listen_backlog": 5, "pool_mode": "session"}) == {
        "start": {"listen_backlog": 5},
        "reload": {"pool_mode": "session"},
    }


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        ("max_client_conn = 100\n", True),
        ("max_client_conn = many\n", False),
        ("pool_mode = sometimes\n", False),
        ("no_such_setting = 1\n", False),
        ("server_login_retry = 0.2\n", True),
        ("[databases]\napp = host=/tmp port=5432 pool_size=5\n", True),
        ("[databases]\napp = host=/tmp no_such_option=5\n", False),
    ],
)
def test_the_role_has_pgbouncer_itself_check_a_file(tmp_path: Path, lines: str, good: bool) -> None:
    """As root, as Ansible runs it: PgBouncer reads the file, and then refuses to run as root."""
    assert PROGRAM is not None, MISSING
    text = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"__pgbouncer_validate: >-\n +/bin/sh -c '(.*pgbouncer .*)' %s", text)
    file = tmp_path / "pgbouncer.ini"
    file.write_text(f"[pgbouncer]\n{lines}")
    script = command.replace("/usr/sbin/pgbouncer", shutil.which(PROGRAM) or PROGRAM)
    done = subprocess.run(["/bin/sh", "-c", script, str(file)], capture_output=True, check=False)
    assert (done.returncode == 0) is good, done.stderr
