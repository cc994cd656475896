# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.failover`: lose the primary's host again and again, print median and spread.

Makes and deploys the lab where it is missing. Exit code 1 when a row was lost without
excuse, 2 when the lab or the cluster cannot be had.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from lab.cluster import Cluster
from lab.drill import HostLoss, lose_primary
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import deploy
from lab.progress import Progress


def spread(label: str, values: list[float]) -> str:
    """Return one line: the median of *values* (seconds), the least, the greatest and all."""
    every = " ".join(f"{value:.2f}" for value in values)
    return (
        f"{label}: median {statistics.median(values):.2f} s, "
        f"{min(values):.2f} to {max(values):.2f} s ({every})"
    )


def measure(profile: str, runs: int) -> list[HostLoss]:
    """Return the figures of *runs* losses under the profile; raises LabError."""
    lab = Lab(progress=Progress(quiet=True))
    cluster = Cluster(lab.settings)
    lab.up()
    deploy({"cluster_rto": profile})
    figures = []
    for run in range(1, runs + 1):
        figure = lose_primary(lab, cluster)
        sys.stdout.write(f"{profile} {run}/{runs}: {'; '.join(figure.lines())}\n")
        sys.stdout.flush()
        figures.append(figure)
    return figures


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="losses for each profile (5)")
    parser.add_argument("--profile", choices=("fast", "normal"), help="one profile only")
    arguments = parser.parse_args()
    profiles = [arguments.profile] if arguments.profile else ["fast", "normal"]
    summary = []
    unexplained = 0
    try:
        for profile in profiles:
            figures = measure(profile, arguments.runs)
            summary.append(spread(f"{profile}, outage", [f.outage_seconds for f in figures]))
            summary.append(spread(f"{profile}, rejoin", [f.rejoin_seconds for f in figures]))
            unexplained += sum(len(f.losses.unexplained) for f in figures)
    except LabError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write("\n".join([*summary, f"rows lost without excuse: {unexplained}", ""]))
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
