# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the domain, as frozen values: what etcd, PostgreSQL and the peers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pgherd.quorum import Acknowledging, Electing, parse_names
from pgherd.settings import Settings, Tags, followed, whole

if TYPE_CHECKING:
    from pgherd.handover import Handover
    from pgherd.ledger import Entry


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


def position_of(value: Any) -> int | None:
    """Return the bytes a member key's position stands for: a number, or text; else None.

    Patroni publishes numbers and reads nothing else; earlier agents of ours published text.
    """
    try:
        return parse_lsn(str(value))
    except ValueError:
        return whole(value)


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
    def address(self) -> str:
        """How `Instance.upstream` names it."""
        return f"{self.host}:{self.port}" if self.host else ""

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
    def config_revision(self) -> int | None:
        """The revision of the dynamic configuration it has taken in; None if it does not tell."""
        return whole(self.ours.get("config_revision"))

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
    def says_primary(self) -> bool:
        """Whether its PostgreSQL is a primary, by its own word: Patroni before 4.0 has another."""
        return self.data.get("role") in {"primary", "master"}

    @property
    def is_settled_primary(self) -> bool:
        """A running primary whose control file names its timeline: pg_rewind may read it (R26)."""
        checkpointed = self.data.get("checkpoint_after_promote") is not False
        return self.is_running and self.says_primary and checkpointed

    @property
    def timeline(self) -> int | None:
        return whole(self.data.get("timeline"))

    @property
    def position(self) -> int | None:
        """The furthest WAL position the member last published, in bytes."""
        known = [position_of(self.data.get(key)) for key in ("receive_lsn", "replay_lsn")]
        known.append(whole(self.data.get("xlog_location")))
        return max((position for position in known if position is not None), default=None)

    @property
    def replayed(self) -> int | None:
        """The WAL position up to which the member last said it had applied, in bytes."""
        return position_of(self.data.get("replay_lsn"))

    @property
    def tags(self) -> Tags:
        tags = self.data.get("tags")
        return Tags.parse(tags if isinstance(tags, Mapping) else {})


@dataclass(frozen=True)
class Remote(Member):
    """The primary of another cluster, which a standby cluster follows.

    :param data: `standby_cluster` of the dynamic configuration. Its host may be several, separated
        by commas: the one that takes writes is meant. Without a host there is an archive only.
    """

    name: str = "the remote primary"

    @property
    def is_settled_primary(self) -> bool:
        """Whether it is one is asked of itself, when its WAL is compared."""
        return True

    @property
    def slot(self) -> str:
        """The replication slot there, empty for none."""
        return str(self.data.get("primary_slot_name") or "")

    @property
    def replica_methods(self) -> tuple[str, ...]:
        """How the first member copies it, empty for how members are copied."""
        names = self.data.get("create_replica_methods") or ()
        return (names,) if isinstance(names, str) else tuple(str(name) for name in names)

    @property
    def recovery_parameters(self) -> dict[str, Any]:
        """PostgreSQL's settings for whoever follows it."""
        names = ("restore_command", "archive_cleanup_command", "recovery_min_apply_delay")
        return {name: self.data[name] for name in names if self.data.get(name) is not None}

    @property
    def _address(self) -> tuple[str, int]:
        return str(self.data.get("host") or ""), whole(self.data.get("port")) or 5432


@dataclass(frozen=True)
class LeaderKey:
    """The ``leader`` key and what fences writes made in its name."""

    name: str
    lease: int
    create_revision: int


@dataclass(frozen=True)
class SyncKey:
    """The ``sync`` key: who may lead without losing an acknowledged commit (see `quorum`).

    :param leader: the leader that wrote it; it counts as one of the electorate. Empty where commits
        wait for nobody: then the key is there for *timeline* only.
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
        is_isolated = raw.get("isolated") is True
        return cls(str(leader), electing, revision, is_isolated, number_in(raw))

    def published(self) -> dict[str, Any]:
        """Return the mapping as Patroni writes it."""
        voters = ",".join(sorted(self.electing.voters)) or None
        data: dict[str, Any] = {
            "leader": self.leader or None,
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


def number_in(raw: Mapping[str, Any]) -> int:
    """Return the number of a timeline in `/sync`'s mapping, which may name nobody; 0 for none."""
    return whole(raw.get("timeline")) or 0


