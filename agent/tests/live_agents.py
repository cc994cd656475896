# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents in one process: each a real loop over a real PostgreSQL; etcd and the rest are fakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from agent.tests.fakes import MemoryEtcd, RecordingGuard, SilentSystemd, SteadyHealth
from pgherd.clock import boottime
from pgherd.etcd import Put
from pgherd.lease import LeaseKeeper
from pgherd.loop import Effects, Loop
from pgherd.peers import parse_peer
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage
from pgherd.published import patroni_body
from pgherd.settings import Tags
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agent.tests.postgres_processes import Node
    from pgherd.model import Member
    from pgherd.view import Peer, View

WITHIN: Final = 90.0
BASE: Final = "/service/demo/"


class Agents:
    """The agents of one cluster, with an etcd of their own.

    :param dynamic: what the first of them makes the cluster's configuration.
    """

    def __init__(self, **dynamic: Any) -> None:
        self.etcd = MemoryEtcd()
        self.dynamic = {"synchronous_mode": False, **dynamic}
        self.known: dict[str, LiveAgent] = {}

    async def start(self, node: Node, **tags: Any) -> LiveAgent:
        """Start an agent for *node*."""
        agent = LiveAgent(self, node, Tags.parse(tags))
        self.known[node.config.name] = agent
        agent.task = asyncio.create_task(agent.run())
        return agent

    @property
    def term(self) -> int:
        """Which leader key there is."""
        return self.etcd.keys[f"{BASE}leader"].create_revision

    async def configure(self, **changes: Any) -> None:
        """Change the cluster's configuration; None takes a key out."""
        known = {**json.loads(self.etcd.keys[f"{BASE}config"].value), **changes}
        value = json.dumps({key: value for key, value in known.items() if value is not None})
        await self.etcd.txn([], [Put(f"{BASE}config", value)])

    async def ask_for_leader(self, leader: str, candidate: str) -> None:
        """Ask for a switchover, as Patroni's tools do."""
        request = json.dumps({"leader": leader, "member": candidate})
        await self.etcd.txn([], [Put(f"{BASE}failover", request)])

    async def end(self) -> None:
        for agent in self.known.values():
            await agent.end()

    async def ask(self, members: Mapping[str, Member], within: float) -> dict[str, Peer]:
        alive = {name: agent for name, agent in self.known.items() if not agent.task.done()}
        return {name: parse_peer(name, alive[name].body) for name in members if name in alive}

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        return {}

    async def tell_poolers(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, str]:
        return dict.fromkeys(members, "")


class LiveAgent:
    """One agent and its PostgreSQL."""

    task: asyncio.Task[None]

    def __init__(self, agents: Agents, node: Node, tags: Tags) -> None:
        self.agents = agents
        self.node = node
        self.wake = asyncio.Event()
        config = replace(node.config, tags=tags, bootstrap_config=agents.dynamic)
        node.postgres = Postgres(config, self._on_death, Cage(None))
        self.keeper = LeaseKeeper(
            agents.etcd, config.timing, boottime, config.runtime_dir / "lease", self.wake.set
        )
        effects = Effects(
            store=Store(agents.etcd, config.namespace, config.scope, config.name),
            keeper=self.keeper,
            postgres=node.postgres,
            peers=agents,
            guard=RecordingGuard(),
            health=SteadyHealth(),
            systemd=SilentSystemd(),
            clock=boottime,
        )
        self.loop = Loop(config, effects, self.wake)

    def _on_death(self) -> None:
        self.node._reap()
        self.wake.set()

    @property
    def rule(self) -> str:
        return self.loop.decision.rule.name if self.loop.decision else ""

    @property
    def body(self) -> dict[str, Any]:
        """What `GET /patroni` says."""
        loop = self.loop
        return patroni_body(loop.config, loop.view, loop.view.instance, loop.decision, 0)

    async def run(self) -> None:
        renewing = asyncio.create_task(self.keeper.run())
        try:
            await self.loop.run()
        finally:
            renewing.cancel()

    async def comes_to(self, wanted: Callable[[View], bool], what: str) -> None:
        """Wait until *wanted* holds of its view; *what* it is, for the failure."""
        if not await self.loop.changed(wanted, WITHIN):
            log = self.node.config.postgres.log_file.read_text()[-3000:]
            raise AssertionError(f"{what}: {self.rule}, {self.loop.view.instance}\n{log}")

    async def leads(self) -> None:
        """Wait until it is a primary that leads."""
        await self.comes_to(lambda view: view.instance.is_primary and view.holds_key, "leads")

    async def follows(self, upstream: Node) -> None:
        """Wait until it streams from *upstream*."""
        address = upstream.member.address
        await self.comes_to(
            lambda view: view.instance.is_streaming and view.instance.upstream == address,
            f"follows {address}",
        )

    async def end(self) -> None:
        """End the agent after its round; PostgreSQL goes on, the lease is over at once."""
        self.loop.finished.set()
        self.wake.set()
        await self.task
        await self.loop.operations.cancel()
        if self.keeper.lease is not None:
            await self.agents.etcd.lease_revoke(self.keeper.lease.id)
            self.keeper.lease = None
        await self.node.postgres._connection.close()

    async def crash(self) -> None:
        """End it and its PostgreSQL, as the loss of a host would."""
        await self.end()
        await self.node.postgres.stop_now()


@contextlib.asynccontextmanager
async def ended(*clusters: Agents) -> AsyncIterator[None]:
    """End all agents of *clusters* at the end."""
    try:
        yield
    finally:
        for cluster in clusters:
            await cluster.end()
