# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults cost the clients of a cluster, one sample for each, kept as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from bench.failover_faults import FAULTS
from bench.samples import Spread
from bench.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Figure = Literal["gap", "lost", "overlap", "doubt"]
COUNTED: Final[tuple[Figure, ...]] = ("lost", "doubt")


@dataclass(frozen=True)
class Sample:
    """One fault that one system met.

    gap: the longest time in which no client's commit was acknowledged, in seconds.
    acknowledged, lost: rows, and those of them that are not there in the end.
    overlap: seconds in which two nodes took and acknowledged writes.
    doubt: rows of which the client that was outside does not know what became of them.
    before, after: who led at the beginning and in the end.
    failure: why there are no figures; empty when there are.
    software, cores, load, taken: what ran, the cores of the machine, the load average of its last
    minute just before the fault, and when (UTC).
    """

    system: str
    fault: str
    round: int
    gap: float = 0.0
    acknowledged: int = 0
    lost: int = 0
    overlap: float = 0.0
    doubt: int = 0
    before: str = ""
    after: str = ""
    failure: str = ""
    software: str = ""
    cores: int = 0
    load: float = 0.0
    taken: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is a sample of."""
        return self.system, self.fault, self.round


@dataclass(frozen=True)
class Outages:
    """All samples of one benchmark, in the order in which they were taken."""

    samples: tuple[Sample, ...]

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems, in the order of SYSTEMS."""
        there = {sample.system for sample in self.samples}
        return tuple(name for name in SYSTEMS if name in there)

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the faults, in the order of FAULTS."""
        there = {sample.fault for sample in self.samples}
        return tuple(name for name in FAULTS if name in there)

    @property
    def good(self) -> dict[tuple[str, str, int], Sample]:
        """The samples that have figures; of those taken again the last."""
        return {sample.key: sample for sample in self.samples if not sample.failure}

    @property
    def failed(self) -> list[Sample]:
        """The last failure of each sample that has no figures in the end."""
        bad = {sample.key: sample for sample in self.samples if sample.failure}
        return [sample for key, sample in bad.items() if key not in self.good]

    def find(self, system: str, fault: str) -> list[Sample]:
        """Return the samples of *fault* in *system* that have figures."""
        return [s for s in self.good.values() if (s.system, s.fault) == (system, fault)]

    def spread(self, system: str, fault: str, figure: Figure) -> Spread | None:
        """Return the spread of a figure over the rounds; None when no round has it."""
        return Spread.of([getattr(sample, figure) for sample in self.find(system, fault)])

    def ratio(self, system: str, base: str, fault: str) -> float | None:
        """Return *system*'s median time without a commit divided by *base*'s; None for none."""
        medians = [self.spread(name, fault, "gap") for name in (system, base)]
        theirs, ours = ((spread.median if spread else 0.0) for spread in medians)
        return theirs / ours if theirs and ours else None

    def lost(self, system: str) -> tuple[int, int]:
        """Return how many rows *system* acknowledged in all, and how many of them it lost."""
        found = [sample for sample in self.good.values() if sample.system == system]
        return sum(sample.acknowledged for sample in found), sum(sample.lost for sample in found)

    @property
    def rounds(self) -> str:
        """How many rounds there are of each fault in each system, in words: `3` or `2 to 3`."""
        counts = {len(self.find(s, f)) for s in self.systems for f in self.faults} - {0}
        if len(counts) < 2:
            return str(max(counts, default=0))
        return f"{min(counts)} to {max(counts)}"

    def load(self, system: str) -> Spread | None:
        """Return the spread of the machine's load average under *system*."""
        return Spread.of([s.load for s in self.good.values() if s.system == system])


def load(path: Path) -> Outages:
    """Return the samples that `keep` left in the file *path*; none when there is no such file.

    A line that was cut short is left out. Raises ValueError for a file of something else.
    """
    if not path.is_file():
        return Outages(())
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    samples = []
    for number, line in enumerate(lines, start=1):
        try:
            samples.append(Sample(**json.loads(line)))
        except (TypeError, ValueError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(f"{path}, line {number}: that is no sample: {error}") from error
    return Outages(tuple(samples))


def keep(path: Path, samples: Iterable[Sample]) -> None:
    """Make *samples* all that the file *path* holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(sample)) + "\n" for sample in samples)
    path.write_text(text, encoding="utf-8")
