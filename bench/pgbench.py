# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbench on a host of the lab: its data, its runs, and what is read from them."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.samples import Sample, percentile
from lab import engine
from lab.errors import LabError
from lab.settings import HOST_NAMES

if TYPE_CHECKING:
    from lab.hosts import Lab

ROLE: Final = "pgherd_bench"
DATABASE: Final = "pgherd_bench"
# Large enough that two clients seldom want the same row, small enough to stay in memory.
SCALE: Final = 10
# Simple-update: one row of the accounts and one of the history, so that what is measured is the
# path and the commit, not a queue for the few rows of the branches.
SCRIPTS: Final = {"reads": "--select-only", "writes": "--skip-some-updates"}
# Of so many transactions a run writes the latency down.
SAMPLING: Final = 0.25
TPS: Final = re.compile(r"^tps = (?P<tps>[0-9.]+)", re.MULTILINE)
DONE: Final = re.compile(r"number of transactions actually processed: (?P<done>\d+)")
CONNECT: Final = re.compile(r"initial connection time = (?P<ms>[0-9.]+) ms")
FAILED: Final = re.compile(r"number of failed transactions: (?P<failed>\d+)")
ABORTED: Final = re.compile(r"aborted|could not connect|fatal:|FATAL:", re.IGNORECASE)
# pgbench is part of the server's package, whose own cluster nobody needs here.
INSTALL: Final = """
set -e
command -v /usr/lib/postgresql/*/bin/pgbench > /dev/null && exit 0
mkdir -p /etc/postgresql-common
printf 'create_main_cluster = false\\n' > /etc/postgresql-common/createcluster.conf
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --yes --no-install-recommends postgresql > /dev/null
"""
# What a client takes to connect at first guess, in seconds: mostly SCRAM, which costs both sides.
CONNECT_SECONDS: Final = 0.01
TRIES: Final = 4
RUN_SECONDS_SPARE: Final = 60
# What timeout's exit code says.
TIMED_OUT: Final = 124
LATENCIES: Final = "latencies of "
LOG: Final = "/tmp/pgherd-bench"
# Arguments: seconds, then pgbench's. After its own words come its exit code and the latencies, in
# microseconds.
RUN: Final = f"""
rm -rf {LOG} && mkdir {LOG} && cd {LOG} || exit 1
ulimit -n 8192
bound=$1 && shift
timeout "$bound" /usr/lib/postgresql/*/bin/pgbench "$@" 2>&1
code=$?
echo "{LATENCIES}$code"
cat {LOG}/log.* 2> /dev/null | cut -d ' ' -f 3
rm -rf {LOG}
exit 0
"""


@dataclass(frozen=True)
class Load:
    """How a run is made: which script, how many clients, for how many seconds.

    protocol: simple, extended or prepared, pgbench's words for how queries are sent.
    """

    script: str
    clients: int
    seconds: int
    protocol: str = "simple"

    def options(self, threads: int, connecting: float) -> list[str]:
        """Return pgbench's options; *threads* is how many cores its clients may share.

        connecting: seconds that the clients take to connect. pgbench's clock starts before they
        do, though its figures leave that time out.
        """
        return [
            SCRIPTS[self.script],
            "--no-vacuum",
            f"--protocol={self.protocol}",
            f"--client={self.clients}",
            f"--jobs={min(threads, self.clients)}",
            f"--time={self.seconds + math.ceil(connecting)}",
            "--log",
            f"--sampling-rate={SAMPLING}",
            f"--log-prefix={LOG}/log",
        ]


@dataclass(frozen=True)
class Outcome:
    """What a run of pgbench said: see Sample.

    measured: the seconds that its figures are of; done: transactions.
    """

    tps: float = 0.0
    p99_ms: float = 0.0
    connect_seconds: float = 0.0
    measured: float = 0.0
    done: int = 0
    error: str = ""


