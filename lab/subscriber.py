# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical subscriber outside the cluster: a PostgreSQL of its own on `ops1`."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab.cluster import MEMBERS
from lab.errors import LabError
from lab.probe import CREATE, TABLE
from lab.wait import until
from lab.wire import WireError

if TYPE_CHECKING:
    from lab.cluster import Cluster
    from lab.hosts import Lab

HOST: Final = "ops1"
STOP_WITHIN: Final = 60
NAME: Final = "lab_subscriber"
COUNT: Final = f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{NAME}'"
# How a standby tells that it has a copy of every slot.
MISSING: Final = r"^pgherd_failover_slots_missing\S* 0\.0$"
SLOT_WITHIN: Final = 30
DIRECTORY: Final = "/var/lib/postgresql/lab-subscriber"
# A server that vanished is noticed, and another one tried, within seconds.
SETTINGS: Final = (
    "-c listen_addresses= -c port=5999 -c wal_receiver_timeout=3s "
    "-c wal_retrieve_retry_interval=200ms -c fsync=off"
)
START: Final = f"""
set -e
# A host may have psql and no server.
server=$(ls /usr/lib/postgresql/*/bin/initdb 2> /dev/null | tail -1)
if [ -z "$server" ]; then
  # Its packages would make and start a cluster that nobody needs.
  mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' \\
    > /etc/postgresql-common/createcluster.conf
  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \\
    --no-install-recommends postgresql > /dev/null
  server=$(ls /usr/lib/postgresql/*/bin/initdb | tail -1)
fi
bin=$(dirname "$server")
rm -rf {DIRECTORY}
runuser -u postgres -- $bin/initdb -D {DIRECTORY} --auth=peer --no-sync > /dev/null
runuser -u postgres -- $bin/pg_ctl -D {DIRECTORY} -l {DIRECTORY}/log -w -o "{SETTINGS}" start
"""
STOP: Final = f"""
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
runuser -u postgres -- $bin/pg_ctl -D {DIRECTORY} -m immediate stop
rm -rf {DIRECTORY}
"""


@dataclass(frozen=True)
class Subscriber:
    """Receives the probe's rows; its table has no key, so that a row applied twice would show.

    Every method raises LabError when a host cannot be told.
    """

    lab: Lab
    cluster: Cluster

    def start(self, leader: str) -> None:
        """Make the server and have it subscribe to the cluster, whoever leads, *leader* now."""
        publication = f"DROP PUBLICATION IF EXISTS {NAME}; CREATE PUBLICATION {NAME} FOR TABLE"
        self.cluster.query(leader, f"{CREATE}; {publication} {TABLE}", 30)
        self.lab.exec(HOST, ["sh", "-c", START])
        self._query(f"CREATE TABLE {TABLE} (run text, number bigint, written timestamptz)")
        target = self.cluster.target(leader)
        hosts = ",".join(self.lab.settings.address(host) for host in MEMBERS)
        conninfo = (
            f"host={hosts} user={target.user} password={target.password} dbname={target.dbname} "
            "target_session_attrs=read-write connect_timeout=2 tcp_user_timeout=3000"
        )
        # With the start of its copy behind it, the slot is one that standbys can copy.
        slot = "failover = true"
        if not self.has_failover_slots(leader):
            # Before PostgreSQL 17 the cluster's agents copy it, if it is theirs.
            self._make_permanent(leader)
            slot = "create_slot = false"
        self._query(
            f"CREATE SUBSCRIPTION {NAME} CONNECTION '{conninfo}' PUBLICATION {NAME} WITH ({slot})"
        )

    def has_failover_slots(self, host: str) -> bool:
        """Tell whether *host*'s PostgreSQL keeps logical slots on standbys by itself."""
        return int(self.cluster.query(host, "SHOW server_version_num")[0][0]) >= 170000

    def _make_permanent(self, leader: str) -> None:
        spec = {"type": "logical", "database": self.cluster.target(leader).dbname,
                "plugin": "pgoutput"}  # fmt: skip
        status, text = self.cluster.ask(leader, "PATCH", "/config", {"slots": {NAME: spec}})
        if status != 200:
            raise LabError(f"The slot is not configured: {text}")
        until(
            lambda: self.cluster.query(leader, COUNT) == [("1",)],
            SLOT_WITHIN,
            f"{leader} has made the slot",
        )

    def await_copies(self, within: float) -> str:
        """Wait until both standbys have a copy of the slot to go on with; return who leads."""

        def leader_of_copies() -> str:
            # Who leads may change on a busy machine.
            leader = self.cluster.await_healthy(within)
            standbys = [host for host in MEMBERS if host != leader]
            by_itself = self.has_failover_slots(leader)
            if not by_itself:
                # With each checkpoint the subscriber's slot moves on, which a copy waits for.
                self.cluster.query(leader, "CHECKPOINT", 30)
            complete = all(self._has_copy(host, by_itself=by_itself) for host in standbys)
            return leader if complete else ""

        return until(leader_of_copies, within, "Both standbys have a copy of the slot", every=0.2)

    def _has_copy(self, host: str, *, by_itself: bool) -> bool:
        sql = COUNT + (" AND synced AND NOT temporary" if by_itself else "")
        try:
            if self.cluster.query(host, sql) != [("1",)]:
                return False
            page = self.cluster.rest(host, "/metrics")[1]
        except (OSError, WireError):
            # It is being restarted for the slot.
            return False
        return by_itself or re.search(MISSING, page, re.MULTILINE) is not None

    def rows(self, run: str) -> Counter[int]:
        """Return how often each of the rows of *run* was applied."""
        text = self._query(f"SELECT json_agg(number) FROM {TABLE} WHERE run = '{run}'")
        return Counter(json.loads(text) if text else [])

    def await_rows(self, run: str, expected: set[int], within: float) -> Counter[int]:
        """Wait until the rows of *run* are *expected*, *within* seconds at most; return them."""
        deadline = time.monotonic() + within
        while True:
            rows = self.rows(run)
            if set(rows) == expected or time.monotonic() > deadline:
                return rows
            time.sleep(0.5)

    def stop(self) -> None:
        """Take the subscription and the server away."""
        leader = self.cluster.await_healthy(STOP_WITHIN)
        self._query(f"DROP SUBSCRIPTION {NAME}")
        self.lab.exec(HOST, ["sh", "-c", STOP])
        self.cluster.query(leader, f"DROP PUBLICATION {NAME}", 30)

    def _query(self, sql: str) -> str:
        command = ["runuser", "-u", "postgres", "--", "psql", "-p", "5999", "-XqAt", "-c", sql]
        return self.lab.exec(HOST, command)[1].strip()
