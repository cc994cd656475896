# SPDX-License-Identifier: GPL-3.0-or-later
"""with_retry.py CONNINFO RUN ROWS: write rows as docs/clients.md tells, over whatever happens.

Prints as JSON how many `rows` there are in the end.
"""

import json
import runpy
import sys
import time
from pathlib import Path

DOCUMENTED = Path(__file__).with_name("documented.py")


def main(conninfo: str, run: str, rows: int) -> None:
    """Write *rows* rows, each in a transaction of its own, and count them."""
    persist = runpy.run_path(str(DOCUMENTED))["persist"]
    write = "INSERT INTO clients VALUES (%s, %s) ON CONFLICT DO NOTHING"
    for number in range(1, rows + 1):
        persist(conninfo, lambda connection, row=(run, number): connection.execute(write, row))
        time.sleep(0.02)
    count = "SELECT count(*) FROM clients WHERE run = %s"
    [found] = persist(conninfo, lambda connection: connection.execute(count, (run,)).fetchone())
    sys.stdout.write(json.dumps({"rows": found}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
