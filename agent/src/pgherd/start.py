# SPDX-License-Identifier: GPL-3.0-or-later
"""The first moments of an agent: its predecessor's lease is its own before the rest is loaded.

An agent that was killed or frozen costs no outage when its successor renews the lease, and puts the
guard's deadline off, in time. early.py did so once; this goes on with it, and leaves notes for the
early.py of the next agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Final

from pgherd import early
from pgherd.access_config import certificate_problems
from pgherd.clock import boot_id, boottime
from pgherd.config import Config, load
from pgherd.errors import ConfigError, ForeignDataError, ListenError
from pgherd.etcd import Etcd
from pgherd.guard_client import RemoteGuard
from pgherd.guard_orders import orders_path
from pgherd.lease import LeaseKeeper

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

# sysexits.h EX_CONFIG: a human must act, so systemd does not start us again.
EX_CONFIG: Final = 78


class Foothold:
    """What an agent holds from its first moment on: etcd, its lease, the guard process.

    :param path: the configuration file.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.config = config
        self.wake = asyncio.Event()
        self.etcd = Etcd(
            config.etcd_endpoints,
            timeout=config.timing.etcd_timeout,
            hedge_delay=config.timing.hedge_delay,
            tls=config.etcd_tls.client_context(),
            login=config.etcd_login,
        )
        self.lease_file = config.runtime_dir / f"{config.scope}.lease"
        self.keeper = LeaseKeeper(
            self.etcd,
            config.timing,
            boottime,
            self.lease_file,
            self.wake.set,
            prefix=f"/{config.namespace}/{config.scope}/",
        )
        self.guard_process = RemoteGuard(config, boottime)

    def leave_notes(self) -> None:
        """Write down what the next agent has to know to renew our lease before all else."""
        config = self.config
        notes = early.Notes(
            boot_id=boot_id(),
            config=str(self.path),
            lease=str(self.lease_file),
            orders=str(orders_path(config.runtime_dir, config.scope)),
            endpoints=list(config.etcd_endpoints),
            cacert=config.etcd_tls.ca,
            cert=config.etcd_tls.certificate,
            key=config.etcd_tls.key,
            margin=config.timing.margin,
            within=config.timing.hedge_delay,
        )
        try:
            notes.write(config.runtime_dir)
        except OSError as error:
            log.error("notes for the next agent could not be left: %s", error)

    async def take(self) -> None:
        """Renew the lease, or get one; keep a primary guarded that our predecessor had guarded.

        The loop has not looked yet, but what may have been a primary a moment ago is taken for one
        until it has.
        """
        self.keeper.adopt()
        was_armed = self.guard_process.adopt()
        if await self.keeper.renew() and was_armed and self.keeper.lease is not None:
            deadline = self.keeper.lease.valid_until + self.config.timing.margin / 2
            self.guard_process.arm(deadline)
        self.leave_notes()


async def _run(path: Path, config: Config) -> None:
    foothold = Foothold(path, config)
    await foothold.take()
    from pgherd.agent import Agent

    await Agent(foothold).run()


def main(path: Path) -> int:
    """Run the agent with the configuration file *path*; return the exit code."""
    try:
        config = load(path)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"pgherd: {problem}\n")
        return EX_CONFIG
    problems = certificate_problems(config.access, config.ctl)
    if problems:
        # They may be there in a moment, so systemd tries again.
        sys.stderr.write("".join(f"pgherd: {problem}\n" for problem in problems))
        return 1
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(message)s")
    # One line a request of every library would drown what the agent has to say.
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_run(path, config))
    except ForeignDataError as error:
        log.critical("%s", error)
        return EX_CONFIG
    except ListenError as error:
        log.critical("%s", error)
        return 1
    return 0
