# SPDX-License-Identifier: GPL-3.0-or-later
"""Making data directories: with PostgreSQL's own programs, or with commands of the operator.

PostgreSQL's programs work beside the place and what they have made moves into it when it is whole.
Commands write where they are told to, and their own configuration may name the place as well: so
they work in the place itself, and a mark beside it says that what is there is not whole yet.
Arguments and environment are those that Patroni documents (replica_bootstrap).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote as url_quote

from pgherd.datadir import REPLACED, beside, discard, fill_in_place, put_in_place, staging
from pgherd.errors import CommandError, NotAnsweringError, PostgresError
from pgherd.hooks import run_command
from pgherd.model import Remote
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import BootstrapMethod, Config
    from pgherd.model import Member
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

BASEBACKUP: Final = "basebackup"
# How often a recovery is looked at, seconds.
LOOK_SECONDS: Final = 0.2
# What tells the agent how to use a method; Patroni hands it on unless `no_params` is set.
CONTROL_KEYS: Final = ("no_params", "no_leader", "keep_data")


def long_options(options: Mapping[str, Any]) -> list[str]:
    """Return *options* as a program gets them; true is one without a value, false is none."""
    return [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in options.items()
        if value is not False and value is not None
    ]


async def run_initdb(postgres: Postgres, options: Mapping[str, Any]) -> None:
    """Create a data directory with initdb.

    :raises PostgresError: something is in the way, or initdb failed (and cleaned up).
    """
    path = staging(postgres.data_dir)
    user = postgres.config.postgres.superuser.username
    await postgres.programs.run(
        "initdb", f"--pgdata={path}", f"--username={user}",
        "--auth-local=peer", "--auth-host=scram-sha-256", *long_options(options),
    )  # fmt: skip
    put_in_place(path, postgres.data_dir)


def leaderless_methods(config: Config) -> tuple[str, ...]:
    """Return the replica methods that need no member to copy from (R40)."""
    postgres = config.postgres
    return tuple(
        name
        for name in postgres.replica_methods
        if name != BASEBACKUP and postgres.method_options.get(name, {}).get("no_leader")
    )


async def make_copy(postgres: Postgres, source: Member | None) -> None:
    """Fill the data directory by the first replica method that succeeds.

    :param source: the member to copy; None when there is nobody, for methods that need none.
    :raises PostgresError: something is in the way, or no method succeeded.
    """
    config = postgres.config
    names = config.postgres.replica_methods or (BASEBACKUP,)
    if isinstance(source, Remote):
        names = source.replica_methods or names
    names = names if source is not None else leaderless_methods(config)
    postgres.files.write_pgpass()
    for name in names:
        options = config.postgres.method_options.get(name, {})
        try:
            if name == BASEBACKUP and source is not None:
                await _copy_over_network(postgres, source, options)
            else:
                await _run_method(postgres, name, options, source)
        except CommandError as error:
            if name == names[-1]:
                raise
            log.warning("replica method %s: %s; trying the next one", name, error)
        else:
            log.info("replica method %s has succeeded", name)
            return
    raise PostgresError("there is no replica method for this")


async def _copy_over_network(
    postgres: Postgres, source: Member, options: Mapping[str, Any]
) -> None:
    path = staging(postgres.data_dir)
    user = postgres.config.postgres.replication.username
    given = {"wal-method": "stream", "checkpoint": "fast", **options}
    await postgres.programs.run(
        "pg_basebackup", "--pgdata", str(path), *long_options(given),
        "--dbname", postgres.files.upstream_conninfo(source.host, source.port, user),
    )  # fmt: skip
    put_in_place(path, postgres.data_dir)


async def _run_method(
    postgres: Postgres, name: str, options: Mapping[str, Any], source: Member | None
) -> None:
    given = dict(options)
    command = given.pop("command", name)
    if given.get("no_params"):
        given = {key: value for key, value in given.items() if key not in CONTROL_KEYS}
    else:
        user = postgres.config.postgres.replication.username
        given |= {
            "scope": postgres.config.scope,
            "role": "replica",
            "datadir": postgres.data_dir,
            "connstring": postgres.files.upstream_conninfo(
                source.host, source.port, user, "postgres"
            )
            if source is not None
            else "",
        }
    keeps = bool(options.get("keep_data"))
    await _fill(postgres, name, command, given, keeps_leftovers=keeps)


async def run_bootstrap_method(postgres: Postgres, method: BootstrapMethod) -> None:
    """Create a data directory with the operator's command.

    :raises PostgresError: something is in the way, or the command failed.
    """
    given = dict(method.options)
    if method.with_parameters:
        given = {"scope": postgres.config.scope, "datadir": postgres.data_dir, **given}
    postgres.files.write_pgpass()
    await _fill(postgres, method.name, method.command, given, keeps_leftovers=False)


async def _fill(
    postgres: Postgres,
    name: str,
    command: str,
    given: Mapping[str, Any],
    *,
    keeps_leftovers: bool,
) -> None:
    data_dir = postgres.data_dir
    mark = fill_in_place(data_dir, keeps_leftovers=keeps_leftovers)
    arguments = [f"--{key}={value}" for key, value in given.items()]
    environment = {"PGPASSFILE": str(postgres.files.pgpass)}
    try:
        await run_command(command, *arguments, environment=environment)
        if not (data_dir / "PG_VERSION").exists():
            raise CommandError(name, 0, f"it left no data directory in {data_dir}")
    except (CommandError, asyncio.CancelledError):
        if not keeps_leftovers:
            discard(data_dir)
            mark.unlink(missing_ok=True)
        raise
    # The postmaster of a copy is not ours, and its number may be somebody else's by now.
    for leftover in ("postmaster.pid", "postmaster.opts"):
        (data_dir / leftover).unlink(missing_ok=True)
    mark.unlink(missing_ok=True)
    discard(beside(data_dir, REPLACED))


async def recover(postgres: Postgres, recovery: Mapping[str, Any], within: float) -> None:
    """Start a restored cluster and wait until it is a primary at the end of its recovery.

    :param recovery: parameters for it; empty when the restore has left its own.
    :param within: seconds.
    :raises PostgresError: it could not be started, ended, or is no primary in time.
    """
    postgres.files.recovering = recovery
    if recovery:
        (postgres.data_dir / "recovery.signal").touch(0o600)
    try:
        await postgres.start_primary()

        async def is_over() -> bool:
            if postgres.postmaster() is None:
                raise PostgresError("PostgreSQL ended while it recovered; its log tells why")
            try:
                [row] = await postgres.query("SELECT pg_is_in_recovery() AS in_recovery")
            except NotAnsweringError:
                return False
            return not row["in_recovery"]

        await until(is_over, every=LOOK_SECONDS, within=within)
    except TimeoutError as error:
        raise NotAnsweringError(f"the recovery did not end within {within} s") from error
    finally:
        postgres.files.recovering = None


async def run_post_init(postgres: Postgres, command: str) -> None:
    """Run *command* once the first primary of a cluster accepts connections.

    It gets a URL by which it connects as superuser, on the host itself.

    :raises CommandError: it failed; the cluster is not created then.
    """
    given = postgres.config.postgres
    host = url_quote(str(given.socket_directory), safe="")
    url = f"postgres://{url_quote(given.superuser.username)}@{host}:{given.port}/postgres"
    await run_command(command, url, environment={"PGPASSFILE": str(postgres.files.pgpass)})
