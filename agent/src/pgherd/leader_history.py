# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking another member's PostgreSQL for the history of the timeline it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.errors import NotAnsweringError
from pgherd.history import Branch, parse_history
from pgherd.model import Remote
from pgherd.pgquery import PRIMARY_TIMELINE, READ_TEXT, Connection

if TYPE_CHECKING:
    from pgherd.model import Member


async def ask_history(
    conninfo: str, leader: Member, within: float
) -> tuple[int, tuple[Branch, ...]]:
    """Ask *leader* itself, reached by *conninfo*; see `Postgres.leader_history`."""
    connection = Connection(conninfo, within)
    try:
        [row] = await connection.query(PRIMARY_TIMELINE)
        if row["recovering"]:
            raise NotAnsweringError(f"{leader.name} is not a primary yet")
        if isinstance(leader, Remote) and row["tli"] != row["checkpointed"]:
            raise NotAnsweringError(f"{leader.name} has not written its first checkpoint yet")
        name = f"pg_wal/{row['tli']:08X}.history"
        [content] = await connection.query(READ_TEXT, [name])
    finally:
        await connection.close()
    return row["tli"], parse_history(content["text"] or "")
