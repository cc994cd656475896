# SPDX-License-Identifier: GPL-3.0-or-later
"""One fault from the healthy cluster before it to the healthy cluster after it, accounted for."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from lab import disks, faults, processes
from lab.acknowledge import Ack, longest_gap, overlap
from lab.cluster import MEMBERS, Cluster
from lab.errors import LabError
from lab.probe import Probe
from lab.store import Store
from lab.wait import until
from lab.wire import Wire, WireError
from lab.writers import Writers

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from lab.hosts import Lab

HEALTHY_SECONDS_MAX: Final = 180.0
SYNCHRONOUS_SECONDS_MAX: Final = 30.0
COMMITS_SECONDS_MAX: Final = 120.0


class FaultError(Exception):
    """The cluster did not do what the fault asks of it; the message says what it did instead."""


@dataclass
class Stage:
    """What a fault has to play with: the lab, who leads, the client that writes, and how long.

    agent: which of lab.processes.UNITS runs the members.
    """

    lab: Lab
    cluster: Cluster
    primary: str
    probe: Probe
    seconds: float
    agent: str = "agent"
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        """Reach the store through the lab."""
        self.store = Store(self.lab)

    @property
    def standbys(self) -> tuple[str, ...]:
        """The members that did not lead at the beginning."""
        return tuple(host for host in MEMBERS if host != self.primary)

    def hold(self) -> None:
        """Leave things as they are for as long as the fault lasts."""
        time.sleep(self.seconds)

    def await_commits(self, count: int = 50) -> None:
        """Wait until *count* writes were acknowledged from now on; raises FaultError."""
        try:
            self.probe.await_rows(count, time.monotonic(), COMMITS_SECONDS_MAX)
        except LabError as error:
            raise FaultError(str(error)) from error

    def commits_since(self, moment: float) -> int:
        """Return how many writes that were sent after *moment* have been acknowledged."""
        return sum(row.sent > moment for row in self.probe.acknowledged)

    def await_leader_other_than(self, host: str) -> str:
        """Wait until another member than *host* leads and return its name; raises LabError."""
        others = tuple(member for member in MEMBERS if member != host)
        leaders = until(
            lambda: [m.name for m in self.cluster.members(ask=others) if m.leads],
            COMMITS_SECONDS_MAX,
            f"Another than {host} leads",
            holds=lambda found: found and found[0] != host,
        )
        return leaders[0]

    def await_healthy(self) -> str:
        """Wait until one leads and two stream, and return who leads; raises FaultError."""
        try:
            return self.cluster.await_healthy(HEALTHY_SECONDS_MAX)
        except LabError as error:
            raise FaultError(f"did not heal: {error}") from error


@dataclass(frozen=True)
class Fault:
    """A fault: its name, what happens until it is mended, how long it lasts, and under what.

    settings: dynamic settings of the cluster for as long as that.
    """

    name: str
    act: Callable[[Stage], None]
    seconds: float = 20
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Account:
    """What a fault cost; times in seconds. `failure` is empty when all went as it must.

    kind: `lab` for the lab's faults, `drill` for those that the playbook makes. doubt: rows of
    which the client does not know whether they were committed. redundancy: from the fault until
    all was whole, added: how much longer the playbook ran; None where nobody measured it.
    """

    fault: str
    gap: float = 0.0
    acknowledged: int = 0
    lost: int = 0
    overlap: float = 0.0
    before: str = "-"
    after: str = "-"
    failure: str = ""
    kind: str = "lab"
    doubt: int = 0
    redundancy: float | None = None
    added: float | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong, in words; nothing when the fault was survived as it must be."""
        found = [self.failure] if self.failure else []
        if self.lost:
            found.append(f"{self.lost} acknowledged rows lost")
        if self.overlap > 0:
            found.append(f"two nodes acknowledged for {self.overlap:.2f} s")
        return tuple(found)


def account(
    fault: str,
    inside: Sequence[Ack],
    outside: Sequence[Ack],
    there: Container[tuple[str, int]],
    present: Container[int],
) -> Account:
    """Return what *fault* cost, by what the clients saw and by the rows that are left.

    inside, outside: what the writers in the hosts and the probe saw acknowledged.
    there, present: the rows of the writers (node and number) and of the probe (number) that the
    leader has in the end.
    """
    gone = [ack for ack in inside if (ack.node, ack.number) not in there]
    gone += [ack for ack in outside if ack.number not in present]
    silent = [who for who, acks in (("writers", inside), ("probe", outside)) if not acks]
    return Account(
        fault=fault,
        gap=longest_gap(ack.at for ack in outside),
        acknowledged=len(inside) + len(outside),
        lost=len(gone),
        overlap=overlap([*inside, *outside]),
        failure=f"nothing of the {' and '.join(silent)} was acknowledged" if silent else "",
    )


