# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.path`: what poolers and balancers cost a client, and what they give it.

pgbench reads and writes straight on the primary, through PgBouncer, through HAProxy, through both
behind the address that moves, through both as made by hand, and through PgPool-II, round after
round, on the same hosts. Makes and deploys the lab where it is missing, and puts the cluster back.
Exit code 1 when a path of ours failed a client, 2 when the lab or the cluster cannot be had.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import page
from bench.ground import DIRECT_PORT, Ground, prepared
from bench.path_chart import chart
from bench.path_report import BASE, PEER, tables, verdicts
from bench.pgbench import Load
from bench.samples import Results, Sample, load
from lab.cluster import Cluster
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import deploy
from lab.progress import Progress
from lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.ground import Route

CHART: Final = page.DOCUMENT.with_name("path.svg")
IMAGE: Final = (
    "![Throughput and p99 latency of the paths, compared with a direct connection](path.svg)"
)
WARM_SECONDS: Final = 2
TITLES: Final = {
    "direct": "direct",
    "pgbouncer": "PgBouncer",
    "haproxy": "VIP, HAProxy",
    "chain": "VIP, HAProxy, PgBouncer",
    "hand": "both by hand",
    "pgpool": "PgPool-II",
}
SCRIPTS: Final = ("reads", "writes")


@dataclass(frozen=True)
class Plan:
    """How often, for how long and with how many clients the paths are measured."""

    rounds: int
    seconds: int
    clients: tuple[int, ...]
    protocol: str
    paths: tuple[str, ...]


def measure(ground: Ground, plan: Plan, tell: Callable[[Sample], None]) -> Results:
    """Return what *plan* gave on *ground*; every sample is told as it comes.

    Raises LabError or WireError.
    """
    samples = []
    routes = [route for route in ground.routes() if route.name in plan.paths]
    # What is only done once, such as opening a pool's connections, is no part of a round.
    for number in range(plan.rounds + 1):
        for clients in plan.clients if number else plan.clients[:1]:
            for route in routes:
                for sample in _visit(ground, plan, route, clients, number):
                    if number:
                        samples.append(sample)
                        tell(sample)
    return Results(tuple(samples))


def _visit(ground: Ground, plan: Plan, route: Route, clients: int, number: int) -> list[Sample]:
    """Return both scripts' samples over *route*; PgPool-II runs only while it is its turn."""
    seconds = plan.seconds if number else WARM_SECONDS
    ground.await_room(clients)
    if route.name == PEER:
        try:
            ground.pgpool.start(clients)
        except LabError as error:
            words = str(error).splitlines()[0]
            return [Sample(route.name, script, clients, number, error=words) for script in SCRIPTS]
    target = (route.address, route.port)
    loads = [Load(script, clients, seconds, plan.protocol) for script in SCRIPTS]
    try:
        return [ground.bench.run(route.name, target, load, number) for load in loads]
    finally:
        if route.name == PEER:
            ground.pgpool.stop()


def say(sample: Sample) -> None:
    """Print one run's line."""
    figures = (
        f"{sample.tps:.0f} tps, p99 {sample.p99_ms:.1f} ms, connected in "
        f"{sample.connect_seconds:.1f} s"
    )
    sys.stdout.write(
        f"{sample.round}: {sample.script:<6} {sample.clients:>5} clients  "
        f"{TITLES[sample.path]:<24} {sample.error or figures}\n"
    )
    sys.stdout.flush()


def keeping(path: Path | None) -> Callable[[Sample], None]:
    """Return what prints every sample, and has the file *path* hold all so far.

    So a run that is ended early leaves what it has measured.
    """
    samples: list[Sample] = []

    def tell(sample: Sample) -> None:
        say(sample)
        samples.append(sample)
        if path is not None:
            path.write_text(Results(tuple(samples)).dump(), encoding="utf-8")

    return tell


def benchmark(plan: Plan, profile: str, tell: Callable[[Sample], None]) -> Results:
    """Return what *plan* gave in the lab, deployed first; raises LabError or WireError."""
    lab = Lab(progress=Progress(quiet=True))
    lab.up()
    deploy({"cluster_rto": profile, "haproxy_direct_rw_port": DIRECT_PORT})
    with prepared(lab, Cluster(lab.settings), max(plan.clients)) as ground:
        return measure(ground, plan, tell)


def publish(results: Results) -> None:
    """Write the figures into the documentation: the tables, and the chart beside them."""
    figures = f"{IMAGE}\n\n{tables(results, TITLES)}"
    page.publish("bench.path", figures, (CHART, chart(results, TITLES)))


def arguments() -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="rounds over all paths (3)")
    parser.add_argument("--seconds", type=int, default=6, help="of each measurement (6)")
    parser.add_argument("--clients", default="8,32,200,1000", help="how many (8,32,200,1000)")
    parser.add_argument("--paths", default=",".join(TITLES), help=f"some of {', '.join(TITLES)}")
    parser.add_argument("--protocol", choices=("simple", "extended", "prepared"), default="simple")
    # 1000 servers at work on few cores leave an agent no second of its own.
    parser.add_argument("--profile", default="wan", help="the cluster's cluster_rto (wan)")
    parser.add_argument("--save", type=Path, help="keep the samples in this file, too")
    parser.add_argument("--load", type=Path, help="measure nothing: take the samples of this file")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md, path.svg")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return the exit code."""
    words = arguments()
    clients = tuple(sorted(int(word) for word in words.clients.split(",")))
    paths = tuple(dict.fromkeys([BASE, *words.paths.split(",")]))
    plan = Plan(words.runs, words.seconds, clients, words.protocol, paths)
    try:
        if words.load is None:
            results = benchmark(plan, words.profile, keeping(words.save))
        else:
            results = load(words.load.read_text(encoding="utf-8"))
    except (LabError, WireError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write("\n".join([tables(results, TITLES), *verdicts(results, TITLES), ""]))
    if words.publish:
        publish(results)
    failures = results.errors(path for path in results.paths if path != PEER)
    for sample in failures:
        say(sample)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
