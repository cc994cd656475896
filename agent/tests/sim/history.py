# SPDX-License-Identifier: GPL-3.0-or-later
"""One history from one seed, apart from the machine it is simulated on."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from agent.tests.sim.aio import AgentLoop
from agent.tests.sim.cluster import Cluster, Outcome, Plan
from agent.tests.sim.programs import SimComparison, SimSalvage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.tests.sim.host import MemoryFile
    from agent.tests.sim.world import World

LOG: Final = logging.getLogger("pgherd")


class _WallClock:
    """Stands for the modules of the wall clock: it always shows the same time."""

    @staticmethod
    def time() -> float:
        return 1_767_225_600.0

    @staticmethod
    def now(zone: object) -> _WallClock:
        return _WallClock()

    @staticmethod
    def isoformat() -> str:
        return "2026-01-01T00:00:00+00:00"


class _Secrets:
    """Stands for the module that makes up ids."""

    def __init__(self) -> None:
        self._made = 0

    def token_hex(self, size: int) -> str:
        self._made += 1
        return f"{self._made:0{2 * size}x}"


def _boot_id() -> str:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AgentLoop)
    return loop.boot


def _write(path: MemoryFile, content: str) -> bool:
    return path.write(content)


class _IntoTrace(logging.Handler):
    """What the agents log becomes part of the trace."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        loop = asyncio._get_running_loop()
        who = loop.who if isinstance(loop, AgentLoop) else "-"
        self._world.note(who, f"log: {record.getMessage()}")


@contextmanager
def _logged(world: World) -> Iterator[None]:
    handler, level, propagates = _IntoTrace(world), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.propagate = False
    LOG.setLevel(logging.INFO if world.is_traced else logging.CRITICAL + 1)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.propagate = propagates
        LOG.setLevel(level)


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Collect nothing meanwhile: an agent that was killed must not come to its `finally`.

    When the history is over they all do, and complain.
    """
    hook, was_enabled = sys.unraisablehook, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        sys.unraisablehook = lambda unraisable: None
        with warnings.catch_warnings(action="ignore"):
            gc.collect()
        sys.unraisablehook = hook
        if was_enabled:
            gc.enable()


def _live(plan: Plan, *, trace: bool) -> Outcome:
    cluster = Cluster(plan, trace=trace)
    with ExitStack() as stack:
        # What agents read of the machine they run on.
        stack.enter_context(patch("pgherd.lease.boot_id", _boot_id))
        stack.enter_context(patch("pgherd.lease.write_atomically", _write))
        stack.enter_context(patch("pgherd.loop.time", _WallClock))
        stack.enter_context(patch("pgherd.switchover.time", _WallClock))
        stack.enter_context(patch("pgherd.rolls.time", _WallClock))
        stack.enter_context(patch("pgherd.rolls.secrets", _Secrets()))
        stack.enter_context(patch("pgherd.upkeep.datetime", _WallClock))
        stack.enter_context(patch("pgherd.rejoin.Salvage", SimSalvage))
        stack.enter_context(patch("pgherd.divergence._Comparison", SimComparison))
        stack.enter_context(_logged(cluster.world))
        cluster.live()
    outcome = cluster.outcome()
    cluster.end()
    return outcome


def run(seed: int, *, trace: bool = False, **changes: Any) -> Outcome:
    """Live through the history of *seed*.

    :param changes: of the plan that the seed makes.
    """
    with _without_garbage():
        return _live(Plan.of(seed, **changes), trace=trace)
