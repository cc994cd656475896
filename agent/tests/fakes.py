# SPDX-License-Identifier: GPL-3.0-or-later
"""Effects for tests, where the real ones would be slow or cannot be told what to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.tests.builders import NOW, config
from pgherd.errors import LeaseLostError, StoreUnavailableError
from pgherd.etcd import Compare, Delete, Etcd, KeyValue, MemberStatus, Put
from pgherd.guard import GuardState
from pgherd.lease import LeaseKeeper
from pgherd.long_transactions import LONG
from pgherd.loop import Effects, Loop
from pgherd.pacing import Pacing
from pgherd.postgres import Postgres
from pgherd.postmaster import Cage, Postmaster
from pgherd.server_settings import SETTINGS
from pgherd.slot_statements import SlotStatements
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from pgherd.config import BootstrapMethod, Config
    from pgherd.history import Branch
    from pgherd.model import Instance, Member
    from pgherd.view import Peer


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class MemoryEtcd(Etcd):
    """etcd's semantics in memory; the tests of the store run over it and over the real one.

    :param clock: moves on by `delay` with every request, as if the network took that long.
    """

    def __init__(self, clock: Clock | None = None, delay: float = 0.0) -> None:
        super().__init__(["http://192.0.2.1:2379"], timeout=1, hedge_delay=0.2)
        self.clock = clock or Clock()
        self.delay = delay
        self.is_down = False
        self.loses_answers = False
        self.keys: dict[str, KeyValue] = {}
        self.leases: dict[int, int] = {}
        self.revision = 1
        self.writes: list[str] = []
        self._events: list[tuple[int, str]] = []
        self._changed = asyncio.Condition()

    def _request(self) -> None:
        self.clock.now += self.delay
        if self.is_down:
            raise StoreUnavailableError("no etcd endpoint answered")

    async def range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        self._request()
        return self.revision, [
            kv for key, kv in sorted(self.keys.items()) if key.startswith(prefix)
        ]

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> bool:
        self._request()
        if not all(self._holds(compare) for compare in compares):
            return False
        unknown = [
            op for op in operations if isinstance(op, Put) and op.lease not in {0, *self.leases}
        ]
        if unknown:
            raise LeaseLostError("etcdserver: requested lease not found")
        self.revision += 1
        for operation in operations:
            self._apply(operation)
        await self._announce()
        if self.loses_answers:
            raise StoreUnavailableError("the answer was lost")
        return True

    def _holds(self, compare: Compare) -> bool:
        found = self.keys.get(compare.key)
        return bool(getattr(found, compare.target, 0) == compare.value)

    def _apply(self, operation: Put | Delete) -> None:
        self.writes.append(operation.key)
        self._events.append((self.revision, operation.key))
        if isinstance(operation, Delete):
            self.keys.pop(operation.key, None)
            return
        before = self.keys.get(operation.key)
        created = before.create_revision if before else self.revision
        self.keys[operation.key] = KeyValue(
            operation.key, operation.value, created, self.revision, operation.lease
        )

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def lease_grant(self, ttl: int) -> int:
        self._request()
        number = max(self.leases, default=100) + 1
        self.leases[number] = ttl
        return number

    async def lease_keepalive(self, lease: int) -> None:
        self._request()
        if lease not in self.leases:
            raise LeaseLostError(f"etcd does not know lease {lease:x}")

    async def lease_revoke(self, lease: int) -> None:
        self._request()
        self.leases.pop(lease, None)
        self.revision += 1
        for key in [key for key, kv in self.keys.items() if kv.lease == lease]:
            self._apply(Delete(key))
        await self._announce()

    async def member_status(self, endpoint: str) -> MemberStatus:
        self._request()
        return MemberStatus(member_id=1, leader_id=1, version="3.5.0")

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[set[str]]:
        while True:
            self._request()
            due = [(at, key) for at, key in self._events if at >= revision]
            if due:
                revision = due[-1][0] + 1
                yield {key for _, key in due if key.startswith(prefix)}
            else:
                async with self._changed:
                    await self._changed.wait()


class ScriptedSlots(SlotStatements):
    """Writes down what is asked of an instance's slots."""

    def __init__(self, postgres: ScriptedPostgres) -> None:
        super().__init__(postgres)
        self._note = postgres._note

    async def create_physical(self, name: str) -> None:
        self._note("create_slot", name)

    async def create_logical(self, name: str, database: str, plugin: str, within: float) -> None:
        self._note("create_slot", name, database, plugin)

    async def drop(self, name: str) -> None:
        self._note("drop_slot", name)

    async def advance(self, name: str, position: int) -> None:
        self._note("advance_slot", name, str(position))


