# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's own connection to the local instance, and the one query that observes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pgherd.errors import NotAnsweringError, PostgresError
from pgherd.model import Instance, Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.sql import Composed

    from pgherd.model import Control
    from pgherd.pgfiles import Upstream

# One round trip a loop. Positions are bytes. What was replayed was received, though the receiver
# counts from the start of a segment when it has just connected. A standby's timeline is the newest
# it has received. Without a receiver the segments tell: the control file, written at restart points
# only, may name an older one, with which the standby would lose an election that it ought to win.
OBSERVE: Final = """
SELECT r.in_recovery,
       s.system_identifier::text AS system_id,
       CASE WHEN r.in_recovery
            THEN GREATEST(COALESCE(w.received_tli, (
                     SELECT max(('x' || left(name, 8))::bit(32)::int) FROM pg_ls_waldir()
                      WHERE name ~ '^[0-9A-F]{24}$')),
                 c.timeline_id, k.min_recovery_end_timeline)
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int
       END AS timeline,
       c.timeline_id AS checkpoint_timeline,
       CASE WHEN NOT r.in_recovery
            THEN pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint END AS location,
       pg_wal_lsn_diff(GREATEST(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()),
                       '0/0')::bigint AS received,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint AS replayed,
       pg_wal_lsn_diff(w.latest_end_lsn, '0/0')::bigint AS latest_end,
       pg_last_xact_replay_timestamp()::text AS replayed_at,
       CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() ELSE false END AS replay_paused,
       w.status AS receiver_status,
       CASE WHEN w.status = 'streaming' THEN concat(w.sender_host, ':', w.sender_port) END
           AS sender,
       current_setting('primary_conninfo') AS conninfo,
       current_setting('primary_slot_name') AS upstream_slot,
       pg_postmaster_start_time()::text AS started_at,
       current_setting('server_version_num')::int AS server_version,
       (SELECT json_agg(json_build_object(
                   'usename', usename, 'application_name', application_name,
                   'client_addr', client_addr, 'state', state,
                   'sync_state', sync_state, 'sync_priority', sync_priority, 'pid', pid,
                   'flush', pg_wal_lsn_diff(flush_lsn, '0/0')::bigint,
                   'replay', pg_wal_lsn_diff(replay_lsn, '0/0')::bigint))
          FROM pg_stat_replication) AS replication,
       current_setting('synchronous_standby_names') AS sync_names,
       COALESCE((SELECT wait_event IN ('CheckpointerMain', 'CheckpointWriteDelay')
                   FROM pg_stat_activity WHERE backend_type = 'checkpointer'), false)
           AS checkpointer_idle,
       (SELECT json_object_agg(slot_name, json_build_object(
                   'type', slot_type, 'active', active, 'temporary', temporary,
                   'database', database, 'plugin', plugin, 'wal_status', wal_status,
                   'xmin', xmin::text::bigint,
                   'catalog_xmin', catalog_xmin::text::bigint,
                   'restart', pg_wal_lsn_diff(restart_lsn, '0/0')::bigint,
                   'confirmed', pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint,
                   'failover', COALESCE((to_jsonb(s) ->> 'failover')::boolean, false),
                   'synced', COALESCE((to_jsonb(s) ->> 'synced')::boolean, false)))
          FROM pg_replication_slots s) AS slots,
       current_setting('synchronized_standby_slots', true) AS subscribers_wait_for
  FROM (SELECT pg_is_in_recovery() AS in_recovery) r
 CROSS JOIN pg_control_system() s
 CROSS JOIN pg_control_checkpoint() c
 CROSS JOIN pg_control_recovery() k
  LEFT JOIN pg_stat_wal_receiver w ON true
"""

# One row at least: when this session has read the files last, seconds since the epoch.
PENDING_RESTART: Final = (
    "SELECT name, current_setting(name) AS value, "
    "extract(epoch FROM pg_conf_load_time())::float8 AS loaded "
    "FROM (SELECT) AS always LEFT JOIN pg_settings ON pending_restart"
)

# What a standby runs with, of the settings named; all of them are numbers.
LIMITS: Final = "SELECT name, setting::int FROM pg_settings WHERE name = ANY(%s)"

# Asked of another member: its timeline, if it is a primary.
PRIMARY_TIMELINE: Final = (
    "SELECT pg_is_in_recovery() AS recovering, CASE WHEN NOT pg_is_in_recovery() THEN "
    "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS tli, "
    "(SELECT timeline_id FROM pg_control_checkpoint()) AS checkpointed"
)

END_LOGICAL_WALSENDERS: Final = (
    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
    "WHERE slot_type = 'logical' AND active_pid IS NOT NULL"
)

# A file of the data directory, null when there is none; pg_rewind's account may do so too.
READ_BINARY: Final = "SELECT pg_read_binary_file(%s, 0, 100000000, true) AS content"
READ_TEXT: Final = "SELECT convert_from(pg_read_binary_file(%s, 0, 1000000, true), 'UTF8') AS text"


