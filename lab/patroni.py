# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab.patroni`: a real Patroni cluster on the lab's hosts, as its users have it.

etcd, PostgreSQL and Patroni of Debian, Patroni's default timings, everything under systemd. It is
what `playbooks/adopt_patroni.yml` takes over, and what switchovers are measured beside.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from lab.cluster import CLUSTER_NAME, MEMBERS, REPOSITORY, REST_PORT, AgreedCluster
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import run
from lab.store import Store
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.playbook import Outcome

UNIT: Final = "patroni.service"
OURS: Final = ("pgherd.service", "pgherd-guard.service")
ADOPT: Final = "pgherd.cluster.adopt_patroni"
INVENTORY: Final = REPOSITORY / "molecule" / "adopt" / "inventory" / "hosts.yml"
CONFIG: Final = "/etc/patroni/config.yml"
MAJORS: Final = {"13": "17", "12": "15"}
HEALTHY_SECONDS_MAX: Final = 120.0
REST_SECONDS_MAX: Final = 60.0
# A member looks at the settings once in its loop_wait.
TIMINGS_SECONDS_MAX: Final = 60.0
# Whatever a password may hold that a shell, YAML, libpq or a password file gives a meaning.
PASSWORDS: Final = {
    "superuser": "sup:er 'quoted' #1",
    "replication": "rep\\l:icator",
    "rewind": "re{{ wind }}",
    "rest": "re%st",
}
# Arguments: the release's PostgreSQL. The packages' own clusters and services are not wanted.
INSTALL: Final = """
set -e
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/lab.conf
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends \
    "postgresql-$1" etcd-server etcd-client patroni python3-etcd python3-psycopg > /dev/null
rm /usr/sbin/policy-rc.d
"""
# Through TLS on a port of its own: what looks at etcd from outside goes on without.
TLS_PORT: Final = 2389
TLS_FILES: Final = {"cacert": "etcd.pem", "cert": "etcd.pem", "key": "etcd.key"}
PATRONI_TLS: Final = "/etc/patroni"
ETCD_TLS: Final = "/etc/default"
# Arguments: a certificate, its key. Whoever needs the key has one of its own.
BRING_CERTIFICATE: Final = f"""
set -e
for place in postgres:{PATRONI_TLS} etcd:{ETCD_TLS}; do
    printf %s "$1" > "${{place#*:}}/etcd.pem"
    printf %s "$2" | install -m 600 -o "${{place%%:*}}" /dev/stdin "${{place#*:}}/etcd.key"
done
"""
# Arguments: unit, /etc/default/etcd, the path of Patroni's configuration, that configuration.
RUN_ETCD: Final = """
set -e
printf %s "$1" > /etc/default/etcd
systemctl enable --quiet etcd && systemctl restart etcd
"""
RUN_PATRONI: Final = f"""
set -e
printf %s "$1" > {CONFIG} && chown root:postgres {CONFIG} && chmod 640 {CONFIG}
systemctl enable --quiet {UNIT} && systemctl restart {UNIT}
"""


