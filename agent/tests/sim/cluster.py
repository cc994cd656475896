# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated cluster: hosts, network, etcd and clients, and a history of it from one seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from agent.tests.sim import faults
from agent.tests.sim.checks import Checks
from agent.tests.sim.etcd_service import EtcdService
from agent.tests.sim.host import Host
from agent.tests.sim.net import Network
from agent.tests.sim.world import Violation, World
from pgherd.config import build
from pgherd.etcd import Put
from pgherd.ledger import parse_ledger
from pgherd.rolling import KIND
from pgherd.store import dump

if TYPE_CHECKING:
    from agent.tests.sim.server import Server
    from pgherd.config import Config

# How long a cluster may take to be made, and to be whole again once nothing is wrong, seconds.
BIRTH: Final = 60.0
RECOVERY: Final = 60.0
# The time limits of two profiles of the roles, by the length of the lease.
TIMINGS: Final[dict[int, dict[str, float]]] = {
    2: {
        "lease_ttl": 2,
        "keepalive_interval": 0.4,
        "loop_interval": 1,
        "peer_timeout": 0.25,
        "etcd_timeout": 0.5,
        "hedge_delay": 0.1,
    },
    5: {
        "lease_ttl": 5,
        "keepalive_interval": 1,
        "loop_interval": 2,
        "peer_timeout": 0.5,
        "etcd_timeout": 1,
        "hedge_delay": 0.2,
    },
}


@dataclass(frozen=True)
class Plan:
    """Everything that the seed decides beforehand.

    :param guarded: whether anybody kills at the deadline.
    :param gone: whether the first leader's host is lost for good before anything else happens.
    :param two_primaries: whether two may take writes at a time, as long as one acknowledges none.
    """

    seed: int
    members: int
    ttl: int
    mode: str
    strict: bool
    node_count: int
    failsafe: bool
    rates: tuple[float, ...]
    tags: tuple[dict[str, Any], ...]
    window: float
    faults: tuple[faults.Fault, ...]
    guarded: bool = True
    two_primaries: bool = False
    gone: bool = False

    @classmethod
    def of(cls, seed: int, kinds: tuple[str, ...] | None = None, **changes: Any) -> Plan:
        """Make the plan of *seed*, with *changes*.

        :param kinds: the only faults there shall be.
        """
        dice = Random(f"{seed}/plan")
        guarded, gone = dice.random() < 0.9, dice.random() < 0.2
        members = dice.choices((2, 3, 5), (1, 8, 1))[0]
        window = dice.uniform(10, 35)
        plan = cls(
            seed,
            members,
            ttl=dice.choice((2, 5)),
            mode=dice.choices(MODES, WEIGHTS)[0],
            strict=dice.random() < 0.3,
            node_count=dice.choices((1, 2), (4, 1))[0],
            failsafe=dice.random() < 0.3,
            rates=tuple(1 + dice.uniform(-0.001, 0.001) for _ in range(members)),
            tags=(
                dice.choices(TAGS, (12, 1, 1, 1, 1, 1))[0] if members > 2 else {},
                *[{}] * (members - 1),
            ),
            window=window,
            faults=faults.plan(dice, members, window, kinds),
        )
        if not guarded and plan.is_sync:
            plan = replace(plan, guarded=False, two_primaries=True)
        elif gone and members > 2 and not any(plan.tags):
            plan = replace(plan, gone=True)
        return replace(plan, **changes)

    @property
    def is_sync(self) -> bool:
        return self.mode != "off"

    def __str__(self) -> str:
        strict = ", strict" if self.strict else ""
        failsafe = ", failsafe" if self.failsafe else ""
        rule = f"{self.mode} with {self.node_count}{strict}{failsafe}"
        rule += "" if self.guarded else ", unguarded"
        rule += ", the first leader is gone" if self.gone else ""
        tags = f", tags {self.tags}" if any(self.tags) else ""
        return f"{self.members} members, ttl {self.ttl}, {rule}{tags}"


TAGS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"failover_priority": 2},
    {"sync_priority": 2},
    {"nosync": True},
    {"nofailover": True},
    {"replicatefrom": "pg2"},
)
MODES: Final = ("quorum", "on", "off")
WEIGHTS: Final = (7, 2, 2)


