# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual time: one queue of events for all that is simulated, and the trace of a history."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Violation:
    """An invariant that was broken, when, and how."""

    invariant: str
    at: float
    detail: str


# No history needs so many; one that does runs in circles.
MOST_EVENTS = 500_000


class Turning(Protocol):
    """An agent's event loop: something with work that is due now."""

    def turn(self) -> None:
        """Do all of it."""


class World:
    """Events in the order of time; equal times in the order in which they were asked for.

    :param seed: of the noise: delays, durations, losses.
    :param trace: whether to write down what happens.
    """

    def __init__(self, seed: str, *, trace: bool = False) -> None:
        self.now = 0.0
        self.noise = Random(seed)
        self.violation: Violation | None = None
        self.lines: list[str] = []
        self.is_traced = trace
        self.events = 0
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._due: list[Turning] = []

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at *when*, or as soon as possible if that has passed."""
        due = when if when > self.now else self.now
        heapq.heappush(self._queue, (due, next(self._numbers), call, arguments))

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call *delay* seconds from now."""
        self.at(self.now + delay, call, *arguments)

    def has_work(self, loop: Turning) -> None:
        """Give *loop* a turn before time goes on."""
        self._due.append(loop)

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Let time go on to *until*, to *is_done*, or to the first violation."""
        self._turn()
        while self.violation is None and not is_done():
            if not self._queue or self._queue[0][0] > until:
                self.now = until
                return
            self.now, _, call, arguments = heapq.heappop(self._queue)
            self.events += 1
            if self.events > MOST_EVENTS:
                self.violate("world_ends", f"more than {MOST_EVENTS} events; the last: {call!r}")
            call(*arguments)
            self._turn()

    def _turn(self) -> None:
        while self._due:
            self._due.pop(0).turn()

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace."""
        if self.is_traced:
            self.lines.append(f"{self.now:9.4f}  {who:<5} {what}")

    def violate(self, invariant: str, detail: str) -> None:
        """Say that an invariant is broken; the first one ends the history."""
        if self.violation is None:
            self.violation = Violation(invariant, self.now, detail)
            self.note("CHECK", f"{invariant}: {detail}")
