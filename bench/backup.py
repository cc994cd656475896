# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.backup`: backups, restores and new replicas, beside pg_basebackup and cp.

On the lab's hosts, with a database of --mib MiB: a full backup and a restore beside pg_basebackup
and `cp`; the playbook that restores in place beside the bare `pgbackrest restore`; a replica that
takes over what is right of its old data beside one that pg_basebackup copies anew. Prints medians
and ratios; all of it fits into the page cache of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.page import DOCUMENT, replaced, row
from lab.cluster import MEMBERS, Cluster
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import deploy, play
from lab.progress import Progress
from lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE: Final = "bench.backup"
HEALTHY_SECONDS: Final = 300
KEEPER: Final = "ops1"
PLACE: Final = "/var/lib/postgresql/bench"
BARE: Final = (
    "pgbackrest", "--config=/etc/pgbackrest/local.conf", "--stanza=demo", f"--pg1-path={PLACE}",
    "--archive-mode=off", "--log-level-console=error", "restore",
)  # fmt: skip
FILL: Final = (
    "CREATE TABLE bench AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS what "
    "FROM generate_series(1, {rows}) g"
)
# What a row of that table takes, bytes.
ROW_BYTES: Final = 101


@dataclass
class Figures:
    """Seconds of every run, by what was done."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """Take *seconds* down, and say so."""
        self.seconds.setdefault(what, []).append(seconds)
        sys.stdout.write(f"{what}: {seconds:.2f} s\n")
        sys.stdout.flush()

    def median(self, what: str) -> float:
        """Return the median of *what*."""
        return statistics.median(self.seconds[what])

    def shown(self, what: str) -> str:
        """Return median and spread of *what*."""
        each = self.seconds[what]
        return f"{statistics.median(each):.2f} s ({min(each):.2f} to {max(each):.2f})"


def timed(work: Callable[[], object]) -> float:
    """Return how long *work* takes, seconds."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