def parse(text: str) -> Outcome:
    """Return the outcome of what RUN printed."""
    report, _, tail = text.partition(LATENCIES)
    code, _, numbers = tail.partition("\n")
    lines = [line for line in report.splitlines() if ABORTED.search(line)]
    failed = FAILED.search(report)
    if failed and int(failed["failed"]):
        lines.append(f"{failed['failed']} transactions failed")
    if code.strip() == str(TIMED_OUT):
        return Outcome(error="not done in time")
    if lines or code.strip() != "0":
        words = lines or report.strip().splitlines()[-1:] or ["pgbench said nothing"]
        return Outcome(error=words[0].strip())
    done, tps, connect = DONE.search(report), TPS.search(report), CONNECT.search(report)
    if done is None or tps is None or connect is None:
        return Outcome()
    latencies = [float(word) for word in numbers.split() if word.isdigit()]
    return Outcome(
        float(tps["tps"]),
        percentile(latencies, 99) / 1000,
        float(connect["ms"]) / 1000,
        int(done["done"]) / float(tps["tps"]),
        int(done["done"]),
    )


@dataclass(frozen=True)
class Bench:
    """pgbench on *host* of the lab; every method raises LabError when the host does not comply.

    connecting: seconds that so many clients took to connect over a path, by both.
    """

    lab: Lab
    host: str
    connecting: dict[tuple[str, int], float] = field(default_factory=dict)

    def install(self, password: str) -> None:
        """Bring the program, and the *password* of the role that it connects as."""
        self.lab.exec(self.host, ["sh", "-c", INSTALL])
        put(self.lab, self.host, "/root/.pgpass", f"*:*:*:{ROLE}:{password}\n")

    def fill(self, address: str) -> None:
        """Make the tables and their rows by way of the primary at *address*."""
        words = ["--initialize", "--quiet", f"--scale={SCALE}", f"--host={address}"]
        command = " ".join(map(shlex.quote, [*words, f"--username={ROLE}", DATABASE]))
        program = "/usr/lib/postgresql/*/bin/pgbench"
        self.lab.exec(self.host, ["sh", "-c", f"HOME=/root {program} {command}"])

    def run(self, path: str, target: tuple[str, int], load: Load, number: int) -> Sample:
        """Return what *load* gave over *path*, whose entry is *target*, in round *number*.

        A run whose clients took so long to connect that less than half of its seconds was left to
        measure is made again, with more time.
        """
        key = (path, load.clients)
        connecting = self.connecting.get(key, load.clients * CONNECT_SECONDS)
        for _ in range(TRIES):
            used = self.cpu_seconds()
            outcome = self._run(target, load, connecting)
            used = self.cpu_seconds() - used
            if outcome.error or outcome.measured > load.seconds / 2:
                break
            connecting = max(2 * connecting, outcome.connect_seconds)
        else:
            outcome = Outcome(error=f"not connected within {connecting:.0f} s")
        if outcome.connect_seconds:
            self.connecting[key] = outcome.connect_seconds
        return Sample(
            path,
            load.script,
            load.clients,
            number,
            outcome.tps,
            outcome.p99_ms,
            outcome.connect_seconds,
            used / outcome.done * 1e6 if outcome.done else 0.0,
            outcome.error,
        )

    def cpu_seconds(self) -> float:
        """Return the processor time that all hosts of the lab have used so far."""
        total = 0
        for host in HOST_NAMES:
            name = self.lab.settings.container(host)
            figures = self.lab.client.api.stats(name, decode=None, stream=False, one_shot=True)
            total += figures["cpu_stats"]["cpu_usage"]["total_usage"]
        return total / 1e9

    def _run(self, target: tuple[str, int], load: Load, connecting: float) -> Outcome:
        address, port = target
        where = [f"--host={address}", f"--port={port}", f"--username={ROLE}", DATABASE]
        threads = int(self.lab.exec(self.host, ["nproc"])[1])
        bound = f"{load.seconds + connecting + RUN_SECONDS_SPARE:.0f}"
        script = ["env", "HOME=/root", "sh", "-c", RUN, "sh", bound]
        words = [*script, *load.options(threads, connecting), *where]
        return parse(self.lab.exec(self.host, words, check=False)[1])


def put(lab: Lab, host: str, path: str, text: str, owner: str = "root") -> None:
    """Write a file that *owner* alone may read; raises LabError, which does not show *text*."""
    script = 'umask 077; printf %s "$1" > "$2" && chown "$3" "$2" && chmod 600 "$2"'
    command = ["sh", "-c", script, "sh", text, path, owner]
    code, output = engine.execute(lab.settings.container(host), command)
    if code != 0:
        raise LabError(f"{host}: {path} cannot be written: {output.strip()}")
