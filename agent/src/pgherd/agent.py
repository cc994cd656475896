# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon: puts the parts together, obeys signals, ends in order; start.py starts it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from pgherd.api import Api
from pgherd.archiving import Archiving
from pgherd.clock import boottime
from pgherd.config import load
from pgherd.errors import ConfigError
from pgherd.guard import Guards, InProcessGuard
from pgherd.health import Health
from pgherd.loop import Effects, Loop
from pgherd.notify import Notifier
from pgherd.patronis import told_by_environment
from pgherd.peers import HttpPeers
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage
from pgherd.store import Store
from pgherd.systemd import SignsOfLife, is_restart, is_shutdown

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    from pgherd.config import Config
    from pgherd.start import Foothold

log = logging.getLogger(__name__)

UNIT: Final = "pgherd.service"


async def until_one_ends(*parts: Coroutine[None, None, None]) -> None:
    """Run *parts* side by side until the first of them ends; the others are cancelled then.

    None of the agent's parts may be missing: without the keeper the lease runs out, without the
    guard nobody sees to it. So what ends one of them is raised, and systemd starts the agent anew.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def successor_problems(program: str, path: Path, within: float = 10.0) -> list[str]:
    """Return what the agent that *program* now is has against the configuration file *path*.

    The program may have been replaced since this process began, and know other keys.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, "check-config", "--config", str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within):
            _, text = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return [f"{program} check-config does not end"]
    if process.returncode == 0:
        return []
    return text.decode(errors="replace").splitlines() or [f"{program} check-config fails"]


class Agent:
    """One running agent.

    :param foothold: what it has already; its configuration file is read again on SIGHUP.
    """

    def __init__(self, foothold: Foothold) -> None:
        config = foothold.config
        self._path = foothold.path
        self._wake = foothold.wake
        self._etcd = foothold.etcd
        self._keeper = foothold.keeper
        self._guard_process = foothold.guard_process
        self._systemd = SignsOfLife(Notifier(), boottime, config.timing)
        self._peers = HttpPeers(config.ctl)
        cage = Cage.below_own()
        self._guard_process.cage = cage.path
        postgres = Postgres(config, self._wake.set, cage)
        self._guard = InProcessGuard(boottime, postgres.kill)
        self._health = Health(config, postgres.local_conninfo(), boottime)
        effects = Effects(
            store=Store(self._etcd, config.namespace, config.scope, config.name),
            keeper=self._keeper,
            postgres=postgres,
            peers=self._peers,
            guard=Guards(self._guard_process, self._guard, self._systemd),
            health=self._health,
            systemd=self._systemd,
            clock=boottime,
        )
        self._loop = Loop(config, effects, self._wake)
        self._loop.reread = self._reload
        self._archiving = Archiving(postgres.local_conninfo())
        self._loop.archiver = lambda: self._archiving.found
        self._loop.on_config.append(self._use)
        self._api = Api(self._loop)

    async def run(self) -> None:
        """Run until told to end.

        :raises ForeignDataError: the data directory belongs to another cluster.
        :raises ListenError: the REST API's address cannot be used.
        """
        self._api.start()
        self._systemd.ready("serving")
        self._obey_signals()
        for sentence in (*self._loop.config.unheeded, *told_by_environment(os.environ)):
            log.warning("%s", sentence)
        try:
            await until_one_ends(
                self._loop.run(),
                self._keeper.run(),
                self._guard.run(),
                self._guard_process.run(),
                self._health.run(),
                self._archiving.run(),
                self._systemd.run(),
            )
        finally:
            self._api.stop()
            await self._peers.close()
            await self._etcd.close()
        if self._loop.failure is not None:
            raise self._loop.failure

    def _obey_signals(self) -> None:
        events = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        def end() -> None:
            task = asyncio.create_task(self._end())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        events.add_signal_handler(signal.SIGTERM, end)
        events.add_signal_handler(signal.SIGINT, end)
        events.add_signal_handler(signal.SIGHUP, self._reload)

    async def _end(self) -> None:
        """Leave PostgreSQL running for our successor, or stop it and hand the lead over."""
        # In maintenance mode PostgreSQL is left alone (R18), unless the host goes down with it.
        is_paused = self._loop.view.settings.pause and not await is_shutdown()
        if is_paused or (await is_restart(UNIT) and await self._successor_can_start()):
            log.info("ending: PostgreSQL and the lease stay for the next agent")
            await self._loop.operations.cancel()
            self._keeper.save()
            self._loop.finished.set()
        else:
            log.info("stopping, PostgreSQL too")
            self._systemd.stopping("stopping PostgreSQL")
            await self._loop.operations.cancel()
            self._loop.stopping = True
        self._wake.set()

    async def _successor_can_start(self) -> bool:
        """A broken configuration would leave a primary without an agent."""
        problems = await successor_problems(sys.argv[0], self._path)
        for problem in problems:
            log.critical("the next agent cannot start, PostgreSQL is stopped too: %s", problem)
        return not problems

    def _reload(self) -> Sequence[str]:
        """Use the configuration file as it is now; return what is wrong with it."""
        try:
            config = load(self._path)
        except ConfigError as error:
            for problem in error.problems:
                log.error("the new configuration is not used: %s", problem)
            return error.problems
        logging.getLogger().setLevel(config.log_level)
        log.info("configuration read again")
        self._loop.reconfigure(config)
        return ()

    def _use(self, config: Config) -> None:
        """Tell those parts of a configuration in force that the loop does not know."""
        self._guard_process.reconfigure(config)
        self._systemd.retime(config.timing)
        self._health.reconfigure(config)
        self._peers.reconfigure(config.ctl)
        self._api.reconfigure(config.access)
