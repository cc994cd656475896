# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements that make, move and drop replication slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd.pgfiles import FAILOVER_SLOTS, slot_name
from pgherd.pgquery import Connection
from pgherd.waiting import come_true

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgherd.postgres import Postgres

# Within this time a backend that is told to end has ended, seconds.
END_SECONDS: Final = 1.0
# It holds WAL from now on, so what its user needs cannot go before the user has come.
CREATE_PHYSICAL: Final = (
    "SELECT pg_create_physical_replication_slot(%(name)s, true) WHERE NOT EXISTS "
    "(SELECT FROM pg_replication_slots WHERE slot_name = %(name)s)"
)
DROP: Final = (
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
    "WHERE slot_name = %(name)s AND NOT active"
)
ADVANCE: Final = "SELECT pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s::numeric)"
# Whoever moves a slot has it in use.
END_AGENTS: Final = (
    "SELECT pg_terminate_backend(a.pid) FROM pg_replication_slots s "
    "JOIN pg_stat_activity a ON a.pid = s.active_pid "
    "WHERE s.slot_name = %s AND a.application_name = 'pgherd'"
)
IS_ACTIVE: Final = (
    "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s AND active) AS active"
)
CREATE_LOGICAL: Final = "SELECT pg_create_logical_replication_slot(%s, %s)"
# PostgreSQL 17: standbys copy it.
CREATE_FAILOVER: Final = "SELECT pg_create_logical_replication_slot(%s, %s, failover => true)"


class SlotStatements:
    """Slots of the local instance.

    :param server: the instance.
    """

    def __init__(self, server: Postgres) -> None:
        self._server = server

    async def ensure(self, members: Iterable[str], have: Mapping[str, Any]) -> None:
        """Create the physical slots of *members* that are not among *have*.

        :raises PostgresError: no slot is free, say.
        """
        for name in map(slot_name, members):
            if name not in have:
                await self.create_physical(name)

    async def create_physical(self, name: str) -> None:
        """Create a physical slot, unless there is one of that name.

        :raises PostgresError: no slot is free, say.
        """
        await self._server.query(CREATE_PHYSICAL, {"name": name})

    async def create_logical(self, name: str, database: str, plugin: str, within: float) -> None:
        """Create a logical slot that outlives a failover where PostgreSQL can do that.

        :param within: seconds; it waits until the transactions open now have ended.
        :raises PostgresError: `wal_level` is not logical, say.
        """
        connection = Connection(self._server.local_conninfo(database), within)
        statement = (
            CREATE_FAILOVER if self._server.files.major >= FAILOVER_SLOTS else CREATE_LOGICAL
        )
        try:
            await connection.query(statement, [name, plugin])
        finally:
            await connection.close()

    async def drop(self, name: str) -> None:
        """Drop a slot that nobody uses; one in use stays.

        :raises PostgresError: somebody has taken it just now.
        """
        await self._server.query(DROP, {"name": name})

    async def take_from_agent(self, name: str) -> None:
        """End what the agent does with the slot, moving it say.

        :raises PostgresError: it goes on.
        """

        async def is_free() -> bool:
            await self._server.query(END_AGENTS, [name])
            [row] = await self._server.query(IS_ACTIVE, [name])
            return not row["active"]

        await come_true(is_free, f"slot {name} was not free", END_SECONDS)

    async def advance_logical(self, name: str, database: str, position: int, within: float) -> None:
        """Let a logical slot go of WAL before *position* (bytes); all of that is read for it.

        :param within: seconds.
        :raises PostgresError: it is in use, or gone, or WAL that it needs is.
        """
        connection = Connection(self._server.local_conninfo(database), within)
        try:
            await connection.query(ADVANCE, [name, position])
        finally:
            await connection.close()

    async def advance(self, name: str, position: int) -> None:
        """Let the slot go of WAL before *position* (bytes), which must not be before its own.

        :raises PostgresError: it is in use, or gone.
        """
        await self._server.query(ADVANCE, [name, position])
