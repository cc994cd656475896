# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL instances on loopback, for tests that must not trust an imitation."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import os
import pwd
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.tests.builders import raw_config
from agent.tests.etcd_processes import free_ports
from pgherd.config import build
from pgherd.model import Member
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgherd.model import Instance

WITHIN: Final = 60.0
PR_SET_CHILD_SUBREAPER: Final = 36
INSTALLED: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
MISSING: Final = (
    "these tests run a real PostgreSQL, and there is none below /usr/lib/postgresql: "
    "install it (Debian: apt-get install postgresql)"
)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be user postgres for a while: PostgreSQL's programs refuse to run as root.

    Real and effective ids change, the saved ones stay, so that there is a way back.
    """
    if os.geteuid() != 0:
        yield
        return
    # What is imported later might not be readable then.
    importlib.import_module("concurrent.futures.thread")
    account, groups = pwd.getpwnam("postgres"), os.getgroups()
    os.setgroups([account.pw_gid])
    os.setresgid(account.pw_gid, account.pw_gid, 0)
    os.setresuid(account.pw_uid, account.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Have orphans become our children, whatever process 1 of this machine does with its own."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Node:
    """One instance, the way an agent sees it."""

    def __init__(self, name: str, directory: Path, port: int, **parameters: Any) -> None:
        directory.mkdir()
        raw = raw_config(directory, name=name)
        raw["bootstrap"]["initdb"] = {"encoding": "UTF8", "locale": "C", "no-sync": True}
        raw["postgresql"] |= {
            "listen": f"127.0.0.1:{port}",
            "connect_address": f"127.0.0.1:{port}",
            "bin_dir": str(INSTALLED[-1].parent),
            "parameters": {"fsync": False, "shared_buffers": "16MB", **parameters},
            "pg_hba": [
                "local all all trust",
                "host all,replication all 127.0.0.1/32 scram-sha-256",
            ],
        }
        self.raw = raw
        self.config = build(raw)
        self.died = asyncio.Event()
        self.woken = asyncio.Event()
        self.postgres = Postgres(self.config, self._reap, Cage(None))
        url = f"postgres://127.0.0.1:{port}/postgres"
        self.member = Member(name, {"conn_url": url, "state": "running", "role": "primary"})

    def _reap(self) -> None:
        """Take note of the postmaster's death as its parent, as systemd does on a host.

        Until somebody has, PostgreSQL's programs take the dead process for a running one. The end
        of a standby's connection wakes the agent too.
        """
        self.woken.set()
        known = self.postgres._postmaster
        assert known is not None
        if not known.is_alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(known.pid, 0)
            self.died.set()

    async def create(self) -> None:
        """Make the first primary of a cluster."""
        await self.postgres.initdb(self.config.initdb)
        await self.postgres.configure(self.config, {})
        await self.postgres.start_primary()
        await self.postgres.wait_until_answering(WITHIN)
        await self.postgres.create_accounts()

    async def copy(self, source: Node) -> None:
        """Become a standby of *source*."""
        await source.postgres.slots.ensure([self.config.name], {})
        await self.postgres.clone(source.member)
        await self.postgres.configure(self.config, {})
        await self.postgres.start_standby(source.member)
        await self.streams()

    async def streams(self) -> Instance:
        """Wait until it streams; return what it looks like then."""
        return await self._becomes(lambda instance: instance.is_streaming)

    async def loses_its_upstream(self) -> Instance:
        """Wait until its receiver has ended; return what it looks like then."""
        return await self._becomes(lambda instance: instance.receiver_status is None)

    async def catches_up(self, position: int) -> Instance:
        """Wait until it has replayed up to *position*."""
        return await self._becomes(lambda instance: (instance.replayed or 0) >= position)

    async def _becomes(self, condition: Any) -> Instance:
        last: list[Instance] = []

        async def holds() -> bool:
            last[:] = [await self.postgres.observe()]
            return bool(condition(last[0]))

        try:
            await until(holds, every=0.05, within=WITHIN)
        except TimeoutError:
            log = self.config.postgres.log_file.read_text()
            raise AssertionError(f"{self.config.name} stays {last}\n{log[-3000:]}") from None
        return last[0]

    async def write(self, text: str) -> int:
        """Write a row; return the position after it."""
        await self.postgres.query("CREATE TABLE IF NOT EXISTS public.words (word text)")
        await self.postgres.query("INSERT INTO public.words VALUES (%s)", [text])
        return (await self.postgres.observe()).position

    async def words(self) -> list[str]:
        """Return the rows."""
        rows = await self.postgres.query("SELECT word FROM public.words ORDER BY word")
        return [row["word"] for row in rows]

    async def end(self) -> None:
        """Stop it, whatever it does."""
        await self.postgres.stop_now()


@contextlib.asynccontextmanager
async def nodes(count: int, **parameters: Any) -> AsyncIterator[list[Node]]:
    """Make *count* instances that have no data yet; stop and remove them at the end."""
    assert INSTALLED, MISSING
    before = Path.cwd()
    with unprivileged(), adopting_orphans():
        directory = Path(tempfile.mkdtemp(prefix="pgherd-"))
        os.chdir(directory)
        made: list[Node] = []
        try:
            for index, port in enumerate(free_ports(count), start=1):
                made.append(Node(f"pg{index}", directory / f"{index}", port, **parameters))
            yield made
        finally:
            for node in made:
                await node.end()
            os.chdir(before)
            for thread in threading.enumerate():
                if thread.name == "trash":
                    thread.join()
            shutil.rmtree(directory)