@dataclass
class Bench:
    """The lab, its cluster and what was measured."""

    lab: Lab
    cluster: Cluster
    figures: Figures = field(default_factory=Figures)

    def shell(self, host: str, script: str) -> str:
        return self.lab.exec(host, ["sh", "-c", script])[1]

    def as_owner(self, host: str, *words: str) -> None:
        self.lab.exec(host, list(words), user="postgres")

    @property
    def leader(self) -> str:
        return self.cluster.await_healthy(HEALTHY_SECONDS)

    @property
    def standby(self) -> str:
        leader = self.leader
        return next(name for name in MEMBERS if name != leader)

    def fill(self, mib: int) -> None:
        """Have a database of about *mib* MiB, written out, with a backup of it."""
        leader = self.leader
        self.cluster.query(leader, "DROP TABLE IF EXISTS bench", 600)
        self.cluster.query(leader, FILL.format(rows=mib * 2**20 // ROW_BYTES), 1800)
        self.cluster.query(leader, "CHECKPOINT", 600)

    def backup(self) -> None:
        """A full backup, beside a copy by pg_basebackup to the same host."""
        words = ("/usr/local/bin/pgherd-backup", "run", "--kind=full", "--json")
        self.figures.add("backup", timed(lambda: self.lab.exec(KEEPER, words)))
        self.shell(self.standby, f"rm -rf {PLACE}")
        self.figures.add("basebackup", timed(lambda: self._base_backup(self.standby)))
        data = self.cluster.query(self.standby, "SHOW data_directory")[0][0]
        copy = f"cp -a {data} {PLACE}.cp && sync -f {PLACE}.cp"
        self.shell(self.standby, f"rm -rf {PLACE}.cp; sync")
        self.figures.add("cp", timed(lambda: self.shell(self.standby, copy)))
        self.shell(self.standby, f"rm -rf {PLACE} {PLACE}.cp")

    def _base_backup(self, host: str) -> None:
        """Copy the leader to *host* as the agent does where there is no backup."""
        target = self.cluster.target(self.leader)
        self.lab.exec(
            host,
            [
                "env", f"PGPASSWORD={target.password}", "pg_basebackup", "--checkpoint=fast",
                "--wal-method=stream", f"--pgdata={PLACE}", f"--host={target.host}",
                "--username=postgres",
            ],
            user="postgres",
        )  # fmt: skip

    def restore(self) -> None:
        """The bare restore on a member's host, then the playbook's, in place."""
        host = self.standby
        bare = ["pgbackrest", "--config=/etc/pgbackrest/local.conf", "--stanza=demo"]
        bare += [
            f"--pg1-path={PLACE}",
            "--archive-mode=off",
            "--log-level-console=error",
            "restore",
        ]
        self.shell(host, f"rm -rf {PLACE}; install -d -m 0700 -o postgres -g postgres {PLACE}")
        self.figures.add("bare restore", timed(lambda: self.as_owner(host, *bare)))
        self.shell(host, f"rm -rf {PLACE}")
        play("restore", restore_forget=True)
        outcome = None

        def go() -> None:
            nonlocal outcome
            outcome = play("restore", restore_confirm="demo")

        self.figures.add("playbook", timed(go))
        if outcome is None or outcome.code != 0:
            raise LabError(f"the restore failed:\n{outcome.output if outcome else ''}")
        play("restore", restore_forget=True)

    def renew(self) -> None:
        """A member is copied anew: by delta from the backup, and as pg_basebackup does it."""
        host = self.standby
        bare = ["pgbackrest", "--config=/etc/pgbackrest/local.conf", "--stanza=demo"]
        bare += [
            f"--pg1-path={PLACE}",
            "--archive-mode=off",
            "--log-level-console=error",
            "restore",
        ]
        # What a stopped member has that is to be copied anew: all of it, unchanged.
        self.shell(host, f"rm -rf {PLACE}; install -d -m 0700 -o postgres -g postgres {PLACE}")
        self.as_owner(host, *bare)
        command = ["/usr/local/bin/pgherd-backup", "replica", f"--datadir={PLACE}"]
        self.figures.add("delta", timed(lambda: self.as_owner(host, *command)))
        self.figures.add("anew", timed(lambda: self._anew(host)))
        self.shell(host, f"rm -rf {PLACE}")

    def _empty(self, host: str) -> None:
        self.shell(host, f"rm -rf {PLACE}; install -d -m 0700 -o postgres -g postgres {PLACE}")

    def _anew(self, host: str) -> None:
        self.shell(host, f"rm -rf {PLACE}")
        self._base_backup(host)


def report(figures: Figures, mib: int, runs: int) -> str:
    """Return the table, in Markdown."""

    def ratio(ours: str, theirs: str) -> str:
        return f"{figures.median(theirs) / figures.median(ours):.1f}"

    overhead = [
        whole - bare
        for whole, bare in zip(
            figures.seconds["playbook"], figures.seconds["bare restore"], strict=True
        )
    ]
    backup, base = figures.shown("backup"), figures.shown("basebackup")
    head = (
        f"A database of {mib} MiB on hosts of the lab on one machine of {os.cpu_count()} cores, "
        f"all of it in its page cache; medians of {runs} runs, with the least and the greatest."
    )
    tail = (
        f"The playbook `restore`, until all members stream, takes "
        f"{statistics.median(overhead):.1f} s ({min(overhead):.1f} to {max(overhead):.1f}) more "
        "than the bare `pgbackrest restore`."
    )
    rows = [
        ("full backup, compressed and encrypted", backup, "pg_basebackup", base,
         ratio("backup", "basebackup")),
        ("the same", backup, "`cp -a` on one host", figures.shown("cp"), ratio("backup", "cp")),
        ("`pgbackrest restore`", figures.shown("bare restore"), "pg_basebackup", base,
         ratio("bare restore", "basebackup")),
        ("a member anew from the backup, its data unchanged (delta)", figures.shown("delta"),
         "old data removed, pg_basebackup", figures.shown("anew"), ratio("delta", "anew")),
    ]  # fmt: skip
    lines = [
        head,
        "",
        "| what | seconds | beside it | seconds | times as fast |",
        "| --- | ---: | --- | ---: | ---: |",
        *(row(name, cells) for name, *cells in rows),
        "",
        tail,
    ]
    return "\n".join(lines)


def measure(lab: Lab, mib: int, runs: int) -> Figures:
    """Deploy, and do it all *runs* times; raises LabError or WireError."""
    bench = Bench(lab, Cluster(lab.settings))
    lab.up()
    deploy()
    bench.fill(mib)
    for _ in range(runs):
        bench.backup()
        bench.restore()
        bench.renew()
    return bench.figures


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    parser.add_argument("--mib", type=int, default=1024, help="of the database (1024)")
    parser.add_argument("--publish", action="store_true", help=f"write into {DOCUMENT.name}")
    arguments = parser.parse_args()
    os.environ["PGHERD_LAB_BACKUP"] = "pgbackrest"
    try:
        figures = measure(Lab(progress=Progress(quiet=True)), arguments.mib, arguments.runs)
    except (LabError, WireError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    table = report(figures, arguments.mib, arguments.runs)
    sys.stdout.write(f"{json.dumps(figures.seconds)}\n{table}\n")
    if arguments.publish:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(replaced(text, MODULE, table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
