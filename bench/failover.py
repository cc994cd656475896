# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.failover`: what the same faults cost with pgherd and with Debian's Patroni.

Each system is deployed, one after the other, and meets every fault round after round, under the
same clients. The lab's hosts are removed and made anew: name a lab for it in PGHERD_LAB_NAME, as
`make bench-failover` does. Samples are kept as they come, so that a run that was ended goes on
with --resume. Exit code 1 when a sample could not be had, 2 when the lab or a cluster cannot.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import page
from bench.failover_chart import chart
from bench.failover_faults import FAULTS
from bench.failover_report import figures, tables, verdicts
from bench.outages import Outages, Sample, keep, load
from bench.systems import COMPARED, SYSTEMS, Ground
from lab.cluster import REPOSITORY
from lab.errors import LabError
from lab.hosts import Lab
from lab.progress import Progress
from lab.stage import Account, perform
from lab.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MODULE: Final = "bench.failover"
SAMPLES: Final = REPOSITORY / ".ansible" / "failover.jsonl"
CHART: Final = page.DOCUMENT.with_name("failover.svg")


@dataclass(frozen=True)
class Plan:
    """Which systems meet which faults, and how often."""

    systems: tuple[str, ...] = COMPARED
    faults: tuple[str, ...] = tuple(FAULTS)
    rounds: int = 3

    def __post_init__(self) -> None:
        """Refuse what there is not; raises LabError."""
        for kind, names, known in (
            ("system", self.systems, SYSTEMS),
            ("fault", self.faults, FAULTS),
        ):
            for name in names:
                if name not in known:
                    raise LabError(f"There is no {kind} {name!r}: there are {', '.join(known)}.")
        if self.rounds < 1:
            raise LabError(f"--runs {self.rounds}: there must be at least 1.")

    def missing(self, system: str, outages: Outages) -> list[tuple[int, str]]:
        """Return round and fault of the samples of *system* that *outages* do not have."""
        return [
            (number, fault)
            for number in range(1, self.rounds + 1)
            for fault in self.faults
            if (system, fault, number) not in outages.good
        ]


def measure(plan: Plan, kept: Outages, tell: Callable[[Sample], None]) -> None:
    """Take the samples of *plan* that are not *kept* and tell each as it comes.

    Raises LabError or WireError when the lab or a cluster cannot be had.
    """
    ground = Ground(Lab(progress=Progress(quiet=True)))
    if kept.samples:
        ground.find()
    for name in plan.systems:
        system = SYSTEMS[name]
        wanted = plan.missing(name, kept)
        if wanted:
            ground.make(system)
            software = ground.software(system)
        for number, fault in wanted:
            if not ground.family:
                ground.make(system)
            base = Sample(name, fault, number, software=software)
            sample = suffer(ground, base)
            tell(sample)
            if sample.failure:
                # Whatever state that has left, the next sample does not begin in it.
                ground.family = ""


def suffer(ground: Ground, base: Sample) -> Sample:
    """Return the sample *base* with what its fault cost."""
    system, fault = SYSTEMS[base.system], FAULTS[base.fault]
    base = replace(
        base,
        cores=os.cpu_count() or 0,
        load=round(os.getloadavg()[0], 2),
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        cost = perform(ground.lab, fault, ground.cluster(system), system.agent)
    except LabError as error:
        cost = Account(fault.name, failure=str(error))
    return replace(
        base,
        gap=round(cost.gap, 3),
        acknowledged=cost.acknowledged,
        lost=cost.lost,
        overlap=round(cost.overlap, 3),
        doubt=cost.doubt,
        before=cost.before,
        after=cost.after,
        failure=cost.failure,
    )


def say(sample: Sample) -> None:
    """Print one sample's line."""
    words = (
        f"{sample.gap:6.2f} s without a commit, {sample.lost} of {sample.acknowledged} rows lost, "
        f"{sample.doubt} in doubt, two primaries for {sample.overlap:.2f} s"
    )
    sys.stdout.write(
        f"{sample.round}: {SYSTEMS[sample.system].title:<22} {sample.fault:<18} "
        f"{sample.failure or words}\n"
    )
    sys.stdout.flush()


def keeping(path: Path, samples: Iterable[Sample]) -> Callable[[Sample], None]:
    """Return what prints every sample, and has *path* hold it after *samples*."""
    kept = list(samples)

    def tell(sample: Sample) -> None:
        say(sample)
        kept.append(sample)
        keep(path, kept)

    return tell


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's words."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="rounds over all faults (3)")
    some = f"some of {', '.join(SYSTEMS)} (all but quorum)"
    parser.add_argument("--systems", default=",".join(COMPARED), help=some)
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"some of {', '.join(FAULTS)}")
    parser.add_argument(
        "--samples", type=Path, default=SAMPLES, help=f"are kept here ({SAMPLES.name} in .ansible)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the samples that are kept"
    )
    parser.add_argument("--report", action="store_true", help="measure nothing, tell of those kept")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/benchmarks.md, failover.svg"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    words = arguments(argv)
    try:
        systems, faults = (
            tuple(dict.fromkeys(name.strip() for name in text.split(",")))
            for text in (words.systems, words.faults)
        )
        plan = Plan(systems, faults, words.runs)
        kept = load(words.samples) if words.resume or words.report else Outages(())
        if not words.report:
            measure(plan, kept, keeping(words.samples, kept.samples))
            kept = load(words.samples)
    except (LabError, WireError, OSError, ValueError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    if not kept.good:
        sys.stderr.write(f"bench: {words.samples} has no sample: measure first.\n")
        return 2
    sys.stdout.write("\n".join([tables(kept), *verdicts(kept), ""]))
    if words.publish:
        page.publish(MODULE, figures(kept), (CHART, chart(kept)))
    for sample in kept.failed:
        say(sample)
    return 1 if kept.failed else 0


if __name__ == "__main__":
    sys.exit(main())
