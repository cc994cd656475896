# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools made for Patroni, put into hosts of the lab to be used on a cluster that is none.

patronictl and check_patroni come from PyPI, onto Debian's own Python packages, into ops1; HAProxy
and vip-manager are Debian's. Nothing of it is part of a role.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from lab.cluster import CLUSTER_NAME, MEMBERS, REST_PORT
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.cluster import Cluster
    from lab.hosts import Lab

HOST: Final = "ops1"
PATRONI_VERSION: Final = "4.1.5"
WHEELS: Final = (f"patroni=={PATRONI_VERSION}", "check-patroni==2.2.0")
# What the wheels import, and the load balancer.
PACKAGES: Final = (
    "python3-psycopg",
    "python3-yaml",
    "python3-dateutil",
    "python3-dnspython",
    "python3-click",
    "python3-prettytable",
    "python3-urllib3",
    "python3-psutil",
    "python3-etcd",
    "python3-attr",
    "python3-requests",
    "python3-nagiosplugin",
    "haproxy",
)
# Debian 12 has the same program under its former name.
DIFF: Final = {"12": "python3-cdiff", "13": "python3-ydiff"}
HOME: Final = "/opt/patroni-tools"
# A command and the function it is.
PROGRAMS: Final = {
    "patronictl": ("patroni.ctl", "ctl"),
    "check_patroni": ("check_patroni.cli", "main"),
}
PROGRAM: Final = """\
#!/usr/bin/python3
import sys
sys.path.insert(0, "{home}")
from {module} import {function}
sys.exit({function}())
"""
# Of the agents: where etcd is, and who may change things.
AGENT_FILE: Final = "/etc/pgherd/pgherd.yml"
ACCOUNT_FILE: Final = "/etc/pgherd/conf.d/61-rest.yml"
# Where patronictl looks when it is told nothing.
SETTINGS_FILE: Final = "/root/.config/patroni/patronictl.yaml"
APT: Final = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --yes --no-install-recommends "$@" > /dev/null
"""
UNPACK: Final = f"""
rm -rf {HOME} && mkdir -p {HOME} && cd {HOME} || exit 1
for wheel in /root/wheels/*.whl; do python3 -m zipfile -e "$wheel" . || exit 1; done
"""


@dataclass(frozen=True)
class Checked:
    """What check_patroni said: Nagios' code (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN), the lines
    before the figures, and the figures."""

    code: int
    text: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Tools:
    """The tools of ops1. Every method raises LabError when the host cannot do as it should."""

    lab: Lab
    cluster: Cluster

    def install(self) -> None:
        """Put patronictl, check_patroni and HAProxy into ops1, and tell them of the cluster."""
        self.apt(HOST, *PACKAGES, DIFF[self.lab.settings.release])
        with tempfile.TemporaryDirectory() as directory:
            fetch(WHEELS, Path(directory))
            wheels = [(path.name, path.read_bytes()) for path in Path(directory).iterdir()]
        self.put(HOST, "/root/wheels", wheels)
        self.lab.exec(HOST, ["sh", "-c", UNPACK])
        for name, (module, function) in PROGRAMS.items():
            text = PROGRAM.format(home=HOME, module=module, function=function)
            self.put(HOST, "/usr/local/bin", [(name, text.encode())], mode=0o755)
        self.configure()

    def configure(self) -> None:
        """Write patronictl's settings: etcd, and the account that may change things."""
        path = Path(SETTINGS_FILE)
        text = yaml.safe_dump(self._settings(), sort_keys=False)
        self.put(HOST, str(path.parent), [(path.name, text.encode())], mode=0o600)
        target = self.cluster.target(MEMBERS[0])
        line = f"*:*:*:{target.user}:{target.password}\n"
        self.put(HOST, "/root", [(".pgpass", line.encode())], mode=0o600)

    def patronictl(self, *words: str, typed: str = "", check: bool = True) -> str:
        """Return what `patronictl words` prints when *typed* is answered to its questions."""
        script = 'printf %s "$1" | { shift; PGUSER=postgres exec patronictl "$@"; }'
        return self.lab.exec(HOST, ["sh", "-c", script, "sh", typed, *words], check=check)[1]

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `patronictl list`, by member."""
        rows = json.loads(self.patronictl("list", "--format", "json"))
        return {row["Member"]: row for row in rows}

    def soon(self) -> str:
        """Return a time that is only just ahead once another command has been given here."""
        started = time.monotonic()
        self.listed()
        return after(2 + 4 * (time.monotonic() - started))

    def check(self, *words: str, ask: Sequence[str] = MEMBERS) -> Checked:
        """Return what `check_patroni words` says of the agents of the hosts *ask*."""
        urls = [f"http://{self.lab.settings.address(host)}:{REST_PORT}" for host in ask]
        command = ["check_patroni", "--endpoints", ",".join(urls), *words]
        code, output = self.lab.exec(HOST, command, check=False)
        return parse(code, output)

    def apt(self, host: str, *packages: str) -> None:
        """Install Debian's *packages* in *host*."""
        self.lab.exec(host, ["sh", "-c", APT, "sh", *packages])

    def put(
        self, host: str, directory: str, files: Iterable[tuple[str, bytes]], mode: int = 0o644
    ) -> None:
        """Write *files*, names and contents, into a *directory* of *host*."""
        self.lab.exec(host, ["mkdir", "-p", directory])
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), mode
                tar.addfile(entry, io.BytesIO(content))
        if not self.lab.container(host).put_archive(directory, archive.getvalue()):
            raise LabError(f"{host} does not take files into {directory}.")

    def _settings(self) -> dict[str, Any]:
        agent = yaml.safe_load(self.lab.exec(MEMBERS[0], ["cat", AGENT_FILE])[1])
        account = yaml.safe_load(self.lab.exec(MEMBERS[0], ["cat", ACCOUNT_FILE])[1])
        return {"scope": CLUSTER_NAME, "etcd3": agent["etcd3"], "ctl": account["restapi"]}


def after(seconds: float) -> str:
    """Return the time that comes in *seconds*, with its zone."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def fetch(wheels: Sequence[str], directory: Path) -> None:
    """Download *wheels* from the package index of this machine's pip; raises LabError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(directory)]
    done = subprocess.run(
        [*command, *wheels],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"pip cannot fetch {', '.join(wheels)}: {done.stdout.strip()}")


def parse(code: int, output: str) -> Checked:
    """Take a Nagios plugin's output apart: text, a bar, figures such as `lag=0;;@1:1;0`."""
    text, _, rest = output.partition("|")
    words = [word.partition("=") for word in rest.split()]
    figures = {name.strip("'"): float(value.split(";")[0]) for name, _, value in words}
    return Checked(code, text.strip(), figures)
