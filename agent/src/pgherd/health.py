# SPDX-License-Identifier: GPL-3.0-or-later
"""How the instance and its disk are, looked at beside the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgherd.disk import DiskProbe
from pgherd.hang import HangProbe
from pgherd.postmaster import is_told_to_stop

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.effects import Clock


class Health:
    """Both probes together.

    :param conninfo: how to reach the local instance.
    """

    def __init__(self, config: Config, conninfo: str, clock: Clock) -> None:
        self._clock = clock
        self._data_dir = config.postgres.data_dir
        limit = config.timing.hang_timeout
        self._disk = DiskProbe(config.postgres.data_dir, limit, clock)
        self._hang = HangProbe(conninfo, limit, clock)

    def reconfigure(self, config: Config) -> None:
        """Use the limit of a configuration read anew."""
        self._disk.retime(config.timing.hang_timeout)
        self._hang.retime(config.timing.hang_timeout)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as probes:
            probes.create_task(self._disk.run())
            probes.create_task(self._hang.run())

    def disk(self) -> str:
        """Return what is wrong with the data disk, empty when nothing is."""
        return self._disk.look()

    async def is_told_to_stop(self) -> bool:
        """Return whether somebody has told PostgreSQL to stop, and it has not come to that yet.

        A smart shutdown turns new clients away and waits for those that there are, such as poolers.
        """
        return self._hang.was_refused and await asyncio.to_thread(is_told_to_stop, self._data_dir)

    def silent_seconds(self) -> float:
        """Return for how long PostgreSQL has owed an answer to a new connection."""
        return self._hang.silent_for(self._clock())
