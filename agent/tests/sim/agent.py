# SPDX-License-Identifier: GPL-3.0-or-later
"""One agent process: the agent's real parts, put together as `pgherd.agent` does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.tests.sim.aio import AgentLoop
from agent.tests.sim.etcd_client import SimEtcd
from agent.tests.sim.postgres import SimPostgres
from pgherd.agent import until_one_ends
from pgherd.guard import Guards, InProcessGuard
from pgherd.lease import LeaseKeeper
from pgherd.loop import Effects, Loop
from pgherd.pages import node_body
from pgherd.peers import parse_peer
from pgherd.rolls import post_rolling_restart
from pgherd.store import Store
from pgherd.wanted import Wanted
from pgherd.wishes import Restart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.tests.sim.host import Host
    from pgherd.model import Member
    from pgherd.view import Peer


class SimSystemd:
    """A service manager nobody listens to."""

    def ready(self, status: str) -> None:
        """Nobody waits for it."""

    def alive(self, status: str) -> None:
        """Nobody waits for it."""


class SimHealth:
    """Knows at once what the probes would find."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._since = host.clock()

    def disk(self) -> str:
        return self._host.server.disk

    async def is_told_to_stop(self) -> bool:
        return False  # Nobody stops PostgreSQL by hand there.

    def silent_seconds(self) -> float:
        return min(self._host.server.silent_for(), self._host.clock() - self._since)


class SimPeers:
    """Asks the other agents over the simulated network."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def ask(self, members: Mapping[str, Member], within: float) -> dict[str, Peer]:
        answers = await asyncio.gather(*(self._ask(member, within) for member in members.values()))
        return {peer.name: peer for peer in answers if peer is not None}

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        leader = body["name"]
        statuses = await asyncio.gather(
            *(self._exchange(member, within, leader) for member in members.values())
        )
        return {name: 0 for name, status in zip(members, statuses, strict=True) if status == 200}

    async def tell_poolers(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, str]:
        raise AssertionError("there are no poolers here")

    async def _ask(self, member: Member, within: float) -> Peer | None:
        body = await self._exchange(member, within, None)
        return parse_peer(member.name, body) if body is not None else None

    async def _exchange(self, member: Member, within: float, leader: str | None) -> Any:
        """Send a request for a promise to *leader*, or for the state; None without an answer."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(body: Any) -> None:
            if not answered.done():
                answered.set_result(body)

        here, there = self._host, self._host.hosts[member.name]
        here.net.send(here.name, there.name, "api", _arrive, here, there, leader, reply)
        try:
            async with asyncio.timeout(within):
                return await answered
        except TimeoutError:
            return None


def _arrive(client: Host, host: Host, leader: str | None, reply: Callable[[Any], None]) -> None:
    """Bring a request to the agent on *host*, if one runs there."""

    def answer(body: Any) -> None:
        host.net.send(host.name, client.name, "api", reply, body)

    if not host.is_up:
        return
    if host.agent is None:
        answer(None)
    else:
        host.agent.serve(leader, answer)


class SimWanted(Wanted):
    """Tells when the agent wants a restart by itself: a rolling one has come to it."""

    def __init__(self, host: Host) -> None:
        super().__init__(Path("/nonexistent"))
        self._server = host.server

    def ask_restart(self, restart: Restart) -> asyncio.Future[str]:
        self._server.checks.takes_turn(self._server)
        return super().ask_restart(restart)


