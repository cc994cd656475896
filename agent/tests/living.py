# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole agent over a real PostgreSQL and a real etcd, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import yaml

from agent.tests.etcd_processes import free_ports
from agent.tests.postgres_processes import nodes
from pgherd.access_config import Login
from pgherd.agent import Agent
from pgherd.config import load
from pgherd.start import Foothold
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.tests.etcd_processes import EtcdMember

ACCOUNT: Final = {"username": "pgherd", "password": "op3n"}
AUTHORIZATION: Final = Login(**ACCOUNT).authorization
WITHIN: Final = 60.0


class Living:
    """One agent that leads a cluster of one member.

    :ivar url: of its REST API, without a path.
    """

    def __init__(self, agent: Agent, port: int) -> None:
        self.agent = agent
        self.loop = agent._loop
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def status(self, path: str) -> int:
        """Return the status of a GET; from a thread, for the agent runs in this one."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=WITHIN) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    async def leads(self) -> bool:
        """Whether it says that it is the leader, and has nothing else to do."""
        says_so = await asyncio.to_thread(self.status, "/primary") == 200
        return says_so and self.loop._is_steady()


@contextlib.asynccontextmanager
async def living(members: list[EtcdMember], **sections: Any) -> AsyncIterator[Living]:
    """Have an agent make a cluster and lead it; *sections* are added to its configuration."""
    [port] = free_ports(1)
    for name in ("encodings.idna", "pgherd.metrics"):
        # What is imported later might not be readable for the user that PostgreSQL runs as.
        importlib.import_module(name)
    async with nodes(1) as [node]:
        address = f"127.0.0.1:{port}"
        rest = {"listen": address, "connect_address": address, "authentication": ACCOUNT}
        hosts = [member.endpoint.removeprefix("http://") for member in members]
        raw = {**node.raw, "restapi": rest, "etcd3": {"hosts": hosts}, **sections}
        path = node.config.runtime_dir / "pgherd.yml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        foothold = Foothold(path, load(path))
        await foothold.take()
        agent = Agent(foothold)
        running = asyncio.create_task(agent.run())
        known = Living(agent, port)
        try:
            await _until_it_leads(known, running)
            yield known
        finally:
            # As when the agent is restarted: it ends between two rounds.
            known.loop.finished.set()
            known.loop.wake.set()
            await asyncio.gather(running, return_exceptions=True)
            await known.loop.effects.postgres.stop_now()


async def _until_it_leads(known: Living, running: asyncio.Task[None]) -> None:
    async def leads() -> bool:
        if running.done():
            running.result()
        try:
            return await known.leads()
        except urllib.error.URLError:
            return False

    await until(leads, every=0.1, within=WITHIN)
