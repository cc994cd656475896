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
# Arguments: the program, the unit. Whatever an earlier run left goes first.
START: Final = f"""
systemctl stop {UNIT} 2> /dev/null
rm -rf {DIRECTORY} && mkdir -p {DIRECTORY} && chown postgres {DIRECTORY} || exit 1
printf %s "$1" > {DIRECTORY}/writer.py && printf %s "$2" > /etc/systemd/system/{UNIT} || exit 1
systemctl daemon-reload && systemctl enable --quiet --now {UNIT}
"""
STOP: Final = f"""
systemctl disable --quiet --now {UNIT}
rm -f /etc/systemd/system/{UNIT} && systemctl daemon-reload
"""


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
        program = SOURCE.read_text(encoding="utf-8")
        for host in MEMBERS:
            unit = UNIT_TEXT.format(directory=DIRECTORY, run=self.run, node=host)
            self.lab.exec(host, ["sh", "-c", START, "sh", program, unit])

    def stop(self) -> None:
        """End all writers and take their unit away; every host must be up."""
        for host in MEMBERS:
            self.lab.exec(host, ["sh", "-c", STOP])

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
