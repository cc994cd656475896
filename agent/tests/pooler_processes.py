# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer on loopback, for tests that must not trust an imitation."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from typing import TYPE_CHECKING, Any, Final

import psycopg

from agent.tests.etcd_processes import free_ports
from pgherd.pooler import Console
from pgherd.pooler_config import PoolerSocket
from pgherd.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.postgres_processes import Node

PROGRAM: Final = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
MISSING: Final = (
    "these tests run a real PgBouncer, and there is no program `pgbouncer`: "
    "install it (Debian: apt-get install pgbouncer)"
)
WITHIN: Final = 20.0
SETTINGS: Final = """
%include {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {directory}
logfile = {directory}/log
auth_type = any
pool_mode = transaction
server_login_retry = 0.1
server_connect_timeout = 2
ignore_startup_parameters = extra_float_digits
{settings}
"""


class PoolerProcess:
    """One PgBouncer, in a directory of its own.

    :param settings: further lines of its configuration.
    """

    def __init__(self, directory: Path, settings: str = "") -> None:
        directory.mkdir()
        self.target_file = directory / "target.ini"
        self.target_file.write_text("[databases]\n")
        self.socket = PoolerSocket(directory, free_ports(1)[0], self.target_file)
        self._directory = directory
        self._file = directory / "pgbouncer.ini"
        self._file.write_text(
            SETTINGS.format(
                target=self.target_file,
                port=self.socket.port,
                directory=directory,
                settings=settings,
            )
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None, MISSING
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, "-q", str(self._file), stderr=asyncio.subprocess.DEVNULL
        )

        async def answers() -> bool:
            with contextlib.suppress(Exception):
                console = await Console.open(self.socket, lambda: None)
                console.close()
                return True
            return False

        await until(answers, every=0.02, within=WITHIN)

    async def kill(self) -> None:
        """Have it end at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def console(self) -> Console:
        """Return a connection to its console."""
        return await Console.open(self.socket, lambda: None)

    async def client(self, **options: Any) -> psycopg.AsyncConnection[Any]:
        """Return a client's connection."""
        return await psycopg.AsyncConnection.connect(
            host="127.0.0.1",
            port=self.socket.port,
            dbname="postgres",
            user="postgres",
            autocommit=True,
            connect_timeout=20,
            **options,
        )

    def log(self) -> str:
        """Return what it has logged."""
        return (self._directory / "log").read_text()


def login(node: Node) -> str:
    """Return the options with which every client of a pooler is *node*'s superuser."""
    account = node.config.postgres.superuser
    return f"user={account.username} password={account.password}"
