# SPDX-License-Identifier: GPL-3.0-or-later
"""Who acknowledged what, when: the arithmetic behind "never two primaries, no write lost".

A *term* is what one node acknowledged on one timeline. It lasts from its first acknowledgement to
the moment when the last statement that it acknowledged was *sent*: a statement in flight when
another node takes over may be confirmed late without harm (whether its row survived is counted
elsewhere), one sent later may not. Terms of a cluster with one primary at a time never overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

NANOSECOND: Final = 1e-9


@dataclass(frozen=True)
class Ack:
    """A commit that *node* confirmed: when it was sent, when that was read (seconds)."""

    node: str
    timeline: int
    number: int
    sent: float
    at: float


@dataclass(frozen=True)
class Term:
    """The time in which *node* took and acknowledged writes on *timeline*."""

    node: str
    timeline: int
    begin: float
    end: float


def parse(node: str, text: str) -> list[Ack]:
    """Return what a writer's log says; a line cut short by a power cut is left out."""
    acks = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if line.endswith("\n") and len(words) == 3 and all(word.isdigit() for word in words):
            number, at, timeline = (int(word) for word in words)
            acks.append(Ack(node, timeline, number, number * NANOSECOND, at * NANOSECOND))
    return acks


def terms(acks: Iterable[Ack]) -> list[Term]:
    """Return the terms, the earliest first."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for ack in acks:
        begin, end = found.get((ack.node, ack.timeline), (ack.at, ack.sent))
        found[ack.node, ack.timeline] = (min(begin, ack.at), max(end, ack.sent))
    all_terms = [Term(*key, *span) for key, span in found.items()]
    return sorted(all_terms, key=lambda term: term.begin)


def overlap(acks: Iterable[Ack]) -> float:
    """Return the seconds in which two nodes, or two timelines, took and acknowledged writes."""
    both = [
        (max(one.begin, other.begin), min(one.end, other.end))
        for one, other in combinations(terms(acks), 2)
    ]
    total, done = 0.0, float("-inf")
    for begin, end in sorted(both):
        begin = max(begin, done)
        if end > begin:
            total += end - begin
            done = end
    return total


def longest_gap(times: Iterable[float]) -> float:
    """Return the longest time between two neighbours of *times*; 0 for fewer than two."""
    ordered = sorted(times)
    return max((after - before for before, after in pairwise(ordered)), default=0.0)
