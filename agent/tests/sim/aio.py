# SPDX-License-Identifier: GPL-3.0-or-later
"""An asyncio event loop of one agent process, which can be frozen and killed like the process.

It has no selector and never waits: the world gives it a turn when something is due.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from agent.tests.sim.world import World

# So many callbacks at one moment are a loop that never waits.
BUSY = 20_000
# Clocks are multiplied and divided: a timer rings so much later than it is due, never before.
ROUNDING = 1e-7


class AgentLoop(asyncio.BaseEventLoop):
    """The event loop of one agent process.

    :param who: whose it is, for the trace.
    :param clock: the host's clock.
    :param when: the world's time at which that clock shows a given value.
    :param boot: the host's boot id.
    """

    _ready: Any
    _scheduled: Any

    def __init__(
        self,
        world: World,
        who: str,
        clock: Callable[[], float],
        when: Callable[[float], float],
        boot: str,
    ) -> None:
        super().__init__()
        self._world = world
        self.who = who
        self._now = clock
        self._when = when
        self.boot = boot
        self._armed = float("inf")
        self._is_waiting_for_turn = False
        self._is_turning = False
        self.is_frozen = False
        self.is_dead = False
        # The process is frozen after so many more callbacks: in the middle of whatever it does.
        self.steps_left: int | None = None

    def time(self) -> float:
        return self._now()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._is_turning and not self._is_waiting_for_turn:
            self._is_waiting_for_turn = True
            self._world.has_work(self)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        if not self._is_turning:
            self._arm()
        return timer

    def turn(self) -> None:
        """Run everything that is due now."""
        self._is_waiting_for_turn = False
        if self.is_dead or self.is_frozen:
            return
        self._is_turning = True
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            self._run_due()
        finally:
            events._set_running_loop(before)
            self._is_turning = False
        self._arm()

    def _run_due(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        now = self._now()
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= now):
            timer = heapq.heappop(scheduled)
            if not timer._cancelled:
                ready.append(timer)
        done = 0
        while ready and not self.is_dead:
            if self.steps_left is not None:
                if self.steps_left == 0:
                    self.steps_left = None
                    self.freeze()
                    return
                self.steps_left -= 1
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
            done += 1
            if done > BUSY:
                self._world.violate("agent_never_waits", f"{self.who} is in {handle!r}")
                return

    def _arm(self) -> None:
        """Ask the world for a turn at the next timer."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)
        if scheduled and scheduled[0]._when < self._armed and not self.is_dead:
            self._armed = scheduled[0]._when
            self._world.at(self._when(self._armed) + ROUNDING, self._ring, self._armed)

    def _ring(self, armed: float) -> None:
        if armed == self._armed:
            self._armed = float("inf")
        if not self._is_waiting_for_turn:
            self.turn()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they come to the front."""

    def freeze(self) -> None:
        """Stop as SIGSTOP does: nothing runs, time goes on."""
        self._world.note(self.who, "agent is frozen")
        self.is_frozen = True

    def thaw(self) -> None:
        """Go on; everything that came due meanwhile is due now."""
        self.is_frozen = False
        self.steps_left = None
        self._world.note(self.who, "agent goes on")
        self._armed = float("inf")
        self._world.has_work(self)

    def kill(self) -> None:
        """End as SIGKILL does: not even a `finally` runs."""
        self.is_dead = True
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead:
            error = context.get("exception")
            message = f"{self.who}: {context.get('message')}: {error!r}"
            self._world.violate("agent_loses_exception", message)

    def __del__(self) -> None:
        """Nothing to close: no descriptor was opened."""
