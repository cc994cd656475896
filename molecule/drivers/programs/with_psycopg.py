# SPDX-License-Identifier: GPL-3.0-or-later
"""with_psycopg.py CONNINFO RUN ROWS: hold a connection and write rows; see the tests.

Prints what came of it as JSON: `standby`, `rows` read back, `errors`. With UNPREPARED in the
environment it prepares nothing, as is documented for a PgBouncer that is too old for it.
"""

import json
import os
import sys
import time

import psycopg


def main(conninfo: str, run: str, rows: int) -> None:
    """Write *rows* rows through one connection, none for one that only reads."""
    told: dict[str, object] = {"errors": []}
    # From the first time on it is prepared: the connection is another server's after a switchover.
    prepare = None if os.environ.get("UNPREPARED") else 0
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=prepare) as connection:
        for number in range(1, rows + 1):
            try:
                connection.execute("INSERT INTO clients VALUES (%s, %s)", (run, number))
            except psycopg.Error as error:
                told["errors"] = [f"{error.sqlstate}: {error}"]
                break
            time.sleep(0.02)
        for _ in range(2):
            row = connection.execute(
                "SELECT pg_is_in_recovery(), count(*) FROM clients WHERE run = %s", (run,)
            ).fetchone()
            assert row is not None
            told["standby"], told["rows"] = row
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
