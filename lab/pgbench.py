# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbench on the engine's machine: as many clients as asked for, each of its commits by time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.client import longest_between
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.wire import Target

INSTALLED: Final = "/usr/lib/postgresql"
# Long enough for whatever is done meanwhile: the run is ended by a signal.
RUN_SECONDS_MAX: Final = 900
END_SECONDS_MAX: Final = 60.0
PROCESSED: Final = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
FAILED: Final = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
RATE: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
# Client, transaction, microseconds, script, and when it was over: seconds and microseconds.
LOGGED: Final = re.compile(r"^\d+ \d+ (\d+|skipped|failed) \d+ (\d+) (\d+)")


@dataclass(frozen=True)
class Load:
    """How many clients, and by which protocol: `simple` or `prepared`."""

    clients: int
    protocol: str


@dataclass(frozen=True)
class Report:
    """What a run came to; completed: when each transaction was, in seconds since the epoch."""

    processed: int
    failed: int
    tps: float
    errors: tuple[str, ...]
    completed: tuple[float, ...]

    def longest(self, since: float, until: float) -> float:
        """Return the longest time without a commit between two moments of time.time()."""
        return longest_between(self.completed, since, until)


def program() -> str:
    """Return the newest pgbench of this machine; raises LabError when it has none."""
    versions = sorted(
        (path for path in Path(INSTALLED).glob("*/bin/pgbench")),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    found = str(versions[-1]) if versions else shutil.which("pgbench")
    if found is None:
        raise LabError("There is no pgbench: install it (Debian: apt-get install postgresql).")
    return found


def environment(target: Target) -> dict[str, str]:
    """Return the environment that leads libpq to *target*: no secret is in a command line."""
    return {
        **os.environ,
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGUSER": target.user,
        "PGPASSWORD": target.password,
        "PGDATABASE": target.dbname,
        "PGCONNECT_TIMEOUT": "10",
    }


def initialize(target: Target, scale: int) -> None:
    """Make pgbench's tables anew; raises LabError."""
    done = subprocess.run(
        [program(), "--initialize", "--quiet", f"--scale={scale}"],
        env=environment(target),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"pgbench --initialize ended with {done.returncode}: {done.stderr.strip()}")


@dataclass
class Pgbench:
    """A run of pgbench against *target*, from start() to finish()."""

    target: Target
    load: Load
    _directory: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="pgherd-pgbench-")
    )
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin; the clients connect meanwhile. Raises LabError when there is no pgbench."""
        words = [program(), "--no-vacuum", f"--client={self.load.clients}"]
        # A thread each: preparing a statement blocks the thread, and a client that waits for a
        # connection of the pool would keep others, which have one, from giving it back.
        words.append(f"--jobs={self.load.clients}")
        words += [f"--protocol={self.load.protocol}", f"--time={RUN_SECONDS_MAX}", "--log"]
        words += [f"--log-prefix={self._directory.name}/log"]
        self._process = subprocess.Popen(
            words,
            env=environment(self.target),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def await_clients(self) -> None:
        """Wait until transactions are made, which is when all clients have connected.

        Raises LabError when it ends before.
        """
        deadline = time.monotonic() + END_SECONDS_MAX
        assert self._process is not None
        while not any(path.stat().st_size for path in Path(self._directory.name).iterdir()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"pgbench makes no transactions: {self.finish().errors}")
            time.sleep(0.05)

    def finish(self) -> Report:
        """Let the transactions that are under way end; return what it came to."""
        assert self._process is not None
        # pgbench ends its run by this very signal, when its time is over.
        self._process.send_signal(signal.SIGALRM)
        try:
            out, err = self._process.communicate(timeout=END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            err += f"pgbench: error: not over {END_SECONDS_MAX:g} s after its end\n"
        logs = [path.read_text(encoding="ascii") for path in Path(self._directory.name).iterdir()]
        self._directory.cleanup()
        return parse(out, err, "".join(logs))


def parse(out: str, err: str, log: str) -> Report:
    """Return the report in what pgbench printed and in the log of its transactions."""
    lines = (LOGGED.match(line) for line in log.splitlines())
    completed = sorted(int(m[2]) + int(m[3]) / 1e6 for m in lines if m and m[1].isdigit())
    processed, failed, rate = (pattern.search(out) for pattern in (PROCESSED, FAILED, RATE))
    errors = [line for line in err.splitlines() if "error" in line.lower() or "fatal" in line]
    if processed is None:
        errors.append("pgbench: no summary")
    return Report(
        processed=int(processed[1]) if processed else 0,
        failed=int(failed[1]) if failed else 0,
        tps=float(rate[1]) if rate else 0.0,
        errors=tuple(errors),
        completed=tuple(completed),
    )
