# SPDX-License-Identifier: GPL-3.0-or-later
"""Applications in ops1: small programs on the drivers that Debian has, one for each."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lab.cluster import REPOSITORY
from lab.documented import NETWORK, program
from lab.errors import LabError
from lab.stage import HEALTHY_SECONDS_MAX
from lab.wire import Target, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.cluster import Cluster
    from lab.hosts import Lab

HOST: Final = "ops1"
PROGRAMS: Final = REPOSITORY / "molecule" / "drivers" / "programs"
HOME: Final = "/opt/clients"
# As docs/clients.md has them.
DATABASE: Final = "shop"
USER: Final = "app"
TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS clients (run text, number bigint, PRIMARY KEY (run, number))"
)
# openjdk cannot be set up where documentation is left out, unless this is there.
APT: Final = """
export DEBIAN_FRONTEND=noninteractive
mkdir -p /usr/share/man/man1
apt-get -qq update && apt-get -qq install --yes --no-install-recommends "$@" > /dev/null
"""


@dataclass(frozen=True)
class Driver:
    """Debian's packages of it, how its program is made in HOME, and run there."""

    packages: tuple[str, ...]
    run: tuple[str, ...]
    build: str = "true"


GO: Final = "GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=/tmp/gocache go build"
PSYCOPG: Final = Driver(("python3-psycopg",), ("/usr/bin/python3", f"{HOME}/with_psycopg.py"))
DRIVERS: Final = {
    "libpq": PSYCOPG,
    "retry": Driver(("python3-psycopg",), ("/usr/bin/python3", f"{HOME}/with_retry.py")),
    "uri": PSYCOPG,
    "jdbc": Driver(
        ("default-jdk-headless", "libpostgresql-jdbc-java"),
        ("java", "-cp", f"/usr/share/java/postgresql.jar:{HOME}", "WithJdbc"),
        "javac WithJdbc.java",
    ),
    "pgx": Driver(
        ("golang-go", "golang-github-jackc-pgx-v4-dev"),
        (f"{HOME}/with_pgx",),
        f"{GO} with_pgx.go",
    ),
    "pq": Driver(
        ("golang-go", "golang-github-lib-pq-dev"), (f"{HOME}/with_pq",), f"{GO} with_pq.go"
    ),
    "node": Driver(("nodejs", "node-pg"), ("node", f"{HOME}/with_node.js")),
}


@dataclass(frozen=True)
class Applications:
    """Programs of ops1 and their database. Methods raise LabError where something fails."""

    lab: Lab
    cluster: Cluster
    password: str = field(default_factory=lambda: uuid.uuid4().hex, repr=False)

    def install(self, kinds: Iterable[str]) -> None:
        """Put the drivers called *kinds* into ops1, with psql, and their programs."""
        drivers = [DRIVERS[kind] for kind in kinds]
        packages = {each for driver in drivers for each in driver.packages}
        self.lab.exec(HOST, ["sh", "-c", APT, "sh", "postgresql-client", *sorted(packages)])
        self.lab.exec(HOST, ["mkdir", "-p", HOME])
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted(PROGRAMS.iterdir()):
                tar.add(path, path.name)
            content = program("What to try again").encode()
            entry = tarfile.TarInfo("documented.py")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
        if not self.lab.container(HOST).put_archive(HOME, archive.getvalue()):
            raise LabError(f"{HOST} does not take files into {HOME}.")
        for build in dict.fromkeys(driver.build for driver in drivers):
            self.lab.exec(HOST, ["sh", "-c", f"cd {HOME} && {build}"])

    def prepare(self) -> None:
        """Make the user, the database and the table."""
        direct = self.cluster.target(self.cluster.await_healthy(HEALTHY_SECONDS_MAX))
        with Wire(direct, 30) as wire:
            if not wire.query(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'"):
                wire.query(f"CREATE ROLE {USER} LOGIN")
            wire.query(f"ALTER ROLE {USER} PASSWORD '{self.password}'")
            if not wire.query(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
                wire.query(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        with Wire(Target(direct.host, USER, self.password, DATABASE), 30) as wire:
            wire.query(TABLE)

    def here(self, string: str) -> str:
        """Return *string* of the documentation with the lab's addresses."""
        return string.replace(NETWORK, self.lab.settings.address(HOST).rpartition(".")[0] + ".")

    def run(self, kind: str, string: str, run: str, rows: int = 0) -> dict[str, Any]:
        """Return what the program on the driver *kind* tells at its end.

        It connects as *string* says, writes *rows* rows of the run called *run* through that one
        connection, 20 ms after one another, and counts them twice with a prepared statement. The
        one called `retry` uses new connections, and tries again as the documentation tells.
        """
        words = [*DRIVERS[kind].run, self.here(string), run, str(rows)]
        variables = [f"PGPASSWORD={self.password}"]
        if self.lab.settings.release == "12":
            variables.append("UNPREPARED=1")
        text = self.lab.exec(HOST, ["env", *variables, *words])[1]
        told: dict[str, Any] = json.loads(text.splitlines()[-1])
        return told

    def written(self, run: str) -> int:
        """Return how many rows of *run* the primary has."""
        leader = self.cluster.await_healthy(HEALTHY_SECONDS_MAX)
        target = Target(self.cluster.target(leader).host, USER, self.password, DATABASE)
        with Wire(target, 30) as wire:
            return int(wire.query(f"SELECT count(*) FROM clients WHERE run = '{run}'")[0][0])

    def psql(self, host: str, where: str, sql: str) -> str:
        """Return what psql in *host* prints of *sql* when it connects to *where*."""
        command = ["psql", "--no-psqlrc", "-AtX", "-c", sql, self.here(where)]
        return self.lab.exec(host, ["env", f"PGPASSWORD={self.password}", *command])[1].strip()
