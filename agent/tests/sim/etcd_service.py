# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd as a service of several raft members: linearizable keys, leases, watches, and its troubles.

Raft itself is not simulated, only what a client can tell of it: there is a leader while a majority
of the members can talk to it; a new one restarts the clock of every lease; a member that does not
reach the leader answers nothing that matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgherd.errors import LeaseLostError, StoreError, StoreUnavailableError
from pgherd.etcd import Compare, Delete, KeyValue, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.tests.sim.net import Network
    from agent.tests.sim.world import World

# etcd looks for leases that have run out this often (server/lease/lessor.go), seconds.
EXPIRY_CHECK = 0.5
Reply = "Callable[[Any, StoreError | None], None]"


@dataclass
class Member:
    """One etcd member: its process can be away or hung; its data are safe."""

    host: str
    number: int
    is_up: bool = True
    is_hung: bool = False

    @property
    def works(self) -> bool:
        return self.is_up and not self.is_hung


@dataclass
class EtcdLease:
    """A lease, and when it runs out in the world's time."""

    ttl: int
    expires: float


@dataclass(eq=False)
class Watcher:
    """One watch of a client through one member; ended watches deliver nothing."""

    client: str
    member: Member
    prefix: str
    revision: int
    deliver: Callable[[set[str] | None], None]
    is_open: bool = True
    arrival: float = 0.0


@dataclass
class Keys:
    """The store: what a majority of the members has agreed on."""

    values: dict[str, KeyValue] = field(default_factory=dict)
    revision: int = 1
    events: list[tuple[int, str]] = field(default_factory=list)
    leases: dict[int, EtcdLease] = field(default_factory=dict)


