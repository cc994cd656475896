# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd hears of the agent, and which job is ending us."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgherd.effects import Clock
    from pgherd.notify import Notifier

log = logging.getLogger(__name__)

# A round that takes longer hangs. Far above all that a round waits for: etcd's and PostgreSQL's
# answers are bounded by a few seconds, an immediate stop by ten.
ROUND_SECONDS: Final = 60.0


class SignsOfLife:
    """Pings systemd while the event loop turns and the agent's loop makes its rounds.

    Not with every round: a round may wait for etcd longer than the agent may hang.

    :param clock: seconds on CLOCK_BOOTTIME.
    """

    def __init__(self, notifier: Notifier, clock: Clock) -> None:
        self._notifier = notifier
        self._clock = clock
        self._last_round = clock()
        self._status = ""

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
        interval = self._notifier.ping_interval
        if interval is None:
            await asyncio.Event().wait()
            return
        is_told = False
        while True:
            silence = self._clock() - self._last_round
            if silence <= ROUND_SECONDS:
                self._notifier.ping()
            elif not is_told:
                is_told = True
                log.critical("no round for %.0f s: systemd will end this agent", silence)
            await asyncio.sleep(interval)


async def is_restart(unit: str, within: float = 2.0) -> bool:
    """Tell whether systemd is ending *unit* only to start it again.

    `systemctl restart` queues a job of type restart, `systemctl stop` and a shutdown one of type
    stop. When systemd cannot be asked the answer is no: stopping PostgreSQL is the safe reading.
    """
    command = ["systemctl", "list-jobs", "--no-legend", "--plain", unit]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    # Columns: job number, unit, type, state.
    jobs = [line.split() for line in output.decode().splitlines()]
    return any(len(job) >= 3 and job[1] == unit and job[2] == "restart" for job in jobs)