def perform(
    lab: Lab, fault: Fault, cluster: Cluster | None = None, agent: str = "agent"
) -> Account:
    """Make *fault* under writing clients, see it mended and account for every acknowledged row.

    cluster: pgherd's unless given; agent: which of lab.processes.UNITS runs its members.
    What goes wrong with the cluster is in the account, not raised. Raises LabError when the
    cluster is not healthy to begin with.
    """
    cluster, store = cluster or Cluster(lab.settings), Store(lab)
    cluster.await_healthy(HEALTHY_SECONDS_MAX)
    settings = store.patch(fault.settings)
    cost = _perform(lab, cluster, fault, agent)
    try:
        if fault.settings:
            store.put(settings)
    except LabError as error:
        return replace(cost, failure=cost.failure or str(error))
    return cost


def _perform(lab: Lab, cluster: Cluster, fault: Fault, agent: str) -> Account:
    primary = await_synchronous(cluster, Store(lab))
    run = uuid.uuid4().hex
    probe = Probe(cluster.targets(), run=run)
    writers = Writers(lab, cluster, run)
    writers.start(primary)
    probe.start()
    failure = ""
    stage = Stage(lab, cluster, primary, probe, fault.seconds, agent)
    try:
        stage.await_commits()
        if (leader := stage.await_healthy()) != primary:
            raise FaultError(f"{leader} took over from {primary} before anything was broken")
        fault.act(stage)
        stage.await_healthy()
        stage.await_commits()
    except (FaultError, LabError, WireError) as error:
        failure = str(error)
        repair(lab, agent)
    finally:
        probe.stop()
    try:
        leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
        writers.stop()
        outside = probe_acks(lab, probe)
        with Wire(cluster.target(leader), 30) as wire:
            there, present = writers.present(wire), probe.present(wire)
        cost = account(fault.name, writers.acknowledged(), outside, there, present)
    except (LabError, WireError) as error:
        failure = failure or str(error)
        return Account(fault.name, before=primary, failure=failure)
    failure, doubt = failure or cost.failure, len(probe.unknown)
    return replace(cost, before=primary, after=leader, failure=failure, doubt=doubt)


def probe_acks(lab: Lab, probe: Probe) -> list[Ack]:
    """Return what *probe* saw acknowledged, by the names of the hosts."""
    hosts = {lab.settings.address(host): host for host in MEMBERS}
    return [
        Ack(hosts[row.host], row.timeline, row.number, row.sent, row.at)
        for row in probe.acknowledged
    ]


def await_synchronous(cluster: Cluster, store: Store) -> str:
    """Wait until a majority may elect, where the settings want commits to wait; return who leads.

    Raises LabError when that does not come.
    """
    leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    if str(store.config().get("synchronous_mode", "off")).lower() in ("off", "false"):
        return leader
    others = {host for host in MEMBERS if host != leader}
    until(
        store.quorum,
        SYNCHRONOUS_SECONDS_MAX,
        f"{' and '.join(sorted(others))} are the voters, and not all are needed",
        holds=lambda found: found[0] == others and found[1] < len(others),
        every=0.5,
    )
    return cluster.await_healthy(HEALTHY_SECONDS_MAX)


def repair(lab: Lab, agent: str = "agent", hosts: Sequence[str] = MEMBERS) -> None:
    """Undo whatever a fault that was broken off may have left behind.

    agent: which of lab.processes.UNITS runs the members.
    """
    states = {status.name: status.state for status in lab.status()}
    for host in hosts:
        if states[host] == "paused":
            lab.unpause(host)
        elif states[host] != "running":
            lab.start(host)
    for host in hosts:
        disks.resume(lab, host)
        if disks.is_read_only(lab, host):
            lab.kill(host)
            lab.start(host)
        faults.heal(lab, host)
        lab.exec(host, ["pkill", "-CONT", "--runstates", "T", "."], check=False)
        disks.empty(lab, host)
        lab.exec(host, ["systemctl", "start", processes.UNITS["etcd"]], check=False)
        processes.bring_back(lab, host, (agent, "guard"))
