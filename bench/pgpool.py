# SPDX-License-Identifier: GPL-3.0-or-later
"""PgPool-II from Debian on a host of the lab, as its manual has it for streaming replication.

It is given what favours it: no more children than there are clients, one cached connection a
child, no query cache and no load balancing where all paths lead to the primary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.pgbench import DATABASE, ROLE, put
from lab import engine
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.hosts import Lab

PORT: Final = 9999
DIRECTORY: Final = "/etc/pgpool2"
UNIT: Final = "pgpool2.service"
# Children beyond the clients: pgpool's own look at the servers, and a client that goes late.
SPARE: Final = 8
INSTALL: Final = """
set -e
export DEBIAN_FRONTEND=noninteractive
dpkg -s pgpool2 > /dev/null 2>&1 && exit 0
apt-get -qq update
apt-get -qq install --yes --no-install-recommends pgpool2 > /dev/null
mkdir -p /etc/systemd/system/pgpool2.service.d
printf '[Service]\\nLimitNOFILE=65536\\nTasksMax=infinity\\n' \
  > /etc/systemd/system/pgpool2.service.d/bench.conf
systemctl daemon-reload
"""
REMOVE: Final = """
systemctl stop pgpool2.service
DEBIAN_FRONTEND=noninteractive apt-get -qq purge --yes pgpool2 > /dev/null
rm -rf /etc/systemd/system/pgpool2.service.d /etc/pgpool2
systemctl daemon-reload
"""
# It listens before it knows which server is the primary; until then it answers nobody.
AWAIT: Final = """
for try in $(seq 300); do
  psql -qAtX -h localhost -p {port} -U {role} -d {database} \
    -c 'SELECT 1' > /dev/null 2>&1 && exit 0
  systemctl is-active --quiet {unit} || exit 1
  sleep 0.1
done
exit 1
"""


def configuration(
    addresses: Sequence[str], password: str, clients: int, *, balance: bool = False
) -> str:
    """Return pgpool.conf for the servers at *addresses*, where *clients* may connect at once.

    balance: spread reads over the servers, instead of sending all to the primary.
    """
    settings: dict[str, object] = {
        "listen_addresses": "*",
        "port": PORT,
        "backend_clustering_mode": "streaming_replication",
        "num_init_children": clients + SPARE,
        "max_pool": 1,
        "connection_cache": True,
        "load_balance_mode": balance,
        "memory_cache_enabled": False,
        "enable_pool_hba": True,
        "pool_passwd": "pool_passwd",
        "sr_check_period": 10,
        "sr_check_user": ROLE,
        "sr_check_password": password,
        "sr_check_database": DATABASE,
        "use_watchdog": False,
    }
    for number, address in enumerate(addresses):
        settings[f"backend_hostname{number}"] = address
        settings[f"backend_port{number}"] = 5432
        settings[f"backend_weight{number}"] = 1
        settings[f"backend_flag{number}"] = "DISALLOW_TO_FAILOVER"
    return _dump(settings)


def _dump(settings: Mapping[str, object]) -> str:
    lines = []
    for name, value in settings.items():
        if isinstance(value, bool):
            text = "on" if value else "off"
        elif isinstance(value, int):
            text = str(value)
        else:
            text = f"'{value}'"
        lines.append(f"{name} = {text}\n")
    return "".join(lines)


@dataclass(frozen=True)
class PgPool:
    """PgPool-II on *host*, before the servers at *addresses*.

    Every method raises LabError when the host does not comply.
    """

    lab: Lab
    host: str
    addresses: tuple[str, ...]
    password: str

    def install(self) -> None:
        """Bring the package and who may connect how."""
        self.lab.exec(self.host, ["sh", "-c", INSTALL])
        rules = "local all all scram-sha-256\nhost all all all scram-sha-256\n"
        put(self.lab, self.host, f"{DIRECTORY}/pool_hba.conf", rules, "postgres")
        known = f"{ROLE}:TEXT{self.password}\n"
        put(self.lab, self.host, f"{DIRECTORY}/pool_passwd", known, "postgres")

    def start(self, clients: int, *, balance: bool = False) -> None:
        """Start anew for so many clients, and wait until one is served."""
        text = configuration(self.addresses, self.password, clients, balance=balance)
        put(self.lab, self.host, f"{DIRECTORY}/pgpool.conf", text, "postgres")
        self.lab.exec(self.host, ["systemctl", "restart", UNIT])
        script = AWAIT.format(port=PORT, role=ROLE, database=DATABASE, unit=UNIT)
        command = ["env", f"PGPASSWORD={self.password}", "sh", "-c", script]
        code, _ = engine.execute(self.lab.settings.container(self.host), command)
        if code != 0:
            journal = ["journalctl", "--unit", UNIT, "--lines", "20", "--output", "cat"]
            words = self.lab.exec(self.host, journal, check=False)[1]
            raise LabError(f"{self.host}: PgPool-II serves nobody:\n{words.strip()}")

    def stop(self) -> None:
        """Stop it, so that its connections burden no other path."""
        self.lab.exec(self.host, ["systemctl", "stop", UNIT])

    def remove(self) -> None:
        """Take the package and its files away."""
        self.lab.exec(self.host, ["sh", "-c", REMOVE])
