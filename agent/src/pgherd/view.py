# SPDX-License-Identifier: GPL-3.0-or-later
"""What one decision may look at: the view, and what the peers answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgherd.model import Cluster, Instance, LeaderKey, Lease, Member, Remote, SyncKey
from pgherd.relays import relay
from pgherd.settings import Settings, Tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.handover import Handover
    from pgherd.wishes import Reinitialize, Restart, ScheduledRestart


@dataclass(frozen=True)
class Peer:
    """What a peer's REST API answered just now.

    :param promised_to: the leader it has promised, in failsafe mode, to elect nobody against.
    :param receives: it streams from somebody, or tries to.
    """

    name: str
    role: str
    timeline: int | None
    position: int
    can_lead: bool
    priority: int = 1
    promised_to: str | None = None
    receives: bool = False

    @property
    def votes(self) -> bool:
        """Whether its position is final: PostgreSQL runs and streams from nobody."""
        return bool(self.role) and not self.receives and self.position > 0

    @property
    def history(self) -> tuple[int, int]:
        """What makes one candidate better than another: timeline, then flushed position."""
        return (self.timeline or 0, self.position)

    @property
    def is_primary(self) -> bool:
        return self.role in {"primary", "master"}


@dataclass(frozen=True)
class View:
    """Everything one decision may look at.

    :param now: CLOCK_BOOTTIME seconds at which the view was complete.
    :param wall: seconds since the epoch; for schedules only, as it may jump.
    :param cluster: the last read of etcd; None until the first one succeeded.
    :param store_answers: whether that read was made for this view.
    :param lease: our lease; None when etcd has given us none.
    :param peers: answers of the other members, asked only while the cluster has no leader.
    :param unlocked_since: when we first saw the leader key gone, CLOCK_BOOTTIME seconds.
    :param operation: name of the long operation under way (initdb, clone, start, promote, …).
    :param starting_since: when PostgreSQL was first seen starting, CLOCK_BOOTTIME seconds.
    :param start_failures: consecutive starts that never answered.
    :param diverged: our WAL left the leader's history before the point we have reached; None when
        that must be found out before we follow it.
    :param stuck: it points at the leader and does not get onto its timeline.
    :param terms: the terms whose leader's WAL we had last.
    :param stopping: the agent was asked to stop, PostgreSQL with it.
    :param settled: the acknowledgement setting in force is settled (see `quorum`).
    :param alone_since: since when this primary has had no standby that could acknowledge.
    :param promoted_at: when this primary was first seen as one.
    :param stalled: standbys that stream and have not moved for too long while there is WAL to send.
    :param held_back_until: having given the key up for a fault of ours, we let others go first.
    :param silent_seconds: for how long PostgreSQL has answered no new connection.
    :param failsafe_until: until when a majority of the members has promised to elect nobody else.
    :param promised_to: the leader we have given such a promise that is still good.
    :param promised: that leader, while it asks for promises because etcd does not hear it.
    :param watchdog_missing: the configuration wants a watchdog device and there is none.
    :param guarded: the guard process has our orders.
    :param handover_failure: why the handover that is asked for came to nothing here.
    :param reach: peers we reach, asked because the leader has lost its standbys.
    :param was_paused: the cluster was paused when etcd answered last; for agents that have not
        heard from it yet.
    :param restart: a restart of PostgreSQL that an operator asks for.
    :param scheduled_restart: one that is asked for later.
    :param reinitialize: a new copy in the place of our data that an operator asks for.
    :param restores: there is a replica method that needs nobody to copy.
    :param phase: how far the operation is, or how the last one failed, in Patroni's words.
    :param config_revision: the revision of the dynamic configuration that is applied here, so that
        it is known which of its settings wait for a restart; 0 for none.
    :param config_problems: what in the dynamic configuration is not heeded, and why.
    :param names_asked: `synchronous_standby_names` as we wrote it last; None for not at all. It is
        in force a moment later.
    :param fruitless: the standby that we should stream from and have not got anything from lately.
    :param copied_slots: logical slots before PostgreSQL 17 with which this standby may be promoted.
    :param slots_to_copy: slots of the leader that this standby would get by a restart.
    :param told: while etcd is silent: how far the users of slots are, as the leader tells, or the
        members tell the leader.
    """

    now: float
    me: str
    tags: Tags
    instance: Instance
    cluster: Cluster | None = None
    store_answers: bool = False
    lease: Lease | None = None
    peers: Mapping[str, Peer] = field(default_factory=dict)
    unlocked_since: float | None = None
    operation: str | None = None
    starting_since: float | None = None
    start_failures: int = 0
    diverged: bool | None = False
    stuck: bool = False
    terms: tuple[int, ...] = ()
    stopping: bool = False
    tie_grace: float = 2.0
    settled: bool = False
    alone_since: float | None = None
    promoted_at: float | None = None
    stalled: frozenset[str] = frozenset()
    held_back_until: float = 0.0
    silent_seconds: float = 0.0
    hang_timeout: float = 10.0
    failsafe_until: float = 0.0
    promised_to: str | None = None
    promised: Member | None = None
    watchdog_missing: bool = False
    guarded: bool = True
    reach: frozenset[str] | None = None
    wall: float = 0.0
    handover_failure: str | None = None
    was_paused: bool = False
    restart: Restart | None = None
    scheduled_restart: ScheduledRestart | None = None
    reinitialize: Reinitialize | None = None
    config_revision: int = 0
    names_asked: str | None = None
    config_problems: tuple[str, ...] = ()
    phase: str = ""
    restores: bool = False
    fruitless: str | None = None
    copied_slots: frozenset[str] = frozenset()
    slots_to_copy: tuple[str, ...] = ()
    told: Mapping[str, int] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.cluster.settings if self.cluster else Settings(pause=self.was_paused)

    @property
    def can_lead(self) -> bool:
        """Whether peers may count on us to take the key: etcd answers, nothing holds us back."""
        return self.store_answers and self.has_lease and self.is_fit and not self.is_held_back

    @property
    def is_fit(self) -> bool:
        """Whether this member may be a primary at all."""
        return not (self.tags.nofailover or self.watchdog_missing or self.instance.disk)

    @property
    def is_held_back(self) -> bool:
        return self.now < self.held_back_until

    @property
    def handover(self) -> Handover | None:
        return self.cluster.handover if self.cluster else None

    @property
    def is_foreign(self) -> bool:
        """The data here is another cluster's."""
        found, cluster = self.instance.system_id, self.cluster
        if not (self.store_answers and found and cluster and cluster.initialize):
            return False
        return found != cluster.initialize

    @property
    def sync(self) -> SyncKey | None:
        """`/sync`; in a standby cluster nothing can be lost that the other cluster has not."""
        return self.cluster.sync if self.cluster and self.remote is None else None

    @property
    def remote(self) -> Remote | None:
        """The primary of the other cluster, if ours is a standby cluster."""
        return self.cluster.remote if self.cluster else None

    @property
    def origin(self) -> Member | None:
        """Whose WAL is the right one: the leader's, in a standby cluster the remote primary's.

        None while nobody leads, and for whoever leads a cluster of its own.
        """
        led = self.holds_key or self.other_leader is not None
        return self.remote if led and self.remote is not None else self.other_leader

    @property
    def upstream(self) -> Member | None:
        """Whom this member should stream from as a standby (R41), None for nobody."""
        leader = self.other_leader
        if self.tags.nostream or self.cluster is None:
            return None
        if leader is None:
            return self.origin
        named = self.tags.replicatefrom
        between = None
        if named and named != self.fruitless:
            between = relay(self.cluster, self.me, named, self.instance)
        return between or leader

    @property
    def is_leaving_sync(self) -> bool:
        """A standby about to be away: commits shall not wait for it meanwhile (R34)."""
        is_asked = self.restart is not None or self.reinitialize is not None
        return (is_asked and not self.instance.may_write) or self.operation == "restart"

    @property
    def is_to_be_cleared(self) -> bool:
        """An operator has asked for a new copy, and the old data is still there."""
        return self.reinitialize is not None and not self.reinitialize.is_cleared

    @property
    def activity(self) -> str | None:
        """What is under way here, or is about to be."""
        return "reinitialize" if self.is_to_be_cleared else self.operation

    @property
    def leads_by_promise(self) -> bool:
        """In failsafe mode: etcd does not answer, and a majority has promised us to wait."""
        ours = self.leader is None or self.leader.name == self.me
        return ours and self.now < self.failsafe_until

    @property
    def leader(self) -> LeaderKey | None:
        return self.cluster.leader if self.cluster else None

    @property
    def other_leader(self) -> Member | None:
        """The leader when it is not us; a leader that has not published itself has no address."""
        if self.cluster is None or self.leader is None or self.leader.name == self.me:
            return None
        return self.cluster.leader_member or Member(self.leader.name)

    @property
    def is_unlocked(self) -> bool:
        """etcd answered just now and there is no leader key."""
        return self.store_answers and self.cluster is not None and self.leader is None

    @property
    def has_lease(self) -> bool:
        return self.lease is not None and self.now < self.lease.valid_until

    @property
    def holds_key(self) -> bool:
        """The leader key hangs on our lease, and the lease is good for now."""
        return (
            self.has_lease
            and self.lease is not None
            and self.leader is not None
            and self.leader.lease == self.lease.id
        )