class ScriptedPostgres(Postgres):
    """An instance that looks as it is told to and writes down what is asked of it."""

    def __init__(self, configuration: Config, instance: Instance) -> None:
        super().__init__(configuration, lambda: None, Cage(None))
        self.instance = instance
        self.calls: list[tuple[str, ...]] = []
        self.history: tuple[Branch, ...] = ()
        self.begun: set[int] = set()
        self.fails: dict[str, Exception] = {}
        self.settings: list[dict[str, Any]] = []
        self.transactions: list[list[dict[str, Any]]] = []
        self.is_informed = True
        self.slots = ScriptedSlots(self)
        self.pacing = Pacing(self.files, self.slots)

    def _note(self, *call: str) -> None:
        self.calls.append(call)
        if call[0] in self.fails:
            raise self.fails[call[0]]

    async def observe(self) -> Instance:
        if self.names_asked is not None and self.instance.is_primary:
            # What is asked of it is in force at once.
            self.names_asked = self.instance.sync_names
        return self.instance

    def postmaster(self) -> Postmaster | None:
        return None

    @property
    def knows_pending_restart(self) -> bool:
        return self.is_informed

    async def configure(
        self, config: Config, dynamic: Mapping[str, Any], *, may_wait: bool = False
    ) -> bool:
        self._note("configure", *(f"{name}={value}" for name, value in dynamic.items()))
        return True

    async def set_sync_names(self, names: str) -> None:
        self._note("set_sync_names", names)
        self.instance = replace(self.instance, sync_names=names)

    async def rewrite(self) -> None:
        self._note("rewrite")

    async def reload(self) -> None:
        self._note("reload")

    async def stop_receiving(self, within: float) -> None:
        self._note("stop_receiving")
        self.instance = replace(self.instance, upstream=None, receiver_status=None)

    async def query(self, statement: Any, parameters: Any = None) -> list[dict[str, Any]]:
        if statement == SETTINGS:
            return self.settings
        if statement == LONG:
            return self.transactions.pop(0) if self.transactions else []
        self._note("query")
        return [{"id": self.instance.system_id}]

    def local_history(self, timeline: int) -> tuple[Branch, ...]:
        return self.history

    async def leader_history(self, leader: Member, within: float) -> tuple[int, tuple[Branch, ...]]:
        self._note("leader_history", leader.name)
        return leader.timeline or 1, self.history

    async def start_primary(self, names: str = "") -> None:
        self._note("start_primary", *([names] if names else []))

    async def start_standby(self, leader: Member | None) -> None:
        self._note("start_standby", leader.name if leader else "nobody")

    async def wait_until_answering(self, within: float) -> None:
        self._note("wait_until_answering")

    async def stop(self, within: float) -> None:
        self._note("stop")

    async def shut_down(self, within: float) -> int:
        self._note("shut_down")
        return self.instance.position

    async def ended(self, within: float) -> bool:
        return True

    async def stop_now(self) -> None:
        self._note("stop_now")

    def kill(self) -> None:
        self._note("kill")

    async def follow(self, leader: Member) -> None:
        self._note("follow", leader.name)

    async def reserve_timeline(self, ours: int, wanted: int) -> bool:
        if wanted > ours + 1:
            self._note("reserve_timeline", str(wanted))
        return wanted not in self.begun

    async def promote(
        self, names: str, within: float, is_allowed: Callable[[], bool] = lambda: True
    ) -> None:
        self._note("promote", *([names] if names else []))

    async def checkpoint(self, within: float = 3600) -> None:
        self._note("checkpoint")

    async def initdb(self, options: Mapping[str, Any]) -> None:
        self._note("initdb")

    async def create_accounts(self) -> None:
        self._note("create_accounts")

    async def clone(self, source: Member | None) -> None:
        self._note("clone", source.name if source else "a backup")

    async def bootstrap(self, method: BootstrapMethod) -> None:
        self._note("bootstrap", method.name)

    def set_aside(self, suffix: str) -> Path | None:
        self._note("set_aside", suffix)
        return super().set_aside(suffix)


