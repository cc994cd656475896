# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions that are under way when the primary is to be stopped: who, and waiting for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pgherd.handover import Handover
    from pgherd.postgres import Postgres

# How long a transaction is waited for while clients go on, unless the request says otherwise: where
# it is ended or the switchover called off then, and where it is waited for. Seconds.
PATIENCE_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 600.0
# One that is younger ends by itself while the poolers are being paused, seconds.
YOUNG_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.1

LONG: Final = """
SELECT pid, usename AS "user", datname AS "database",
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age,
       xact_start::text AS began
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND xact_start < clock_timestamp() - %s * interval '1 second'
 ORDER BY xact_start
"""


# Only while they are what was found to be long.
END_LONG: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid = ANY (%s)
   AND xact_start::text = ANY (%s)
"""


async def long_transactions(
    postgres: Postgres, older: float = YOUNG_SECONDS
) -> list[dict[str, Any]]:
    """Return the clients' transactions that are older than so many seconds, the oldest first.

    :raises PostgresError: there is no answer.
    """
    return await postgres.query(LONG, [older])


async def end_transactions(postgres: Postgres, rows: Iterable[dict[str, Any]]) -> None:
    """End the transactions *rows*, and their clients' connections.

    :raises PostgresError: there is no answer.
    """
    known = list(rows)
    keys = [[row["pid"] for row in known], [row["began"] for row in known]]
    await postgres.query(END_LONG, keys)


def patience(request: Handover, *, has_poolers: bool) -> float:
    """Return for how many seconds transactions are waited for before the poolers are paused.

    Without poolers clients see errors anyway: nothing is waited for unless it is asked for.
    """
    if request.patience is not None:
        return request.patience
    if request.transactions == "wait":
        return LONGEST_SECONDS
    return PATIENCE_SECONDS if has_poolers or request.transactions != "cancel" else 0.0


async def outlast(
    postgres: Postgres, within: float, is_wanted: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Wait until no transaction is under way that was old in the beginning; return those that are.

    Others grow old meanwhile; where there are many clients there are always some.

    :param within: seconds.
    :param is_wanted: whether to go on waiting.
    :raises PostgresError: the server does not answer.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    rows = await long_transactions(postgres)

    async def is_over() -> bool:
        rows[:] = await long_transactions(postgres, YOUNG_SECONDS + clock() - began)
        return not (rows and is_wanted())

    if rows and within > 0:
        await _try(is_over, within)
    return rows


async def _try(condition: Callable[[], Awaitable[bool]], within: float) -> None:
    try:
        await until(condition, every=LOOK_SECONDS, within=within)
    except TimeoutError:
        return


def describe(rows: Iterable[dict[str, Any]]) -> str:
    """Return whose transactions these are, for people."""
    return ", ".join(
        f"pid {row['pid']} of {row['user']} in {row['database']} ({row['age']:.1f} s)"
        for row in rows
    )
