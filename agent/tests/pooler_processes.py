# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer on loopback, for tests that must not trust an imitation."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final

import psycopg

from agent.tests.etcd_processes import free_ports
from agent.tests.postgres_processes import INSTALLED
from pgherd.pooler import Console
from pgherd.pooler_config import PoolerSocket
from pgherd.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

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

    async def client(self) -> psycopg.AsyncConnection[Any]:
        """Return a client's connection."""
        return await psycopg.AsyncConnection.connect(
            host="127.0.0.1",
            port=self.socket.port,
            dbname="postgres",
            user="postgres",
            autocommit=True,
            connect_timeout=20,
            # Each transaction may have another server's connection.
            prepare_threshold=None,
        )

    def log(self) -> str:
        """Return what it has logged."""
        return (self._directory / "log").read_text()


class Server:
    """One PostgreSQL behind two addresses, so that it can stand for two members.

    :ivar addresses: nobody listens on the last one.
    :ivar directory: where its log and its socket are.
    """

    addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

    def __init__(self, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self._data = directory / "data"
        self.directory = directory

    def start(self) -> None:
        """Make it and start it."""
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")
        settings = {
            "port": self.port,
            "listen_addresses": ",".join(self.addresses[:2]),
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "max_connections": 50,
        }
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self._data / "postgresql.auto.conf").write_text("".join(lines))
        log = str(self.directory / "postgresql.log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-w", "start")

    def stop(self) -> None:
        """End it at once."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        path = INSTALLED[-1].with_name(program)
        subprocess.run([path, *arguments], check=True, stdout=subprocess.DEVNULL)