class ScriptedPeers:
    """Peers that answer as they are told to."""

    def __init__(self) -> None:
        self.promises: set[str] = set()
        self.position = 0
        self.told: list[tuple[set[str], Mapping[str, Any]]] = []
        self.refusals: dict[str, str] = {}
        self.answers: dict[str, Peer] = {}
        self.asked: list[set[str]] = []

    async def ask(self, members: Mapping[str, Member], within: float) -> dict[str, Peer]:
        self.asked.append(set(members))
        return self.answers

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        return dict.fromkeys(self.promises & set(members), self.position)

    async def tell_poolers(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, str]:
        self.told.append((set(members), body))
        return {name: self.refusals.get(name, "") for name in members}


class SteadyHealth:
    """An instance and a disk that are as they are said to be."""

    def __init__(self) -> None:
        self.problem = ""
        self.silence = 0.0
        self.told_to_stop = False

    async def is_told_to_stop(self) -> bool:
        return self.told_to_stop

    def disk(self) -> str:
        return self.problem

    def silent_seconds(self) -> float:
        return self.silence


class RecordingGuard:
    """Remembers the deadline it was armed with last, None when it was disarmed."""

    def __init__(self) -> None:
        self.deadline: float | None = None

    def arm(self, deadline: float) -> None:
        self.deadline = deadline

    def disarm(self) -> None:
        self.deadline = None

    @property
    def state(self) -> GuardState:
        return GuardState(connected=True)


class SilentSystemd:
    """A service manager nobody listens to; remembers that it saw a sign of life."""

    def __init__(self) -> None:
        self.saw_life = asyncio.Event()

    def ready(self, status: str) -> None:
        pass

    def alive(self, status: str) -> None:
        self.saw_life.set()


class Rig:
    """A real loop, store and lease keeper over fakes of the world around them."""

    def __init__(self, directory: Path, instance: Instance, **sections: Any) -> None:
        self.config = config(directory, **sections)
        self.clock = Clock()
        self.etcd = MemoryEtcd(self.clock)
        self.store = Store(self.etcd, self.config.namespace, self.config.scope, self.config.name)
        self.postgres = ScriptedPostgres(self.config, instance)
        self.peers = ScriptedPeers()
        self.guard = RecordingGuard()
        self.systemd = SilentSystemd()
        self.wake = asyncio.Event()
        self.keeper = LeaseKeeper(
            self.etcd,
            self.config.timing,
            self.clock,
            directory / "lease",
            self.wake.set,
            prefix=f"/{self.config.namespace}/{self.config.scope}/",
        )
        self.health = SteadyHealth()
        effects = Effects(
            store=self.store,
            keeper=self.keeper,
            postgres=self.postgres,
            peers=self.peers,
            guard=self.guard,
            health=self.health,
            systemd=self.systemd,
            clock=self.clock,
        )
        self.loop = Loop(self.config, effects, self.wake)

    async def settle(self) -> None:
        """Wait until the long operation under way, if there is one, has ended."""
        while self.loop.operations.current is not None:
            self.wake.clear()
            await self.wake.wait()
