# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a writer into every host, as a unit that a reboot does not end, and reads what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.acknowledge import Ack, parse
from lab.cluster import MEMBERS

if TYPE_CHECKING:
    from lab.cluster import Cluster
    from lab.hosts import Lab
    from lab.wire import Wire

SOURCE: Final = Path(__file__).with_name("writer.py")
DIRECTORY: Final = "/var/lib/lab-writer"
UNIT: Final = "lab-writer.service"
CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS pgherd_writer "
    "(run text, node text, number bigint, PRIMARY KEY (run, node, number))"
)
UNIT_TEXT: Final = """\
[Unit]
Description=A writer of the lab
StartLimitIntervalSec=0
[Service]
User=postgres
ExecStart=/usr/bin/python3 {directory}/writer.py {run} {node} {directory}/{run}.log
Restart=always
RestartSec=100ms
[Install]
WantedBy=multi-user.target
"""
PUT: Final = 'mkdir -p "${2%/*}" && printf %s "$1" > "$2"'


@dataclass
class Writers:
    """The writers of one run, one on each member's host.

    Every method raises LabError when a host cannot be told.
    """

    lab: Lab
    cluster: Cluster
    run: str

    def start(self, leader: str) -> None:
        """Begin to write on every node; *leader* makes the table."""
        self.cluster.query(leader, CREATE, 30)
        for host in MEMBERS:
            unit = UNIT_TEXT.format(directory=DIRECTORY, run=self.run, node=host)
            self._put(host, SOURCE.read_text(encoding="utf-8"), f"{DIRECTORY}/writer.py")
            self._put(host, unit, f"/etc/systemd/system/{UNIT}")
            self.lab.exec(host, ["chown", "postgres", DIRECTORY])
            self.lab.exec(host, ["systemctl", "daemon-reload"])
            self.lab.exec(host, ["systemctl", "enable", "--quiet", "--now", UNIT])

    def stop(self) -> None:
        """End all writers and take their unit away; every host must be up."""
        for host in MEMBERS:
            self.lab.exec(host, ["systemctl", "disable", "--quiet", "--now", UNIT], check=False)
            self.lab.exec(host, ["rm", "-f", f"/etc/systemd/system/{UNIT}"])
            self.lab.exec(host, ["systemctl", "daemon-reload"])

    def acknowledged(self) -> list[Ack]:
        """Return what all writers saw acknowledged."""
        acks = []
        for host in MEMBERS:
            command = ["sh", "-c", f"cat {DIRECTORY}/{self.run}.log 2>/dev/null"]
            acks += parse(host, self.lab.exec(host, command, check=False)[1])
        return acks

    def present(self, wire: Wire) -> set[tuple[str, int]]:
        """Return node and number of this run's rows that *wire*'s server has; raises WireError."""
        sql = f"SELECT node, number FROM pgherd_writer WHERE run = '{self.run}'"
        return {(row[0], int(row[1])) for row in wire.query(sql, 30)}

    def _put(self, host: str, text: str, path: str) -> None:
        self.lab.exec(host, ["sh", "-c", PUT, "sh", text, path])
