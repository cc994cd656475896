# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators have run when something happens to PostgreSQL (Patroni's `callbacks`).

They are told by what each round sees, so that whatever made a server start, stop or change its role
is noticed, also what happened while no agent ran. They run beside the loop, one after the other, in
the order of the events, and hold nothing up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError
from pgherd.hooks import run_command
from pgherd.model import Process
from pgherd.published import role as part

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.model import Instance
    from pgherd.view import View

log = logging.getLogger(__name__)

# A callback that takes longer is killed, so that those after it have their turn, seconds.
CALLBACK_SECONDS: Final = 60.0
# An agent that ends waits so long for those under way, seconds.
DRAIN_SECONDS: Final = 10.0
RESTARTS: Final = frozenset({"restart", "restart primary"})


class Callbacks:
    """Finds out what has happened and has the commands run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._server: str | None = None
        self._told_role = ""
        self._restarts = False

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    def look(self, view: View) -> None:
        """Compare *view* with the one before, and note what has happened."""
        instance = view.instance
        restarts = view.operation in RESTARTS
        self._restarts = self._restarts or restarts
        if instance.is_running:
            self._look_at_running(view, instance)
            self._restarts = restarts
        if instance.process is not Process.STOPPED:
            return
        if self._server is not None and not self._restarts:
            self._server = None
            self.note("on_stop", self._told_role)
        leads = view.leader is not None and view.leader.name == view.me
        if self._told_role == "primary" and not leads and not restarts:
            # Whoever keeps an address at the primary must let go of it, though nothing runs here.
            self._told_role = "demoted"
            self.note("on_role_change", "demoted")

    def _look_at_running(self, view: View, instance: Instance) -> None:
        # One that is about to be promoted is a replica still.
        role = part(view, instance).replace("promoted", "replica")
        is_fresh = instance.started_at != self._server
        if self._told_role not in ("", role):
            self.note("on_role_change", role)
        elif is_fresh:
            self.note("on_restart" if self._restarts else "on_start", role)
        self._server, self._told_role = instance.started_at, role

    def note(self, action: str, role: str = "") -> None:
        """Have the command for *action* run after those that are under way."""
        if action in self._config.postgres.callbacks:
            self._events.put_nowait((action, role or self._told_role))

    async def run(self) -> None:
        """Run what is noted, until cancelled."""
        while True:
            action, role = await self._events.get()
            try:
                await self._run(action, role)
            finally:
                self._events.task_done()

    async def _run(self, action: str, role: str) -> None:
        command = self._config.postgres.callbacks.get(action)
        if command is None:
            return
        log.info("callback %s: %s", action, role)
        arguments = (action, role, self._config.scope)
        try:
            await run_command(command, *arguments, within=CALLBACK_SECONDS)
        except CommandError as error:
            log.error("callback %s: %s", action, error)

    async def end(self, *, stopped: bool) -> None:
        """Wait a while for what is under way; `run` goes on meanwhile.

        :param stopped: PostgreSQL was stopped with the agent.
        """
        if stopped and self._server is not None:
            self._server = None
            self.note("on_stop", self._told_role)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._events.join()
        except TimeoutError:
            log.warning("callbacks that have not ended are given up")
