# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.switchover`: planned switchovers by Patroni and by pgherd, on the same hosts.

A Patroni cluster is made in the lab and switched over again and again under clients that write;
then pgherd takes it over, with its data and its settings, and does the same. Exit code 1 when a
row was lost, 2 when the lab or a cluster cannot be had.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.samples import spread
from lab.cluster import MEMBERS
from lab.errors import LabError
from lab.hosts import Lab
from lab.load import under_load
from lab.patroni import Patroni
from lab.progress import Progress
from lab.stage import HEALTHY_SECONDS_MAX, await_synchronous
from lab.store import Store
from lab.wire import WireError

if TYPE_CHECKING:
    from lab.stage import Account


def measure(patroni: Patroni, who: str, runs: int) -> list[Account]:
    """Return what *runs* switchovers cost the clients; *who* runs the cluster now.

    Raises LabError or WireError.
    """
    costs = []
    for number in range(1, runs + 1):
        leader = await_synchronous(patroni.cluster, Store(patroni.lab))
        others = [host for host in MEMBERS if host != leader]
        candidate = others[number % len(others)]

        def switch(old: str = leader, new: str = candidate) -> None:
            patroni.switchover(old, new)
            patroni.cluster.await_healthy(HEALTHY_SECONDS_MAX)

        cost = under_load(patroni.lab, patroni.cluster, f"{who} {number}/{runs}", switch)
        sys.stdout.write(
            f"{cost.fault}: {cost.before} to {cost.after}, {cost.gap:.2f} s without a commit, "
            f"{cost.lost} of {cost.acknowledged} rows lost\n"
        )
        sys.stdout.flush()
        costs.append(cost)
    return costs


def compare(lab: Lab, mode: object, runs: int) -> tuple[list[Account], list[Account]]:
    """Return the switchovers of Patroni and of pgherd; raises LabError or WireError."""
    patroni = Patroni(lab)
    lab.up()
    patroni.deploy({"synchronous_mode": mode})
    theirs = measure(patroni, "patroni", runs)
    with tempfile.TemporaryDirectory() as directory:
        outcome = patroni.adopt(Path(directory))
    if outcome.code != 0:
        raise LabError("the takeover failed:\n" + "\n".join(outcome.output.splitlines()[-40:]))
    return theirs, measure(patroni, "pgherd", runs)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.switchover", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="switchovers of each (5)")
    parser.add_argument("--mode", default="off", help="synchronous_mode: off (default), on, quorum")
    arguments = parser.parse_args()
    words: dict[str, object] = {"off": False, "on": True}
    mode = words.get(arguments.mode, arguments.mode)
    try:
        theirs, ours = compare(Lab(progress=Progress(quiet=True)), mode, arguments.runs)
    except (LabError, WireError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    gaps = [[cost.gap for cost in costs] for costs in (theirs, ours)]
    ratio = statistics.median(gaps[1]) / statistics.median(gaps[0])
    lost = sum(cost.lost for cost in [*theirs, *ours])
    sys.stdout.write(
        f"{spread('Patroni', gaps[0])}\n{spread('pgherd', gaps[1])}\n"
        f"pgherd takes {ratio:.2f} of Patroni's time; rows lost: {lost}\n"
    )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