@dataclass(frozen=True)
class Cluster:
    """One linearizable read of everything etcd holds about the cluster.

    :param handover: the switchover or failover that somebody asks for (key ``failover``).
    :param failover_revision: that key's mod revision, 0 when there is none.
    :param ledger: the operations that were asked for (key ``operations``).
    :param config_revision: etcd's mod revision of the key ``config``, 0 for no key.
    :param config_lost: the key has gone, and *config* is what this member kept of it.
    :param local: what the file of this member gives of the section ``postgresql``; it wins.
    :param sync: who may be elected, None where `/sync` names nobody.
    :param numbered: the number of a timeline that `/sync` keeps where it names nobody.
    """

    revision: int = 0
    initialize: str | None = None
    leader: LeaderKey | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    handover: Handover | None = None
    failover_revision: int = 0
    ledger: tuple[Entry, ...] = ()
    ledger_revision: int = 0
    config_revision: int = 0
    config_lost: bool = False
    local: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[tuple[Any, ...], ...] = ()
    optime: int = 0
    status: Mapping[str, Any] = field(default_factory=dict)
    sync: SyncKey | None = None
    sync_revision: int = 0
    numbered: int = 0
    failsafe: Mapping[str, str] = field(default_factory=dict)

    @property
    def heir(self) -> tuple[str, int] | None:
        """Whom the last leader has left the lead to, and the position it has to have (bytes)."""
        heir = self.status.get("heir")
        if not isinstance(heir, Mapping) or whole(heir.get("position")) is None:
            return None
        return str(heir.get("name")), int(heir["position"])

    @property
    def last_timeline(self) -> int:
        """The highest number that was given to a timeline (see `SyncKey`), 0 for none."""
        return self.sync.timeline if self.sync is not None else self.numbered

    @property
    def leader_member(self) -> Member | None:
        """The leader's member key, None when it has no leader or did not publish itself yet."""
        return self.members.get(self.leader.name) if self.leader else None

    @property
    def settings(self) -> Settings:
        return Settings.parse(self.config or {}, self.local)

    @property
    def uninformed(self) -> tuple[str, ...]:
        """Running members that have not taken in the configuration as it is now, by their own word.

        What they say of settings that wait for a restart may be about the one before. Members that
        tell nothing of it, such as Patroni's, are not among them.
        """
        known = {name: member.config_revision for name, member in sorted(self.members.items())}
        return tuple(
            name
            for name, revision in known.items()
            if self.members[name].is_running
            and revision is not None
            and revision < self.config_revision
        )

    @property
    def remote(self) -> Remote | None:
        """Whom this cluster follows, None for one of its own."""
        remote = followed((self.config or {}).get("standby_cluster"))
        return Remote(data=remote) if remote else None


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

    :param upstream: whom it is told to stream from, `host:port`; *sender* is from whom it does.
    :param sync_names: `synchronous_standby_names` in force.
    :param checkpointer_idle: the checkpointer is between two pieces of work, so it has read the
        configuration; until then a primary that had no such names acknowledges without waiting.
    :param subscribers_wait_for: slots that logical subscribers may not get ahead of; None where
        PostgreSQL knows no such setting (before 17).
    :param disk: what is wrong with the disk under the data, empty when it is well.
    :param is_told_to_stop: its postmaster is ending, which takes new connections no more.
    :param lacks_limits: its replay is paused until it is started with what its primary had.
    :param is_restored: it was restored to be the primary, and has not been started since.
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
    upstream_slot: str = ""
    sender: str | None = None
    started_at: str | None = None
    server_version: int | None = None
    replication: tuple[Mapping[str, Any], ...] = ()
    slots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pending_restart: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    subscribers_wait_for: frozenset[str] | None = None
    sync_names: str = ""
    checkpointer_idle: bool = True
    disk: str = ""
    is_told_to_stop: bool = False
    lacks_limits: bool = False
    is_restored: bool = False

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
