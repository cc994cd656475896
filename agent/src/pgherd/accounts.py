# SPDX-License-Identifier: GPL-3.0-or-later
"""The PostgreSQL roles that the agent and its peers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from typing import LiteralString

    from pgherd.config import Account, PostgresConfig
    from pgherd.pgquery import Connection

# pg_rewind's needs (PostgreSQL documentation, pg_rewind, "Notes").
REWIND_FUNCTIONS: Final = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


# A new cluster on a busy host has time: what fails here is begun from nothing again. Seconds.
PATIENCE_SECONDS: Final = 30.0


async def create_accounts(connection: Connection, postgres: PostgresConfig) -> None:
    """Create the roles, with SCRAM verifiers, or give them what they lack.

    :param connection: to the new instance, as superuser.
    :raises PostgresError: a statement failed.
    """
    await _set(connection, postgres.superuser, "SUPERUSER LOGIN REPLICATION")
    await _set(connection, postgres.replication, "REPLICATION LOGIN")
    if postgres.rewind == postgres.superuser:
        return
    await _set(connection, postgres.rewind, "LOGIN")
    role = sql.Identifier(postgres.rewind.username)
    for function in REWIND_FUNCTIONS:
        grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
        await connection.query(grant.format(sql.SQL(function), role), within=PATIENCE_SECONDS)


async def _set(connection: Connection, account: Account, attributes: LiteralString) -> None:
    found = await connection.query(
        "SELECT 1 FROM pg_roles WHERE rolname = %s", [account.username], within=PATIENCE_SECONDS
    )
    verb = sql.SQL("ALTER ROLE {} ") if found else sql.SQL("CREATE ROLE {} ")
    statement = verb.format(sql.Identifier(account.username)) + sql.SQL(attributes)
    if account.password:
        # The server hashes it (password_encryption is scram-sha-256); `log_statement` is off
        # for the agent's connection, so it does not reach the log.
        statement += sql.SQL(" PASSWORD {}").format(sql.Literal(account.password))
    await connection.query(statement, within=PATIENCE_SECONDS)
