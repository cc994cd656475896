# SPDX-License-Identifier: GPL-3.0-or-later
"""The PostgreSQL roles that the agent and its peers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import LiteralString

    from pgherd.config import Account, PostgresConfig

    Query = Callable[..., Awaitable[list[dict[str, Any]]]]

# pg_rewind's needs (PostgreSQL documentation, pg_rewind, "Notes").
REWIND_FUNCTIONS: Final = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


async def create_accounts(query: Query, postgres: PostgresConfig) -> None:
    """Create the roles, with SCRAM verifiers, or give them what they lack.

    :param query: runs one statement as superuser and returns its rows.
    :raises PostgresError: a statement failed.
    """
    await _set(query, postgres.superuser, "SUPERUSER LOGIN REPLICATION")
    await _set(query, postgres.replication, "REPLICATION LOGIN")
    if postgres.rewind == postgres.superuser:
        return
    await _set(query, postgres.rewind, "LOGIN")
    role = sql.Identifier(postgres.rewind.username)
    for function in REWIND_FUNCTIONS:
        grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
        await query(grant.format(sql.SQL(function), role))


async def _set(query: Query, account: Account, attributes: LiteralString) -> None:
    found = await query("SELECT 1 FROM pg_roles WHERE rolname = %s", [account.username])
    verb = sql.SQL("ALTER ROLE {} ") if found else sql.SQL("CREATE ROLE {} ")
    statement = verb.format(sql.Identifier(account.username)) + sql.SQL(attributes)
    if account.password:
        # The server hashes it (password_encryption is scram-sha-256); `log_statement` is off
        # for the agent's connection, so it does not reach the log.
        statement += sql.SQL(" PASSWORD {}").format(sql.Literal(account.password))
    await query(statement)
