# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators have asked of this member and has not come to its end; who waits for that."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Final

from pgherd.pgfiles import write_atomically
from pgherd.timestamps import iso
from pgherd.wishes import Reinitialize, Restart, ScheduledRestart

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.model import Cluster, Instance

log = logging.getLogger(__name__)

# What Patroni answers to a restart.
RESTARTED: Final = "restarted successfully"
STILL_STARTING: Final = "postgres is still starting"
FAILED: Final = "restart failed"


class Wanted:
    """The requests of one member; the loop takes them into its views.

    :ivar restart: to be made now.
    :ivar scheduled: to be made later; it outlives the agent.
    :ivar reinitialize: a new copy, to be made now.
    :param path: where the next agent finds what is scheduled; our member key may go with our lease.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.restart: Restart | None = None
        self.scheduled = self._read()
        self.reinitialize: Reinitialize | None = None
        self._outcome: asyncio.Future[str] | None = None
        self._is_recalled = False

    def ask_restart(self, restart: Restart) -> asyncio.Future[str]:
        """Ask for *restart*; return what will hold its outcome, in Patroni's words."""
        self.restart = restart
        self._outcome = asyncio.get_running_loop().create_future()
        return self._outcome

    def schedule(self, restart: ScheduledRestart | None) -> None:
        """Have *restart* made when it is due; None to have none made."""
        self.scheduled = restart
        try:
            if restart is None:
                self._path.unlink(missing_ok=True)
            else:
                write_atomically(self._path, json.dumps(dict(restart.raw)))
        except OSError as error:
            log.error("the next agent may not know what is scheduled: %s", error)

    def _read(self) -> ScheduledRestart | None:
        try:
            return ScheduledRestart.parse(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def end_restart(self, outcome: str) -> None:
        """Tell who waits for the restart what came of it."""
        self.restart = None
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)
        self._outcome = None

    def look(self, instance: Instance) -> None:
        """Take note of what the instance has come to."""
        wish = self.reinitialize
        if wish is not None and wish.is_cleared and instance.has_data:
            self.reinitialize = None

    def recall(self, cluster: Cluster, name: str) -> None:
        """Go on with what the agent before us was asked for; its member key tells."""
        if self._is_recalled:
            return
        self._is_recalled = True
        member = cluster.members.get(name)
        known = ScheduledRestart.parse(member.data.get("scheduled_restart")) if member else None
        if known is not None and self.scheduled is None:
            log.info("a restart is scheduled for %s", iso(known.at))
            self.scheduled = known
