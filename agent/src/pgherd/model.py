# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the domain, as frozen values: what etcd, PostgreSQL and the peers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from pgherd.quorum import Acknowledging, Electing, parse_names
from pgherd.settings import Settings, Tags, whole


def parse_lsn(text: str) -> int:
    """Return the byte position that *text* (``X/Y`` in hexadecimal) names.

    :raises ValueError: *text* is not an LSN.
    """
    high, slash, low = text.partition("/")
    if not slash:
        raise ValueError(f"not an LSN: {text!r}")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(position: int) -> str:
    """Return *position* (bytes) the way PostgreSQL prints it, ``X/Y`` in hexadecimal."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _lsn(value: Any) -> int | None:
    try:
        return parse_lsn(str(value))
    except ValueError:
        return None


@dataclass(frozen=True)
class Member:
    """One ``members/<name>`` key: what a member last said about itself."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        return str(self.data.get("api_url", ""))

    @property
    def conn_url(self) -> str:
        return str(self.data.get("conn_url", ""))

    @property
    def host(self) -> str:
        return self._address[0]

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def _address(self) -> tuple[str, int]:
        try:
            url = urlsplit(self.conn_url)
            return url.hostname or "", url.port or 5432
        except ValueError:
            return "", 5432

    @property
    def state(self) -> str:
        return str(self.data.get("state", "unknown"))

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def ours(self) -> Mapping[str, Any]:
        """What only pgherd publishes."""
        extra = self.data.get("pgherd")
        return extra if isinstance(extra, Mapping) else {}

    @property
    def terms(self) -> tuple[int, ...]:
        """The terms whose leader's WAL it had last (see `pgherd.descent`)."""
        terms = self.ours.get("terms")
        return tuple(terms) if isinstance(terms, list) else ()

    @property
    def could_lead(self) -> bool:
        """Whether it would stand for election if there were one now."""
        return self.is_running and not self.tags.nofailover and self.ours.get("unfit") is not True

    @property
    def is_settled_primary(self) -> bool:
        """A running primary whose control file names its timeline: pg_rewind may read it (R26)."""
        checkpointed = self.data.get("checkpoint_after_promote") is not False
        return self.is_running and self.data.get("role") == "primary" and checkpointed

    @property
    def timeline(self) -> int | None:
        return whole(self.data.get("timeline"))

    @property
    def position(self) -> int | None:
        """The furthest WAL position the member last published, in bytes."""
        known = [_lsn(self.data.get(key)) for key in ("receive_lsn", "replay_lsn")]
        known.append(whole(self.data.get("xlog_location")))
        return max((position for position in known if position is not None), default=None)

    @property
    def tags(self) -> Tags:
        tags = self.data.get("tags")
        return Tags.parse(tags if isinstance(tags, Mapping) else {})


@dataclass(frozen=True)
class LeaderKey:
    """The ``leader`` key and what fences writes made in its name."""

    name: str
    lease: int
    create_revision: int


@dataclass(frozen=True)
class SyncKey:
    """The ``sync`` key: who may lead without losing an acknowledged commit (see `quorum`).

    :param leader: the leader that wrote it; it counts as one of the electorate.
    :param revision: etcd's mod revision of the key, 0 for one not written yet.
    :param isolated: the leader has lost its standbys and asks them whom they reach.
    :param timeline: the highest number that was given to a timeline of this cluster. Each leader
        gets a new one before it promotes, so that two of them never make timelines of one number
        and (timeline, position) orders what members have as (term, index) does in Raft.
    """

    leader: str
    electing: Electing = field(default_factory=Electing)
    revision: int = 0
    isolated: bool = False
    timeline: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any], revision: int) -> SyncKey | None:
        """Read the key's mapping; None when nobody is named in it."""
        leader = raw.get("leader")
        if not leader:
            return None
        voters = frozenset(name for name in str(raw.get("sync_standby") or "").split(",") if name)
        # Patroni's priority mode knows no quorum. What cannot be read lets nobody lead too early.
        quorum = whole(raw.get("quorum", 0))
        damaged = quorum is None or quorum < 0
        electing = Electing(voters, len(voters) if damaged or quorum is None else quorum)
        timeline = whole(raw.get("timeline")) or 0
        return cls(str(leader), electing, revision, raw.get("isolated") is True, timeline)

    def published(self) -> dict[str, Any]:
        """Return the mapping as Patroni writes it."""
        voters = ",".join(sorted(self.electing.voters)) or None
        data: dict[str, Any] = {
            "leader": self.leader,
            "sync_standby": voters,
            "quorum": self.electing.quorum,
        }
        if self.isolated:
            data["isolated"] = True
        if self.timeline:
            data["timeline"] = self.timeline
        return data

    @property
    def electorate(self) -> frozenset[str]:
        return self.electing.voters | {self.leader}