@dataclass(frozen=True)
class Patroni:
    """Patroni on the lab's members.

    Every method raises LabError when a host or Patroni does not do its part.

    encrypted: Patroni reaches etcd through TLS, showing a certificate.
    """

    lab: Lab
    encrypted: bool = False

    @property
    def cluster(self) -> AgreedCluster:
        """The cluster as a client sees it; the same for Patroni and for pgherd."""
        login = ("patroni", PASSWORDS["rest"])
        return AgreedCluster(self.lab.settings, password=PASSWORDS["superuser"], login=login)

    def deploy(self, dynamic: Mapping[str, Any] | None = None) -> str:
        """Install and start everything, on the first member first; return who leads.

        dynamic: laid over the dynamic configuration with which the cluster begins.
        """
        major = MAJORS[self.lab.settings.release]
        self._everywhere("installed", lambda host: self._script(host, INSTALL, major))
        if self.encrypted:
            pair = self._certificate()
            self._everywhere(
                "a certificate", lambda host: self._script(host, BRING_CERTIFICATE, *pair)
            )
        self._everywhere("etcd runs", lambda host: self._script(host, RUN_ETCD, self._etcd(host)))
        for host in MEMBERS:
            text = yaml.safe_dump(self.configuration(host, dynamic or {}), sort_keys=False)
            self._script(host, RUN_PATRONI, text)
            self.lab.progress.line(host, "Patroni runs")
        return self.cluster.await_healthy(HEALTHY_SECONDS_MAX)

    def configuration(self, host: str, dynamic: Mapping[str, Any]) -> dict[str, Any]:
        """Return *host*'s configuration file as a mapping."""
        settings = self.lab.settings
        address, major = settings.address(host), MAJORS[settings.release]
        return {
            "scope": CLUSTER_NAME,
            "namespace": "/service/",
            "name": host,
            "restapi": {
                "listen": f"{address}:{REST_PORT}",
                "connect_address": f"{address}:{REST_PORT}",
                "authentication": {"username": "patroni", "password": PASSWORDS["rest"]},
            },
            "etcd3": self._etcd3(),
            "bootstrap": {
                "dcs": {
                    "ttl": 30,
                    "loop_wait": 10,
                    "retry_timeout": 10,
                    "maximum_lag_on_failover": 1048576,
                    "slots": {"kept_by_hand": {"type": "physical"}},
                    "postgresql": {
                        "use_pg_rewind": True,
                        "use_slots": True,
                        "parameters": {"max_connections": 150, "work_mem": "6MB"},
                    },
                    **dynamic,
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"*:{5432}",
                "connect_address": f"{address}:5432",
                "data_dir": f"/var/lib/postgresql/{major}/main",
                "bin_dir": f"/usr/lib/postgresql/{major}/bin",
                "pgpass": f"/var/lib/postgresql/{major}-main.pgpass",
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORDS["superuser"]},
                    "replication": {
                        "username": "standby",
                        "password": PASSWORDS["replication"],
                    },
                    "rewind": {"username": "rewinder", "password": PASSWORDS["rewind"]},
                },
                "parameters": {
                    "unix_socket_directories": "/var/run/postgresql",
                    "log_min_duration_statement": "2s",
                    "shared_preload_libraries": "pg_stat_statements",
                },
                "pg_hba": [
                    "local all all peer",
                    "host all all 127.0.0.1/32 scram-sha-256",
                    # Patroni asks its own server for the timeline so, before it rewinds.
                    "host replication standby 127.0.0.1/32 scram-sha-256",
                    f"host replication standby {settings.subnet} scram-sha-256",
                    f"host all all {settings.subnet} scram-sha-256",
                    "hostnossl all nobody 192.0.2.0/24 reject",
                ],
            },
            "tags": {"zone": f"rack-{host}"},
        }

    def adopt(self, directory: Path, options: tuple[str, ...] = ()) -> Outcome:
        """Run the playbook that takes the cluster over; what it writes goes to *directory*."""
        places = {
            "adoption_inventory_file": str(directory / "adopted.yml"),
            "cluster_secrets_dir": str(directory / "secrets"),
        }
        return run(ADOPT, places, options, INVENTORY)

    def give_back(self, host: str) -> None:
        """Have Patroni run *host* again, as docs/from-patroni.md says."""
        self.lab.exec(host, ["systemctl", "disable", "--quiet", "--now", *OURS])
        self.lab.exec(host, ["systemctl", "enable", "--quiet", "--now", UNIT])
        self.cluster.await_healthy(HEALTHY_SECONDS_MAX)

    def switchover(self, leader: str, candidate: str) -> str:
        """Have *candidate* take over from *leader* by the REST API; return the API's answer."""
        body = {"leader": leader, "candidate": candidate}
        return self._ask(leader, "POST", "/switchover", body)

    def configure(self, change: Mapping[str, Any]) -> None:
        """Lay *change* over the dynamic settings; return when every member goes by its `ttl`."""
        self._ask(self.cluster.await_healthy(HEALTHY_SECONDS_MAX), "PATCH", "/config", change)
        store = Store(self.lab)
        until(
            store.granted_seconds,
            TIMINGS_SECONDS_MAX,
            f"Every member has a lease of {change['ttl']} s",
            holds=lambda found: found == dict.fromkeys(MEMBERS, change["ttl"]),
            every=0.5,
        )

    def _ask(self, host: str, method: str, path: str, body: Mapping[str, Any]) -> str:
        try:
            status, text = self.cluster.ask(host, method, path, body, REST_SECONDS_MAX)
        except OSError as error:
            raise LabError(f"{host}: {method} {path}: {error}") from error
        if status != 200:
            raise LabError(f"{host}: {method} {path}: {status} {text}")
        return text

    def _etcd3(self) -> dict[str, Any]:
        """Return the section of Patroni's configuration that says where etcd is."""
        port = TLS_PORT if self.encrypted else 2379
        hosts = [f"{self.lab.settings.address(member)}:{port}" for member in MEMBERS]
        files = {key: f"{PATRONI_TLS}/{name}" for key, name in TLS_FILES.items()}
        return {"hosts": hosts, **({"protocol": "https", **files} if self.encrypted else {})}

    def _certificate(self) -> tuple[str, str]:
        """Make a certificate, signed by itself, for etcd on all hosts and for its clients."""
        names = ",".join(f"IP:{self.lab.settings.address(member)}" for member in MEMBERS)
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = Path(directory, "etcd.pem"), Path(directory, "etcd.key")
            command = [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=etcd",
                "-addext", f"subjectAltName={names}",
                "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
                "-keyout", str(key), "-out", str(certificate),
            ]  # fmt: skip
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise LabError(f"openssl makes no certificate: {error}") from error
            return certificate.read_text(), key.read_text()

    def _etcd(self, host: str) -> str:
        """Return *host*'s /etc/default/etcd."""
        addresses = {member: self.lab.settings.address(member) for member in MEMBERS}
        own = f"http://{addresses[host]}"
        members = ",".join(f"{name}=http://{address}:2380" for name, address in addresses.items())
        words = {
            "NAME": host,
            "DATA_DIR": "/var/lib/etcd/default",
            "LISTEN_CLIENT_URLS": f"{own}:2379,http://127.0.0.1:2379",
            "ADVERTISE_CLIENT_URLS": f"{own}:2379",
            "LISTEN_PEER_URLS": f"{own}:2380",
            "INITIAL_ADVERTISE_PEER_URLS": f"{own}:2380",
            "INITIAL_CLUSTER": members,
            "INITIAL_CLUSTER_TOKEN": CLUSTER_NAME,
        }
        if self.encrypted:
            words["LISTEN_CLIENT_URLS"] += f",https://{addresses[host]}:{TLS_PORT}"
            words |= {
                "CERT_FILE": f"{ETCD_TLS}/etcd.pem",
                "KEY_FILE": f"{ETCD_TLS}/etcd.key",
                "TRUSTED_CA_FILE": f"{ETCD_TLS}/etcd.pem",
                "CLIENT_CERT_AUTH": "true",
            }
        return "".join(f'ETCD_{name}="{value}"\n' for name, value in words.items())

    def _everywhere(self, done: str, work: Any) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(len(MEMBERS)) as pool:
            list(pool.map(work, MEMBERS))
        self.lab.progress.line("patroni", f"{done} ({time.monotonic() - began:.0f} s)")

    def _script(self, host: str, script: str, *arguments: str) -> None:
        self.lab.exec(host, ["sh", "-c", script, "sh", *arguments])


def main() -> int:
    """Make the lab's hosts and a Patroni cluster on them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.patroni", description=__doc__)
    parser.add_argument("--mode", default="off", help="synchronous_mode: off (default), on, quorum")
    parser.add_argument("--tls", action="store_true", help="Patroni reaches etcd through TLS")
    options = parser.parse_args()
    mode = options.mode
    try:
        lab = Lab()
        lab.up()
        words: dict[str, object] = {"off": False, "on": True}
        leader = Patroni(lab, options.tls).deploy({"synchronous_mode": words.get(mode, mode)})
    except LabError as error:
        sys.stderr.write(f"patroni: {error}\n")
        return 2
    lab.progress.line("patroni", f"{leader} leads")
    return 0


if __name__ == "__main__":
    sys.exit(main())
