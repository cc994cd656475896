# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs of pgbench gave, as shares of what another path gave in the same round.

Rounds interleave the paths, so what else the machine does meets all of them; only figures of one
round are ever divided by each other.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Figure = Literal["tps", "p99_ms", "connect_seconds", "cpu_us"]


@dataclass(frozen=True)
class Sample:
    """One run: transactions per second, and the latency 99 of 100 stay below, in milliseconds.

    connect_seconds: until all clients were connected; not part of tps and p99.
    cpu_us: processor time of all hosts for each transaction, in microseconds, connecting included.
    error: why there are no figures, in pgbench's words; empty when it ran to its end.
    """

    path: str
    script: str
    clients: int
    round: int
    tps: float = 0.0
    p99_ms: float = 0.0
    connect_seconds: float = 0.0
    cpu_us: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Spread:
    """The median of a figure over the rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread of *values*; None when there are none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None

    def __str__(self) -> str:
        """Show `0.57 (0.55 to 0.60)`, or the median alone when there was one round."""
        if self.least == self.greatest:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)} to {number(self.greatest)})"


def number(value: float) -> str:
    """Return *value* with two decimals, from ten on with one."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def spread(label: str, values: Sequence[float]) -> str:
    """Return one line: the median of *values* (seconds), the least, the greatest and all."""
    every = " ".join(f"{value:.2f}" for value in values)
    return (
        f"{label}: median {statistics.median(values):.2f} s, "
        f"{min(values):.2f} to {max(values):.2f} s ({every})"
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least of *values* that *percent* of them do not exceed; 0.0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


@dataclass(frozen=True)
class Results:
    """All samples of one benchmark, in the order in which they were taken."""

    samples: tuple[Sample, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the paths, in order."""
        return unique(sample.path for sample in self.samples)

    @property
    def scripts(self) -> tuple[str, ...]:
        """The names of the scripts, in order."""
        return unique(sample.script for sample in self.samples)

    @property
    def clients(self) -> tuple[int, ...]:
        """The numbers of clients, ascending."""
        return tuple(sorted({sample.clients for sample in self.samples}))

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return len({sample.round for sample in self.samples})

    def find(self, path: str, script: str, clients: int) -> dict[int, Sample]:
        """Return the samples of one cell that have figures, by round."""
        return {
            sample.round: sample
            for sample in self.samples
            if (sample.path, sample.script, sample.clients) == (path, script, clients)
            and not sample.error
        }

    def median(self, path: str, script: str, clients: int, figure: Figure) -> float | None:
        """Return the median of a cell's figure; None when no run came to its end."""
        values = [getattr(s, figure) for s in self.find(path, script, clients).values()]
        return statistics.median(values) if values else None

    def share(
        self, path: str, base: str, script: str, clients: int, figure: Figure = "tps"
    ) -> Spread | None:
        """Return *path*'s figure divided by *base*'s; None when no round has both."""
        ours, theirs = self.find(path, script, clients), self.find(base, script, clients)
        ratios = [
            getattr(ours[at], figure) / getattr(theirs[at], figure)
            for at in sorted(ours.keys() & theirs.keys())
            if getattr(theirs[at], figure) > 0
        ]
        return Spread.of(ratios)

    def errors(self, paths: Iterable[str]) -> list[Sample]:
        """Return the runs over *paths* that did not come to their end."""
        wanted = set(paths)
        return [sample for sample in self.samples if sample.error and sample.path in wanted]

    def dump(self) -> str:
        """Return the samples as lines of JSON, for `load`."""
        return "".join(json.dumps(asdict(sample)) + "\n" for sample in self.samples)


def load(text: str) -> Results:
    """Return the results that `dump` wrote."""
    return Results(tuple(Sample(**json.loads(line)) for line in text.splitlines() if line))


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Return *items*, each once, in the order in which they come first."""
    return tuple(dict.fromkeys(items))
