# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, when and for how long: a plan made from the seed, and the faults themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.tests.sim.net import CHANNELS
from pgherd.model import Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from agent.tests.sim.cluster import Cluster
    from agent.tests.sim.host import Host

    Undo = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """One fault of a plan.

    :param at: seconds after the cluster was ready.
    :param lasts: seconds until it is healed.
    :param target: chooses the member: the leader at that time, or one by number.
    """

    at: float
    lasts: float
    kind: str
    target: int | None
    choice: float

    def __str__(self) -> str:
        who = "the leader" if self.target is None else f"member {self.target + 1}"
        return f"{self.kind} on {who} at {self.at:.2f} for {self.lasts:.2f} s"


def _nothing() -> None:
    """What needs no healing."""


def kill_agent(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.kill_agent()
    return _nothing


def freeze_agent(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Freeze the agent, now or some callbacks later; it goes on or is killed in the end."""
    agent = host.agent
    if agent is None:
        return _nothing
    if fault.choice < 0.3:
        agent.loop.freeze()
    else:
        agent.loop.steps_left = int(400 * (fault.choice - 0.3))

    def undo() -> None:
        if host.agent is not agent or host.is_paused:
            return
        if int(fault.choice * 1000) % 2:
            agent.loop.thaw()
        else:
            host.kill_agent()

    return undo


def kill_guard(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.guard.kill()
    if fault.choice < 0.5:
        host.kill_agent()
    return _nothing


def crash_postgres(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.server.end("crashed")
    return _nothing


def hang_postgres(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let the postmaster hang, or all processes of the instance."""
    server, pid = host.server, host.server.pid
    if server.process is Process.STOPPED or host.is_paused:
        return _nothing
    host.note("postgres hangs" if fault.choice < 0.5 else "the postmaster hangs")
    if fault.choice < 0.5:
        server.suspend()
    else:
        server.refuse()

    def undo() -> None:
        if server.pid == pid and not host.is_paused:
            server.resume()

    return undo


def lose_host(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.lose_power()
    return host.boot


def pause_host(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.pause()
    return host.resume


def power_cycle(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Take the power from everything; hosts come back one after the other."""
    for each in cluster.hosts.values():
        each.lose_power()

    def undo() -> None:
        for each in cluster.hosts.values():
            cluster.world.after(3 * cluster.world.noise.random(), each.boot)

    return undo


def cut(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Cut the host off: from everybody, its peers, etcd, one host; both ways, or one way only."""
    others = [name for name in cluster.net_hosts if name != host.name]
    choices = (CHANNELS, CHANNELS, ("api", "wal"), ("etcd", "raft"), ("etcd",), ("wal",), ("api",))
    channels = choices[int(fault.choice * 1000) % len(choices)]
    if int(fault.choice * 10_000) % 5 == 0:
        others = [others[int(fault.choice * 100_000) % len(others)]]
    directions = (("from", "to"), ("from", "to"), ("from",), ("to",))[int(fault.choice * 100) % 4]
    ways = []
    for other in others:
        for channel in channels:
            if "from" in directions:
                ways.append((host.name, other, channel))
            if "to" in directions:
                ways.append((other, host.name, channel))
    host.note(f"is cut: {'/'.join(directions)} {','.join(others)}: {','.join(channels)}")
    cluster.net.cut(ways)

    def undo() -> None:
        host.note("cut is healed")
        cluster.net.heal(ways)

    return undo


def cut_standby(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Cut WAL, one way or both, between the leader and one standby: it falls behind."""
    leader = cluster.leader_name()
    others = [name for name in sorted(cluster.hosts) if name != leader]
    other = others[int(fault.choice * 1000) % len(others)]
    ways = [(leader, other, "wal"), (other, leader, "wal")][: 1 + int(fault.choice * 10_000) % 2]
    host.note(f"WAL is cut between {leader} and {other}")
    cluster.net.cut(ways)

    def undo() -> None:
        cluster.net.heal(ways)

    return undo


def split(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Cut every connection of PostgreSQL, of the API or of both; etcd is reached by all."""
    channels = (("wal",), ("wal", "api"))[int(fault.choice * 100) % 2]
    ways = [
        (one, other, channel)
        for one in cluster.net_hosts
        for other in cluster.net_hosts
        for channel in channels
        if one != other
    ]
    host.note(f"every host is cut from every other: {','.join(channels)}")
    cluster.net.cut(ways)

    def undo() -> None:
        cluster.net.heal(ways)

    return undo


def trouble_etcd(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Kill or freeze an etcd member, change its leader, make all of it slow, or stop it."""
    etcd, name = cluster.etcd, host.name
    kind = int(fault.choice * 1000) % 5
    if kind == 0:
        etcd.kill(name)
        return lambda: etcd.come_back(name)
    if kind == 1:
        etcd.hang(name, True)
        return lambda: None if host.is_paused else etcd.hang(name, False)
    if kind == 2:
        etcd.change_leader()
        return _nothing
    if kind == 3:
        etcd.slowness = 0.1 + 2 * fault.choice
        cluster.world.note("etcd", f"is slow: up to {etcd.slowness:.2f} s")

        def undo() -> None:
            etcd.slowness = 0.0

        return undo
    for member in etcd.members:
        etcd.kill(member)

    def start_all() -> None:
        for member in etcd.members:
            if cluster.hosts[member].is_up if member in cluster.hosts else True:
                etcd.come_back(member)

    return start_all


def late_requests(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let what the host sends to etcd come late, and in another order; answers come at once."""
    late = 0.3 + 3 * fault.choice
    host.note(f"requests to etcd are up to {late:.2f} s late")
    cluster.etcd.late_requests[host.name] = late

    def undo() -> None:
        cluster.etcd.late_requests.pop(host.name, None)

    return undo


def bad_network(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Lose, delay and reorder messages; lose answers of etcd to what it has done."""
    net = cluster.net
    net.loss, net.delay = 0.25 * fault.choice, 0.3 * fault.choice
    cluster.etcd.loss_of_answers = 0.2
    cluster.world.note("net", f"is bad: loss {net.loss:.2f}, delay {net.delay:.2f}")

    def undo() -> None:
        net.loss = net.delay = cluster.etcd.loss_of_answers = 0.0

    return undo


def slow_disk(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    host.server.slow_disk = 0.5 * fault.choice
    host.note(f"disk is slow: {host.server.slow_disk:.2f} s a flush")

    def undo() -> None:
        host.server.slow_disk = 0.0

    return undo


def sick_disk(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let every write to the data disk fail."""
    host.server.disk = "full"
    host.note("disk is full")

    def undo() -> None:
        host.server.disk = ""
        host.note("disk is well again")

    return undo


def stop_agent(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Stop the agent and PostgreSQL with it, as `systemctl stop` does."""
    host.note("agent is told to stop")
    host.is_disabled = True
    if host.agent is not None:
        host.agent.stop()

    def undo() -> None:
        host.is_disabled = False
        host.start_agent()

    return undo


def restart_agent(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Restart the agent in order: PostgreSQL and the lease stay for the next one."""
    host.note("agent is told to restart")
    if host.agent is not None:
        host.agent.leave()
    return _nothing


def reconfigure(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let an operator change how many standbys must have a commit, and how strictly."""
    choice = int(fault.choice * 1000)
    cluster.configure(
        synchronous_mode=("quorum", "on")[choice % 2],
        synchronous_node_count=1 + choice // 2 % 2,
        synchronous_mode_strict=choice // 4 % 3 == 0,
    )
    return _nothing


def switch_over(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let an operator ask for another leader: the best, or one by name."""
    names = [None, *sorted(cluster.hosts)]
    cluster.ask_for_leader(names[int(fault.choice * 1000) % len(names)])
    return _nothing


def restart_postgres(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let an operator ask for a restart of PostgreSQL."""
    if host.agent is not None:
        host.note("a restart is asked for")
        host.agent.ask_restart()
    return _nothing


def roll_restart(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let an operator ask for a restart of all members, one after the other."""
    if host.agent is not None:
        host.agent.roll()
    return _nothing


def maintain(cluster: Cluster, host: Host, fault: Fault) -> Undo:
    """Let an operator pause the cluster for a while."""
    cluster.configure(pause=True)
    return lambda: cluster.configure(pause=None)


# Every fault, how often it is chosen, and how long it may last, seconds.
FAULTS: Final[tuple[tuple[Callable[[Cluster, Host, Fault], Undo], int, float], ...]] = (
    (kill_agent, 4, 0),
    (freeze_agent, 8, 20),
    (kill_guard, 2, 0),
    (crash_postgres, 4, 0),
    (hang_postgres, 4, 15),
    (lose_host, 8, 20),
    (pause_host, 5, 20),
    (power_cycle, 1, 10),
    (cut, 14, 20),
    (cut_standby, 6, 10),
    (split, 3, 15),
    (trouble_etcd, 9, 15),
    (bad_network, 5, 10),
    (late_requests, 4, 10),
    (slow_disk, 3, 10),
    (sick_disk, 2, 15),
    (stop_agent, 2, 10),
    (restart_agent, 2, 0),
    (reconfigure, 3, 0),
    (switch_over, 6, 0),
)
# What operators ask of members, in plans that name it.
WISHES: Final[tuple[tuple[Callable[[Cluster, Host, Fault], Undo], int, float], ...]] = (
    (restart_postgres, 8, 0),
    (maintain, 4, 10),
    (roll_restart, 6, 0),
)
BY_NAME: Final = {call.__name__: call for call, _, _ in (*FAULTS, *WISHES)}


# What a plan is about: the faults there shall be, how many, and how soon they follow each other.
# Elections among unequal standbys, leases, transitions of the sync key, and leads handed over.
ELECTIONS: Final = ("cut_standby", "lose_host", "pause_host", "cut", "slow_disk", "freeze_agent")
LEASES: Final = (
    "late_requests",
    "freeze_agent",
    "cut",
    "trouble_etcd",
    "bad_network",
    "pause_host",
    "kill_agent",
)
TRANSITIONS: Final = ("cut_standby", "reconfigure", "split", "lose_host", "crash_postgres", "cut")
HANDOVERS: Final = (
    "switch_over",
    "late_requests",
    "crash_postgres",
    "cut_standby",
    "trouble_etcd",
    "freeze_agent",
    "bad_network",
)
STYLES: Final = ((), (), ELECTIONS, LEASES, TRANSITIONS, HANDOVERS)


def plan(
    dice: Random, members: int, window: float, kinds: tuple[str, ...] | None = None
) -> tuple[Fault, ...]:
    """Make a plan of faults within *window* seconds; some follow closely upon another.

    :param kinds: the only faults there shall be.
    """
    faults: list[Fault] = []
    style = dice.choice(STYLES)
    kinds = style if kinds is None else kinds
    choice = [row for row in (*FAULTS, *WISHES) if row[0].__name__ in kinds] or list(FAULTS)
    weights = [weight for _, weight, _ in choice]
    at = 0.0
    for _ in range(dice.choice((2, 3, 4, 5, 6) if not style else (4, 6, 8, 10))):
        call, _, longest = dice.choices(choice, weights)[0]
        at = at + dice.uniform(0, 2) if faults and dice.random() < 0.6 else dice.uniform(0, window)
        at = min(at, window)
        lasts = min(dice.choice((1.0, 4.0, 12.0)) * dice.uniform(0.1, 1.7), longest)
        target = None if dice.random() < 0.6 else dice.randrange(members)
        faults.append(Fault(at, lasts, call.__name__, target, dice.random()))
    return tuple(sorted(faults, key=lambda fault: fault.at))