class EtcdService:
    """The members and the keys they keep.

    :param election: seconds after which members that miss their leader elect another.
    :param on_write: called for every write done, with the writer's host and the keys before it.
    """

    def __init__(
        self,
        world: World,
        net: Network,
        hosts: Sequence[str],
        election: float,
        on_write: Callable[[str, Mapping[str, KeyValue], Sequence[Put | Delete]], None],
    ) -> None:
        self._world = world
        self._net = net
        self._election = election
        self._on_write = on_write
        self._next_lease = 100
        self._watchers: list[Watcher] = []
        self._electing = False
        self.members = {host: Member(host, 11 + at) for at, host in enumerate(hosts)}
        self.leader: Member | None = None
        self.keys = Keys()
        self.slowness = 0.0
        self.loss_of_answers = 0.0
        # How late, at most, what a client sends gets to a member, by the client's host, seconds.
        self.late_requests: dict[str, float] = {}
        net.on_change(self.review)
        self.review()

    # Raft

    def _hear_each_other(self, one: Member, other: Member) -> bool:
        both = one.works and other.works
        return both and self._net.connects(one.host, other.host, "raft")

    def _has_majority(self, member: Member) -> bool:
        heard = sum(self._hear_each_other(member, other) for other in self.members.values())
        return 2 * heard > len(self.members)

    def review(self) -> None:
        """See what the network or the members' health leave of the leader; elect if need be."""
        if self.leader is not None and not self._has_majority(self.leader):
            self._world.note("etcd", f"leader {self.leader.host} has lost the majority")
            self.leader = None
        if self.leader is None and not self._electing:
            self._electing = True
            self._world.after(self._election * (1 + self._world.noise.random()), self._elect)
        self._pump()

    def _elect(self) -> None:
        self._electing = False
        if self.leader is not None:
            return
        able = [member for member in self.members.values() if self._has_majority(member)]
        if able:
            self._lead(self._world.noise.choice(able))

    def _lead(self, member: Member) -> None:
        self.leader = member
        self._world.note("etcd", f"{member.host} leads; every lease starts anew")
        for number, lease in self.keys.leases.items():
            lease.expires = self._world.now + lease.ttl
            self._world.at(lease.expires, self._expire, number)
        self._pump()

    def change_leader(self) -> None:
        """Have another member lead, as after a raft leader's hiccup."""
        if self.leader is not None:
            self.leader = None
            self.review()

    # Requests

    def request(self, client: str, host: str, path: str, body: Any, reply: Any) -> None:
        """Bring a request to the member on *host*; *reply* gets a result or an error, or nothing.

        :param client: the host the request comes from.
        """
        late = self.late_requests.get(client, 0.0) * self._world.noise.random()
        self._world.after(late, self._send, client, host, path, body, reply)

    def _send(self, client: str, host: str, path: str, body: Any, reply: Any) -> None:
        self._net.send(client, host, "etcd", self._arrive, client, host, path, body, reply)

    def _arrive(self, client: str, host: str, path: str, body: Any, reply: Any) -> None:
        member = self.members[host]
        noise = self._world.noise
        if member.is_hung:
            return
        if not member.is_up:
            error = StoreUnavailableError(f"{host}: connection refused")
            self._net.send(host, client, "etcd", reply, None, error)
        elif path == "status":
            leader = self.leader.number if self.leader and self._sees_leader(member) else 0
            self._net.send(host, client, "etcd", reply, (member.number, leader), None)
        elif not self._sees_leader(member):
            # Some answers say that there is no leader, others do not come before anybody gives up.
            if noise.random() < 0.5:
                error = StoreUnavailableError("etcdserver: no leader")
                self._net.send(host, client, "etcd", reply, None, error)
        else:
            working = 0.0005 + 0.002 * noise.random() + self.slowness * noise.random()
            self._world.after(working, self._work, client, member, path, body, reply)

    def _sees_leader(self, member: Member) -> bool:
        return self.leader is not None and self._hear_each_other(member, self.leader)

    def _work(self, client: str, member: Member, path: str, body: Any, reply: Any) -> None:
        if not self._sees_leader(member):
            return
        try:
            answer = getattr(self, f"_do_{path}")(client, body)
        except StoreError as error:
            self._net.send(member.host, client, "etcd", reply, None, error)
            return
        noise = self._world.noise
        if noise.random() >= self.loss_of_answers:
            late = self.slowness * noise.random()
            self._world.after(late, self._answer, client, member, answer, reply)

    def _answer(self, client: str, member: Member, answer: Any, reply: Any) -> None:
        if member.works:
            self._net.send(member.host, client, "etcd", reply, answer, None)

    def _do_range(self, client: str, prefix: str) -> tuple[int, list[KeyValue]]:
        found = [kv for key, kv in self.keys.values.items() if key.startswith(prefix)]
        return self.keys.revision, found

    def _do_txn(self, client: str, body: tuple[Sequence[Compare], Sequence[Put | Delete]]) -> bool:
        compares, operations = body
        if not all(self._holds(compare) for compare in compares):
            return False
        for operation in operations:
            if isinstance(operation, Put) and operation.lease:
                self._lease(operation.lease)
        self.write(client, operations)
        return True

    def _holds(self, compare: Compare) -> bool:
        found = self.keys.values.get(compare.key)
        return bool(getattr(found, compare.target, 0) == compare.value)

    def write(self, client: str, operations: Sequence[Put | Delete]) -> None:
        """Do *operations* in one revision, for whom it may concern."""
        keys = self.keys
        before = dict(keys.values)
        keys.revision += 1
        for operation in operations:
            keys.events.append((keys.revision, operation.key))
            old = keys.values.pop(operation.key, None)
            if isinstance(operation, Put):
                created = old.create_revision if old else keys.revision
                keys.values[operation.key] = KeyValue(
                    operation.key, operation.value, created, keys.revision, operation.lease
                )
        self._on_write(client, before, operations)
        self._pump()

    def _lease(self, number: int) -> EtcdLease:
        if number not in self.keys.leases:
            raise LeaseLostError("etcdserver: requested lease not found")
        return self.keys.leases[number]

    def _do_grant(self, client: str, ttl: int) -> int:
        self._next_lease += 1
        self.keys.leases[self._next_lease] = EtcdLease(ttl, self._world.now + ttl)
        self._world.after(ttl, self._expire, self._next_lease)
        return self._next_lease

    def _do_keepalive(self, client: str, number: int) -> int:
        lease = self._lease(number)
        lease.expires = self._world.now + lease.ttl
        return lease.ttl

    def _do_revoke(self, client: str, number: int) -> None:
        self._lease(number)
        self._drop(client, number)

    def _do_members(self, client: str, body: None) -> dict[int, tuple[str, ...]]:
        return {m.number: (f"http://{m.host}:2379",) for m in self.members.values()}

    def _do_transfer(self, client: str, target: int) -> None:
        for member in self.members.values():
            if member.number == target and self._has_majority(member):
                self._lead(member)

    def _drop(self, client: str, number: int) -> None:
        del self.keys.leases[number]
        bound = [key for key, kv in self.keys.values.items() if kv.lease == number]
        if bound:
            self.write(client, [Delete(key) for key in bound])

    def _expire(self, number: int) -> None:
        lease = self.keys.leases.get(number)
        if lease is None or self.leader is None:
            return
        if lease.expires > self._world.now:
            self._world.at(lease.expires, self._expire, number)
            return
        # Half of them at once, half when etcd looks again.
        noise = self._world.noise
        if noise.random() < 0.5 and lease.expires > self._world.now - EXPIRY_CHECK:
            self._world.after(EXPIRY_CHECK * noise.random(), self._expire, number)
            return
        self._world.note("etcd", f"lease {number:x} has run out")
        self._drop("etcd", number)

    # Members

    def kill(self, host: str) -> None:
        """End a member's process: connections to it are refused."""
        if host in self.members:
            self.members[host].is_up = False
            self._world.note("etcd", f"{host} is killed")
            self.review()

    def lose(self, host: str) -> None:
        """Lose a member with its host: nobody is told."""
        if host in self.members:
            self.members[host].is_hung = True
            self.review()

    def hang(self, host: str, is_hung: bool) -> None:
        """Freeze a member's process, or let it go on."""
        if host in self.members:
            self.members[host].is_hung = is_hung
            self._world.note("etcd", f"{host} {'is frozen' if is_hung else 'goes on'}")
            self.review()

    def come_back(self, host: str) -> None:
        """Start a member's process anew."""
        if host in self.members:
            member = self.members[host]
            member.is_up, member.is_hung = True, False
            for watcher in [w for w in self._watchers if w.member is member]:
                self._end(watcher)
            self._world.note("etcd", f"{host} is back")
            self.review()

    def forget(self, client: str) -> None:
        """End the watches of a client that has ended."""
        for watcher in self._watchers:
            if watcher.client == client:
                watcher.is_open = False

    # Watches

    def watch(self, watcher: Watcher) -> None:
        """Begin to deliver what changes from the watcher's revision on."""
        self._watchers.append(watcher)
        self._world.after(self._net.latency(), self._pump)

    def _pump(self) -> None:
        for watcher in list(self._watchers):
            if not watcher.is_open:
                self._watchers.remove(watcher)
            elif not watcher.member.is_up:
                self._end(watcher)
            elif self._sees_leader(watcher.member) and self._net.is_open(
                watcher.member.host, watcher.client, "etcd"
            ):
                self._deliver(watcher)

    def _end(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)
        self._net.send(watcher.member.host, watcher.client, "etcd", watcher.deliver, None)

    def _deliver(self, watcher: Watcher) -> None:
        changed = set()
        for revision, key in reversed(self.keys.events):
            if revision < watcher.revision:
                break
            if key.startswith(watcher.prefix):
                changed.add(key)
        watcher.revision = self.keys.revision + 1
        if changed:
            # One connection: what was sent first arrives first.
            watcher.arrival = max(watcher.arrival, self._world.now + self._net.latency())
            self._world.at(watcher.arrival, watcher.deliver, changed)
