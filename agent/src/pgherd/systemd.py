# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd hears of the agent, and which job is ending us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from pgherd.notify import PINGS

if TYPE_CHECKING:
    from pgherd.config import Timing
    from pgherd.effects import Clock
    from pgherd.notify import Notifier

log = logging.getLogger(__name__)

# A round that takes longer hangs. Far above all that a round waits for: etcd's and PostgreSQL's
# answers are bounded by a few seconds, an immediate stop by ten.
ROUND_SECONDS: Final = 60.0


class SignsOfLife:
    """Pings systemd while the event loop turns and the agent's loop makes its rounds.

    Not with every round: a round may wait for etcd longer than the agent may hang. While a primary
    is guarded (`arm`) systemd is asked to be stricter than the unit is: there a hanging agent has
    to be replaced before its lease ends, elsewhere a short stall is no harm.

    :param clock: seconds on CLOCK_BOOTTIME.
    """

    def __init__(self, notifier: Notifier, clock: Clock, timing: Timing) -> None:
        self._notifier = notifier
        self._clock = clock
        self._timing = timing
        self._limit = notifier.limit
        self._changed = asyncio.Event()
        self._last_round = clock()
        self._status = ""

    def retime(self, timing: Timing) -> None:
        """Use other timings from the next `arm` on."""
        self._timing = timing

    def arm(self, deadline: float) -> None:
        """A primary is guarded: the agent must not hang for long."""
        self._use(self._timing.silence_limit)

    def disarm(self) -> None:
        """There is no primary: what the unit says will do."""
        self._use(float("inf"))

    def _use(self, seconds: float) -> None:
        allowed = self._notifier.limit
        if allowed is None or self._limit == min(seconds, allowed):
            return
        self._limit = min(seconds, allowed)
        self._notifier.set_limit(self._limit)
        self._changed.set()

    def ready(self, status: str) -> None:
        """The agent serves its REST API."""
        self._last_round = self._clock()
        self._notifier.ready(status)

    def alive(self, status: str) -> None:
        """The loop has just made a round; *status* is one line for `systemctl status`."""
        self._last_round = self._clock()
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def stopping(self, status: str) -> None:
        """The agent is about to end."""
        self._notifier.stopping(status)

    async def run(self) -> None:
        """Ping until cancelled."""
        is_told = False
        while True:
            self._changed.clear()
            silence = self._clock() - self._last_round
            if silence <= ROUND_SECONDS:
                self._notifier.ping()
            elif not is_told:
                is_told = True
                log.critical("no round for %.0f s: systemd will end this agent", silence)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limit / PINGS if self._limit else None):
                    await self._changed.wait()


async def is_restart(unit: str, within: float = 2.0) -> bool:
    """Tell whether systemd is ending *unit* only to start it again.

    `systemctl restart` queues a job of type restart, `systemctl stop` and a shutdown one of type
    stop. When systemd cannot be asked the answer is no: stopping PostgreSQL is the safe reading.
    """
    output = await _systemctl(within, "list-jobs", "--no-legend", "--plain", unit)
    # Columns: job number, unit, type, state.
    jobs = [line.split() for line in output.splitlines()]
    return any(len(job) >= 3 and job[1] == unit and job[2] == "restart" for job in jobs)


async def is_shutdown(within: float = 2.0) -> bool:
    """Tell whether the host is shutting down; no when systemd cannot be asked."""
    return (await _systemctl(within, "is-system-running")).strip() == "stopping"


async def _systemctl(within: float, *arguments: str) -> str:
    """Return what systemctl prints, nothing when it cannot be run or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output.decode()