class Connection:
    """One connection, made when first used and again after it broke.

    :param conninfo: libpq connection string.
    :param timeout: seconds for connecting and for each statement.
    """

    def __init__(self, conninfo: str, timeout: float) -> None:
        self._conninfo = conninfo
        self._timeout = timeout
        self._connection: psycopg.AsyncConnection[dict[str, Any]] | None = None
        # Two statements at once must not make two connections, of which one would be lost.
        self._connecting = asyncio.Lock()
        self._asked: set[asyncio.Task[list[dict[str, Any]]]] = set()

    async def close(self) -> None:
        """Drop the connection; the next query makes a new one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._asked:
            self._hang_up(connection)
            return
        with contextlib.suppress(psycopg.Error):
            await connection.close()

    def _hang_up(self, connection: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        """End *connection* under the statements that wait for an answer, which then fail.

        The socket is shut down, not closed: the event loop watches it for them, by a number that
        the next file to be opened would get.
        """
        with contextlib.suppress(OSError, psycopg.Error):
            end = socket.socket(fileno=os.dup(connection.fileno()))
            with end:
                end.shutdown(socket.SHUT_RDWR)
        for task in self._asked:
            task.add_done_callback(lambda task: connection.pgconn.finish())

    async def query(
        self,
        sql: LiteralString | Composed,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> list[dict[str, Any]]:
        """Run one statement and return its rows.

        A server that hangs is left behind: the connection is dropped, its end is not awaited.

        :param within: seconds, for a statement that may take longer than usual.
        :raises NotAnsweringError: no connection, or no answer in time.
        :raises PostgresError: the server refused the statement.
        """
        task = asyncio.create_task(self._query(sql, parameters))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        task.add_done_callback(_discard)
        done, _ = await asyncio.wait({task}, timeout=within or self._timeout)
        if not done:
            connection, self._connection = self._connection, None
            if connection is not None:
                # Without a word to the server; `close` would wait for it.
                self._hang_up(connection)
            else:
                task.cancel()
            raise NotAnsweringError(f"no answer within {within or self._timeout} s")
        try:
            return task.result()
        except psycopg.OperationalError as error:
            await self.close()
            raise NotAnsweringError(str(error).strip()) from error
        except psycopg.Error as error:
            raise PostgresError(str(error).strip()) from error

    async def _query(self, sql: LiteralString | Composed, parameters: Any) -> list[dict[str, Any]]:
        async with self._connecting:
            connection = self._connection
            if connection is None or connection.closed:
                connection = self._connection = await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, row_factory=dict_row
                )
        cursor = await connection.execute(sql, parameters)
        return await cursor.fetchall() if cursor.description else []


def _discard(task: asyncio.Task[Any]) -> None:
    # When nobody waits for a statement any more its failure is of no interest.
    if not task.cancelled():
        task.exception()


def instance_from_row(
    row: Mapping[str, Any], pending_restart: Mapping[str, Mapping[str, str]]
) -> Instance:
    """Build the running instance from a row of `OBSERVE` and what waits for its restart."""
    upstream = None
    if row["conninfo"]:
        settings = conninfo_to_dict(row["conninfo"])
        upstream = f"{settings.get('host', '')}:{settings.get('port', 5432)}"
    plain = (
        "in_recovery",
        "system_id",
        "timeline",
        "checkpoint_timeline",
        "location",
        "received",
        "replayed",
        "latest_end",
        "replayed_at",
        "replay_paused",
        "receiver_status",
        "sender",
        "upstream_slot",
        "started_at",
        "server_version",
        "sync_names",
        "checkpointer_idle",
    )
    return Instance(
        process=Process.RUNNING,
        has_data=True,
        upstream=upstream,
        replication=tuple(row["replication"] or ()),
        slots=row["slots"] or {},
        subscribers_wait_for=_slot_names(row["subscribers_wait_for"]),
        pending_restart=dict(pending_restart),
        **{name: row[name] for name in plain},
    )


def _slot_names(setting: str | None) -> frozenset[str] | None:
    if setting is None:
        return None
    return frozenset(name.strip().strip('"') for name in setting.split(",") if name.strip())


def silent_instance(
    control: Control | None, in_recovery: bool | None, upstream: Upstream | None
) -> Instance:
    """Build an instance that does not answer: starting, stuck, or too busy."""
    return Instance(
        process=Process.STARTING,
        has_data=True,
        control=control,
        system_id=control.system_id if control else None,
        in_recovery=in_recovery,
        upstream=upstream.address if upstream else None,
        upstream_slot=upstream.slot if upstream else "",
    )


def pending_restart(
    rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Return what `PENDING_RESTART` found, with the values that wait, as Patroni publishes it."""
    return {
        row["name"]: {
            "old_value": row["value"],
            "new_value": str(wanted.get(row["name"], "default")),
        }
        for row in rows
        if row["name"] is not None
    }
