# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy before one PgBouncer, as somebody puts them together by hand on one host.

What is not said here is as Debian's packages have it; the same programs as ours, with no agent to
see to them. So what ours cost beyond these is what pgherd's own ways cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.pgbench import ROLE, put
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from lab.hosts import Lab

PORT: Final = 5500
POOLER_PORT: Final = 6532
DIRECTORY: Final = "/etc/pgherd-bench"
POOLER_UNIT: Final = "bench-pgbouncer.service"
BALANCER_UNIT: Final = "bench-haproxy.service"
SERVES_SECONDS_MAX: Final = 30
POOLER: Final = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users
pool_mode = transaction
max_client_conn = 5000
default_pool_size = 20
"""
BALANCER: Final = """\
global
    maxconn 5000
defaults
    mode tcp
    timeout connect 4s
    timeout client 30m
    timeout server 30m
listen rw
    bind *:{listen}
    server pooler 127.0.0.1:{pooler} check
"""
# Units of their own, as the packages' programs have: the kernel shares the cores among units.
START: Final = f"""
set -e
systemd-run --quiet --unit={POOLER_UNIT} --uid=postgres --gid=postgres \
  --property=LimitNOFILE=65536 pgbouncer {DIRECTORY}/pgbouncer.ini
systemd-run --quiet --unit={BALANCER_UNIT} --property=LimitNOFILE=65536 \
  haproxy -f {DIRECTORY}/haproxy.cfg
"""
REMOVE: Final = f"""
for unit in {BALANCER_UNIT} {POOLER_UNIT}; do
  systemctl stop "$unit" 2> /dev/null
  systemctl reset-failed "$unit" 2> /dev/null
done
rm -rf {DIRECTORY}
"""


@dataclass(frozen=True)
class ByHand:
    """The two programs on *host*; every method raises LabError when the host does not comply."""

    lab: Lab
    host: str
    password: str

    def start(self, server: str, port: int, database: str) -> None:
        """Start both before the server at that address, and wait until a client is served."""
        self.remove()
        pooler = POOLER.format(host=server, port=port, listen=POOLER_PORT, directory=DIRECTORY)
        balancer = BALANCER.format(listen=PORT, pooler=POOLER_PORT)
        self.lab.exec(self.host, ["install", "-d", "-o", "postgres", DIRECTORY])
        for name, text in (
            ("pgbouncer.ini", pooler),
            ("users", f'"{ROLE}" "{self.password}"\n'),
            ("haproxy.cfg", balancer),
        ):
            put(self.lab, self.host, f"{DIRECTORY}/{name}", text, "postgres")
        self.lab.exec(self.host, ["sh", "-c", START])
        way = Target(self.lab.settings.address(self.host), ROLE, self.password, database, PORT)
        until(
            lambda: self._serves(way),
            SERVES_SECONDS_MAX,
            "The chain made by hand serves a client",
            passing=(OSError, WireError),
        )

    def remove(self) -> None:
        """End both and take their files away; also where there are none."""
        self.lab.exec(self.host, ["sh", "-c", REMOVE])

    @staticmethod
    def _serves(way: Target) -> bool:
        with Wire(way, 5) as wire:
            return bool(wire.query("SELECT 1"))