class AgentProcess:
    """The agent on one host, from its start to its end."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.loop = AgentLoop(host.world, host.name, host.clock, host.when, str(host.boots))
        config = host.config
        wake = asyncio.Event()
        self.wake = wake
        self.etcd = SimEtcd(host.etcd, host.name, config)
        self.keeper = LeaseKeeper(
            self.etcd,
            config.timing,
            host.clock,
            host.lease_file,  # type: ignore[arg-type]
            wake.set,
        )
        postgres = SimPostgres(host.server, config, self._wake)
        self.guard = InProcessGuard(host.clock, self._kill)
        self._postgres = postgres
        effects = Effects(
            store=Store(self.etcd, config.namespace, config.scope, config.name),
            keeper=self.keeper,
            postgres=postgres,
            peers=SimPeers(host),
            guard=Guards(host.guard, self.guard),
            health=SimHealth(host),
            systemd=SimSystemd(),
            clock=host.clock,
        )
        self.logic = Loop(config, effects, wake)
        self.logic.wanted = SimWanted(host)
        self._handling: set[asyncio.Task[None]] = set()
        self._rule = ""
        if host.world.is_traced:
            self.logic._note = self._trace  # type: ignore[method-assign]
        self.loop.call_soon(self._begin)

    def _kill(self) -> None:
        if not self.host.guard.is_blind:
            self._postgres.kill()

    def _wake(self) -> None:
        self.loop.call_soon(self.wake.set)

    def _begin(self) -> None:
        self._main = self.loop.create_task(self._run())
        self._main.add_done_callback(self._ended)

    async def _run(self) -> None:
        self.keeper.adopt()
        await self.keeper.renew()
        await until_one_ends(self.logic.run(), self.keeper.run(), self.guard.run())

    def _ended(self, task: asyncio.Task[None]) -> None:
        world = self.host.world
        if not task.cancelled() and task.exception() is not None:
            world.violate("agent_lives", f"{self.host.name}: the agent ended: {task.exception()!r}")
        elif self.logic.failure is not None:
            world.violate("agent_lives", f"{self.host.name}: {self.logic.failure}")
        world.after(0, self.host.agent_ended, self)

    def _trace(self, decision: Any, view: Any) -> None:
        Loop._note(self.logic, decision, view)
        actions = ", ".join(type(action).__name__ for action in decision.actions)
        line = f"rule {decision.rule.name} [{actions}]"
        if line != self._rule:
            leader = view.leader.name if view.leader else "nobody"
            instance = view.instance
            state = f"{instance.process.value}, timeline {instance.timeline}"
            self.host.note(f"{line}; leader {leader}, {state}, operation {view.operation}")
        self._rule = line

    def serve(self, leader: str | None, answer: Callable[[Any], None]) -> None:
        """Answer `GET /patroni`, or `POST /failsafe` of *leader*, in the agent's own time."""

        def begin() -> None:
            task = self.loop.create_task(self._serve(leader, answer))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

        self.loop.call_soon(begin)

    async def _serve(self, leader: str | None, answer: Callable[[Any], None]) -> None:
        logic = self.logic
        if leader is not None:
            status, _ = logic.failsafe.promise(logic.view, leader)
            answer(status)
            return
        answer(node_body(logic, await logic.effects.postgres.observe()))

    def stop(self) -> None:
        """End in order, PostgreSQL too (SIGTERM)."""
        self._in_order(is_restart=False)

    def leave(self) -> None:
        """End in order and leave PostgreSQL and the lease to the next agent."""
        self._in_order(is_restart=True)

    def _in_order(self, *, is_restart: bool) -> None:
        async def end() -> None:
            await self.logic.operations.cancel()
            if is_restart:
                self.keeper.save()
                self.logic.finished.set()
            else:
                self.logic.stopping = True
            self.wake.set()

        self.loop.call_soon(lambda: self._handling.add(self.loop.create_task(end())))

    def ask_restart(self) -> None:
        """Have an operator ask for a restart of PostgreSQL (`POST /restart`)."""

        def ask() -> None:
            if self.logic.wanted.restart is None:
                Wanted.ask_restart(self.logic.wanted, Restart(self.host.clock()))
                self.wake.set()

        self.loop.call_soon(ask)

    def roll(self) -> None:
        """Have an operator ask for a rolling restart (`POST /rolling_restart`)."""

        async def ask() -> None:
            answer = await post_rolling_restart(self.logic, {})
            self.host.note(f"a rolling restart is asked for: {answer.status}")

        self.loop.call_soon(lambda: self._handling.add(self.loop.create_task(ask())))

    def kill(self) -> None:
        """End the process where it is."""
        self.loop.kill()