@dataclass(frozen=True)
class Outcome:
    """What came of a history."""

    plan: Plan
    violation: Violation | None
    lines: tuple[str, ...]
    acknowledged: int
    primaries: tuple[str, ...]
    ended_at: float
    events: int

    def report(self) -> str:
        """Return the trace, what broke, and how to see it again."""
        parts = [f"seed {self.plan.seed}: {self.plan}", *map(str, self.plan.faults), *self.lines]
        if self.violation is not None:
            broken = self.violation
            parts.append(f"{broken.invariant} is broken at {broken.at:.4f}: {broken.detail}")
            parts.append(f"again: python -m agent.tests.sim --seed {self.plan.seed}")
        return "\n".join(parts)


class Cluster:
    """The world of one plan."""

    def __init__(self, plan: Plan, *, trace: bool) -> None:
        self.plan = plan
        self.world = World(f"{plan.seed}/noise", trace=trace)
        self.net = Network(self.world)
        self.checks = Checks(self.world, is_sync=plan.is_sync, two_primaries=plan.two_primaries)
        names = [f"pg{number}" for number in range(1, plan.members + 1)]
        etcd_hosts = names[:3] if plan.members > 2 else [*names, "etcd3"]
        self.net_hosts = sorted({*names, *etcd_hosts})
        election = 0.5 if plan.ttl == 2 else 1.0
        self.etcd = EtcdService(self.world, self.net, etcd_hosts, election, self.checks.written)
        self.hosts = {
            name: Host(
                self.world,
                self.net,
                self.etcd,
                self._config(name, etcd_hosts, plan.tags[at]),
                self.checks,
                plan.rates[at],
            )
            for at, name in enumerate(names)
        }
        servers = {name: host.server for name, host in self.hosts.items()}
        self.checks.servers = servers
        for host in self.hosts.values():
            host.hosts = self.hosts
            host.server.peers = servers
            host.guard.is_blind = not plan.guarded
        self.net.on_change(self._watch_streams)
        self._write = 0
        self._gone: str | None = None
        self._last_quiet_write = 0

    def _config(self, name: str, etcd_hosts: list[str], tags: dict[str, Any]) -> Config:
        plan = self.plan
        nearest_first = sorted(etcd_hosts, key=lambda host: host != name)
        dynamic = {
            "ttl": plan.ttl,
            "primary_start_timeout": 10,
            "synchronous_mode": plan.mode,
            "synchronous_mode_strict": plan.strict,
            "synchronous_node_count": plan.node_count,
            "failsafe_mode": plan.failsafe,
        }
        return build(
            {
                "scope": "demo",
                "name": name,
                "runtime_dir": "/nonexistent",
                "pgherd": TIMINGS[plan.ttl],
                "restapi": {"listen": "127.0.0.1:8008", "connect_address": f"{name}:8008"},
                "etcd3": {"hosts": [f"{host}:2379" for host in nearest_first]},
                "postgresql": _postgresql(name),
                "tags": tags,
                "bootstrap": {"dcs": dynamic, "initdb": {}},
            }
        )

    # What the world does

    def _watch_streams(self) -> None:
        for host in self.hosts.values():
            for stream in [*host.server.senders.values()]:
                stream.watch_silence()

    def _write_everywhere(self) -> None:
        """Have clients on every host write to its PostgreSQL, if it lets them."""
        for host in self.hosts.values():
            if host.server.is_writable and not host.server.is_suspended:
                self._write += 1
                host.server.write(self._write)
        self.world.after(0.06 + 0.12 * self.world.noise.random(), self._write_everywhere)

    def leader_name(self) -> str:
        """Return who has the leader key, the first member when nobody has."""
        holder = self.etcd.keys.values.get("/service/demo/leader")
        return holder.value if holder is not None else min(self.hosts)

    def _strike(self, fault: faults.Fault) -> None:
        """Let a fault happen, and have it healed in time."""
        names = sorted(self.hosts)
        chosen = None if fault.target is None else names[fault.target % len(names)]
        name = self.leader_name() if chosen is None else chosen
        undo = faults.BY_NAME[fault.kind](self, self.hosts[name], fault)
        self.world.after(fault.lasts, undo)

    def configure(self, **changes: Any) -> None:
        """Change the dynamic configuration as `pgherd edit-config` would; off stays off."""
        key = "/service/demo/config"
        found = self.etcd.keys.values.get(key)
        if found is not None and self.plan.is_sync:
            self.world.note("world", f"configuration: {changes}")
            self.etcd.write("operator", [Put(key, dump({**json.loads(found.value), **changes}))])

    def ask_for_leader(self, candidate: str | None) -> None:
        """Ask for a switchover by the leader of the moment, as `patronictl` would."""
        leader = self.leader_name()
        if candidate == leader:
            return
        self.world.note("world", f"a switchover from {leader} to {candidate or 'the best'}")
        request = {"leader": leader, "member": candidate}
        self.etcd.write("operator", [Put("/service/demo/failover", dump(request))])

    # What is expected

    @property
    def primary(self) -> Server | None:
        """The one server that accepts writes, None when there is none or more than one."""
        found = [h.server for h in self.hosts.values() if h.server.is_writable]
        return found[0] if len(found) == 1 else None

    def is_whole(self) -> bool:
        """Tell whether there is a primary and everybody else has what it has."""
        primary = self.primary
        if primary is None or primary.data is None:
            return False
        up = [host.server for host in self.hosts.values() if host.name != self._gone]
        # One of them may stream from another standby.
        streams = [server.receiver for server in up if server is not primary]
        caught_up = all(stream is not None and stream.is_streaming for stream in streams)
        return caught_up and all(server.is_running for server in up)

    def is_redundant(self) -> bool:
        """Tell whether the cluster could do without its leader."""
        if not self.is_whole() or (self.plan.failsafe and not self._all_are_asked()):
            return False
        return not self.plan.is_sync or self.checks.spare_voters() > 0

    def _all_are_asked(self) -> bool:
        """Tell whether `/failsafe` lists all members: the last one in it cannot be done without."""
        key = self.etcd.keys.values.get("/service/demo/failsafe")
        return key is not None and set(json.loads(key.value)) == set(self.hosts)

    def is_quiet(self) -> bool:
        """Tell whether the cluster is whole and acknowledges writes made since it may be."""
        last = self.checks.last
        if "/service/demo/failover" in self.etcd.keys.values or self._is_rolling():
            return False
        return last is not None and last.write > self._last_quiet_write and self.is_whole()

    def _is_rolling(self) -> bool:
        """Tell whether a rolling restart has not come to its end."""
        key = self.etcd.keys.values.get("/service/demo/operations")
        ledger = parse_ledger(json.loads(key.value)) if key is not None else ()
        return any(entry.kind == KIND and not entry.is_finished for entry in ledger)

    def live(self) -> None:
        """Live through the plan."""
        for host in self.hosts.values():
            self.world.after(0.5 * self.world.noise.random(), host.start_agent)
        self.world.run(BIRTH, self.is_whole)
        self._expect(self.is_whole(), "the cluster was not made")
        self.world.note("world", "the cluster is ready")
        self._write_everywhere()
        if self.plan.gone:
            self.world.run(self.world.now + BIRTH, self.is_redundant)
            self._gone = self.leader_name()
            self.hosts[self._gone].lose_power()
            self.hosts[self._gone].is_gone = True
        began = self.world.now
        for fault in self.plan.faults:
            self.world.at(began + fault.at, self._strike, fault)
        healed = max(fault.at + fault.lasts for fault in self.plan.faults) + 5
        self.world.run(began + healed)
        self.world.note("world", "everything is healed")
        self._last_quiet_write = self._write
        self.world.run(self.world.now + RECOVERY, self.is_quiet)
        self._expect(self.is_quiet(), self._what_is_missing())
        self._expect_nothing_lost()

    def outcome(self) -> Outcome:
        """Return what came of it."""
        return Outcome(
            self.plan,
            self.world.violation,
            tuple(self.world.lines),
            self.checks.acknowledged_writes,
            tuple(self.checks.primaries),
            self.world.now,
            self.world.events,
        )

    def end(self) -> None:
        """End all agents, so that none of them does anything any more."""
        for host in self.hosts.values():
            host.end()

    def _expect(self, holds: bool, detail: str) -> None:
        if not holds:
            self.world.violate("healthy_majority_gets_primary", detail)

    def _what_is_missing(self) -> str:
        states = []
        for host in self.hosts.values():
            server = host.server
            logic = host.agent.logic if host.agent is not None else None
            rule = logic.decision.rule.name if logic is not None and logic.decision else "none"
            receiver = server.receiver.sender.name if server.receiver else "nobody"
            role = "standby" if server.in_recovery else "primary"
            state = f"{server.process.value} {role} from {receiver}"
            states.append(f"{host.name}: {state}, rule {rule}")
        return f"{RECOVERY} s after everything was healed: {'; '.join(states)}"

    def _expect_nothing_lost(self) -> None:
        primary = self.primary
        if self.world.violation is None and self.plan.is_sync and primary is not None:
            self.checks.all_survive(primary)


def _postgresql(name: str) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:5432",
        "connect_address": f"{name}:5432",
        "data_dir": "/nonexistent/data",
        "bin_dir": "/usr/lib/postgresql/17/bin",
        "authentication": {
            "superuser": {"username": "postgres"},
            "replication": {"username": "replicator"},
        },
    }