@dataclass(frozen=True)
class Cluster:
    """One linearizable read of everything etcd holds about the cluster."""

    revision: int = 0
    initialize: str | None = None
    leader: LeaderKey | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    failover: Mapping[str, Any] | None = None
    history: tuple[tuple[Any, ...], ...] = ()
    optime: int = 0
    status: Mapping[str, Any] = field(default_factory=dict)
    sync: SyncKey | None = None
    sync_revision: int = 0
    failsafe: Mapping[str, str] = field(default_factory=dict)

    @property
    def leader_member(self) -> Member | None:
        """The leader's member key, None when it has no leader or did not publish itself yet."""
        return self.members.get(self.leader.name) if self.leader else None

    @property
    def settings(self) -> Settings:
        return Settings.parse(self.config or {})


@dataclass(frozen=True)
class Lease:
    """Our etcd lease.

    :param valid_until: CLOCK_BOOTTIME seconds until which nobody else can hold the leader key
        while we do; counted from before the request that renewed it was sent, less a margin.
    """

    id: int
    valid_until: float


class Process(Enum):
    """Whether there is a postmaster and whether it answers queries."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True)
class Control:
    """pg_controldata, as far as we need it."""

    system_id: str
    state: str
    timeline: int
    checkpoint: int
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def was_primary(self) -> bool:
        """The instance last ran as a primary, whether or not it was stopped cleanly."""
        return self.state in {"in production", "shutting down", "shut down", "in crash recovery"}

    @property
    def was_stopped_cleanly(self) -> bool:
        return self.state in {"shut down", "shut down in recovery"}


@dataclass(frozen=True)
class Instance:
    """The local PostgreSQL, as seen once.

    Positions are bytes of WAL: *location* is what a primary has flushed, *received* what a standby
    has flushed, *replayed* what it has applied. Values that are not known are None.

    :param sync_names: `synchronous_standby_names` in force.
    :param checkpointer_idle: the checkpointer is between two pieces of work, so it has read the
        configuration; until then a primary that had no such names acknowledges without waiting.
    :param disk: what is wrong with the disk under the data, empty when it is well.
    """

    process: Process = Process.STOPPED
    has_data: bool = False
    control: Control | None = None
    system_id: str | None = None
    in_recovery: bool | None = None
    timeline: int | None = None
    checkpoint_timeline: int | None = None
    location: int | None = None
    received: int | None = None
    replayed: int | None = None
    latest_end: int | None = None
    replayed_at: str | None = None
    replay_paused: bool = False
    receiver_status: str | None = None
    upstream: str | None = None
    started_at: str | None = None
    server_version: int | None = None
    replication: tuple[Mapping[str, Any], ...] = ()
    slots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pending_restart: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sync_names: str = ""
    checkpointer_idle: bool = True
    disk: str = ""

    @property
    def is_running(self) -> bool:
        return self.process is Process.RUNNING

    @property
    def is_primary(self) -> bool:
        return self.is_running and self.in_recovery is False

    @property
    def is_standby(self) -> bool:
        return self.is_running and self.in_recovery is True

    @property
    def may_write(self) -> bool:
        """Whether clients may be getting commits acknowledged, for all we know.

        An instance that does not answer counts, unless it was started in recovery: a slow primary
        is still a primary.
        """
        return self.process is not Process.STOPPED and self.in_recovery is not True

    @property
    def is_streaming(self) -> bool:
        return self.is_standby and self.receiver_status == "streaming"

    @property
    def receives(self) -> bool:
        """Whether it streams from somebody, or tries to: more WAL may come."""
        return self.upstream is not None or self.receiver_status is not None

    @property
    def owes_checkpoint(self) -> bool:
        """A new primary whose control file still names the timeline before."""
        return self.is_primary and self.checkpoint_timeline != self.timeline

    @property
    def acknowledging(self) -> Acknowledging:
        """Whose acknowledgement a commit waits for, as the instance has it in force."""
        return parse_names(self.sync_names)

    @property
    def position(self) -> int:
        """How much WAL this instance holds for certain; 0 when it cannot say."""
        return max(self.location or 0, self.received or 0, self.replayed or 0)


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
    :param reach: peers we reach, asked because the leader has lost its standbys.
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

    @property
    def settings(self) -> Settings:
        return self.cluster.settings if self.cluster else Settings()

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
    def sync(self) -> SyncKey | None:
        return self.cluster.sync if self.cluster else None

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
