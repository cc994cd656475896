# SPDX-License-Identifier: GPL-3.0-or-later
"""Small worlds: a few members, their PostgreSQL, what etcd holds; and what an agent sees of them.

A world is a value. WAL is a tuple of records, each known by its timeline and its writer; a timer of
the rules is over or not. What an agent does is decided by the real `decide` on a real `View`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.tests.builders import NOW, SYSTEM_ID, control, member
from pgherd.decide import Decision, decide
from pgherd.model import Cluster, Instance, LeaderKey, Lease, Member, Process, SyncKey
from pgherd.quorum import Acknowledging, parse_names
from pgherd.rules.sync import ALONE_SECONDS, ASK_AFTER_SECONDS, standbys
from pgherd.settings import Tags
from pgherd.view import Peer, View

if TYPE_CHECKING:
    from pgherd.handover import Handover

STOPPED: Final = "stopped"
STARTING: Final = "starting"
RUNNING: Final = "running"
# The lease that a leader key hangs on when its owner has lost it with a reboot.
OLD_LEASE: Final = 99
# Position 0 means "cannot say" to the agents, so WAL begins here, in bytes.
FIRST_POSITION: Final = 100
# For how long a leader has been without standbys: not at all, just now, time to ask, time to go on.
ALONE: Final = (None, 0.0, (ASK_AFTER_SECONDS + ALONE_SECONDS) / 2, ALONE_SECONDS + 1)

# The rules that have fired since `forget_decisions`.
MET: Final[set[str]] = set()

Record = tuple[int, int]
Wal = tuple[Record, ...]


class Asked(NamedTuple):
    """What the operator asks for, and how many members there are.

    :param handover: what is asked of the cluster at rest: ``switchover`` or ``failover``, to the
        last member, or ``switchover to the best``.
    :param pausing: maintenance mode begins and ends whenever it likes.
    """

    mode: str = "quorum"
    strict: bool = False
    awaited: int = 1
    size: int = 3
    handover: str = ""
    pausing: bool = False

    def __str__(self) -> str:
        text = f"{self.mode}{' strict' if self.strict else ''} {self.awaited} of {self.size}"
        text = f"{text}{' pausing' if self.pausing else ''}"
        return f"{text}, {self.handover}" if self.handover else text


class Said(NamedTuple):
    """A member key: only what rules can tell apart."""

    state: str
    is_settled_primary: bool = False
    unfit: bool = False
    reach: frozenset[int] | None = None


class Node(NamedTuple):
    """One host: PostgreSQL, its disk, its agent with what it remembers, its ties to etcd.

    :param wal: what is flushed, empty without a data directory.
    :param is_primary: it is a primary, or was one when it stopped, or is started as one.
    :param names: `synchronous_standby_names`.
    :param hung: 0 no, 1 not for long, 2 for longer than `hang_timeout`.
    :param is_slow: its start takes longer than `primary_start_timeout`.
    :param owes_checkpoint: it has been promoted, the control file does not say so.
    :param settling: 2 when the agent knows the acknowledgement setting to be settled.
    :param paused: as etcd said when it answered last, the cluster is paused.
    :param alone: for how long it has had no standby, an index of `ALONE`.
    :param handover_failed: the agent knows that it tried in vain.
    """

    wal: Wal = ()
    process: str = STOPPED
    is_primary: bool = False
    upstream: int | None = None
    names: str = ""
    hung: int = 0
    is_slow: bool = False
    owes_checkpoint: bool = False
    is_sick: bool = False
    host: bool = True
    agent: bool = True
    etcd: bool = True
    lease: bool = True
    said: Said | None = None
    settling: int = 0
    alone: int = 0
    failures: int = 0
    held_back: bool = False
    handover_failed: bool = False
    paused: bool = False

    @property
    def answers(self) -> bool:
        """PostgreSQL answers queries."""
        return self.process == RUNNING and not self.hung

    @property
    def leads_here(self) -> bool:
        """PostgreSQL answers as a primary."""
        return self.answers and self.is_primary

    @property
    def position(self) -> int:
        return FIRST_POSITION + len(self.wal)

    @property
    def timeline(self) -> int:
        return self.wal[-1][0] if self.wal else 0

    def stopped(self) -> Node:
        """Return it with PostgreSQL dead."""
        return self._replace(process=STOPPED, hung=0, is_slow=False, alone=0, settling=0)

    def forgetful(self) -> Node:
        """Return it with an agent that has just begun."""
        return self._replace(
            agent=True, settling=0, alone=0, failures=0, held_back=False, handover_failed=False
        )


class World(NamedTuple):
    """Everything there is.

    :param key_is_old: the leader key hangs on a lease that its owner has lost with a reboot.
    :param late: the cluster has had no leader for longer than equals are waited for.
    :param cuts: pairs of members that do not reach each other.
    :param request: the handover that is asked for.
    :param heir: whom the lead was left to, and how many records it has to have.
    :param acknowledged: the WAL up to the last commit of which a client was told.
    """

    nodes: tuple[Node, ...]
    leader: int | None = None
    key_is_old: bool = False
    sync: SyncKey | None = None
    initialized: bool = True
    late: bool = False
    cuts: frozenset[tuple[int, int]] = frozenset()
    acknowledged: Wal = ()
    request: Handover | None = None
    heir: tuple[int, int] | None = None
    paused: bool = False

    def having(self, number: int, node: Node) -> World:
        """Return this world with another node *number*."""
        nodes = (*self.nodes[:number], node, *self.nodes[number + 1 :])
        return self._replace(nodes=nodes)

    def linked(self, one: int, other: int) -> bool:
        """Tell whether two hosts are up and reach each other."""
        pair = (min(one, other), max(one, other))
        return pair not in self.cuts and self.nodes[one].host and self.nodes[other].host

    def source(self, number: int) -> int | None:
        """Return whom standby *number* streams from: it must have a later part of the same WAL."""
        node = self.nodes[number]
        if node.is_primary or not node.answers or node.is_sick or node.upstream is None:
            return None
        upstream = self.nodes[node.upstream]
        is_there = upstream.answers and self.linked(number, node.upstream)
        return node.upstream if is_there and upstream.wal[: len(node.wal)] == node.wal else None

    def followers(self, number: int) -> list[int]:
        """Return who streams from member *number*."""
        return [each for each in range(len(self.nodes)) if self.source(each) == number]

    def serves(self, number: int) -> bool:
        """Tell whether *number* is a primary with the key, of which commits come back."""
        node = self.nodes[number]
        if self.leader != number or self.key_is_old or node.is_sick:
            return False
        wanted = wanted_by(node)
        having = {name_of(each) for each in self.followers(number)} & wanted.standbys
        return node.answers and node.is_primary and len(having) >= wanted.count


@cache
def _parsed(names: str) -> Acknowledging:
    return parse_names(names)


def wanted_by(node: Node) -> Acknowledging:
    """Return whose acknowledgement its commits wait for."""
    return _parsed(node.names)


def name_of(number: int) -> str:
    return f"pg{number + 1}"


def number_of(name: str) -> int:
    return int(name.removeprefix("pg")) - 1


# What an agent sees


@cache
def _member(number: int, said: Said, revision: int) -> Member:
    extra: dict[str, Any] = {"unfit": True} if said.unfit else {}
    if said.reach is not None:
        extra |= {"reach": sorted(map(name_of, said.reach)), "asked": revision}
    role = "primary" if said.is_settled_primary else "replica"
    return member(name_of(number), state=said.state, role=role, pgherd=extra)


@cache
def _cluster(
    asked: Asked,
    leader: tuple[int | None, bool],
    sync: SyncKey | None,
    initialized: bool,
    said: tuple[Said | None, ...],
    request: Handover | None,
    heir: tuple[int, int] | None,
    paused: bool,
) -> Cluster:
    number, is_old = leader
    key = None
    if number is not None:
        key = LeaderKey(name_of(number), OLD_LEASE if is_old else number, 5)
    keys = [_member(each, key, 1) for each, key in enumerate(said) if key is not None]
    config = {
        "synchronous_mode": asked.mode,
        "synchronous_mode_strict": asked.strict,
        "synchronous_node_count": asked.awaited,
        "pause": paused,
    }
    return Cluster(
        revision=10,
        initialize=SYSTEM_ID if initialized else None,
        leader=key,
        members={each.name: each for each in keys},
        config=config,
        sync=sync if sync and sync.leader else None,
        sync_revision=1 if sync else 0,
        numbered=sync.timeline if sync else 0,
        handover=request,
        status={"heir": _heir(*heir)} if heir is not None else {},
    )


def _heir(number: int, records: int) -> dict[str, Any]:
    # The last record is the shutdown checkpoint: who has it is beyond its beginning.
    return {"name": name_of(number), "position": FIRST_POSITION + records - 1}


class Sight(NamedTuple):
    """What a view is made of: agents that see the same decide the same."""

    asked: Asked
    number: int
    node: Node
    leader: tuple[int | None, bool]
    sync: SyncKey | None
    initialized: bool
    said: tuple[Said | None, ...]
    late: bool
    peers: tuple[Peer, ...]
    streams: bool
    diverged: bool | None
    rows: tuple[tuple[int, int], ...]
    request: Handover | None
    heir: tuple[int, int] | None


def _instance(sight: Sight) -> Instance:
    node = sight.node
    disk = "the disk is sick" if node.is_sick else ""
    if not node.wal:
        return Instance(disk=disk)
    upstream = f"{name_of(node.upstream)}:5432" if node.upstream is not None else None
    if node.process == STOPPED:
        state = "in production" if node.is_primary else "shut down in recovery"
        known = control(state)
        return Instance(has_data=True, control=known, system_id=SYSTEM_ID, disk=disk)
    if not node.answers:
        return Instance(
            process=Process.STARTING,
            has_data=True,
            system_id=SYSTEM_ID,
            in_recovery=None if node.is_primary else True,
            upstream=upstream,
            disk=disk,
        )
    rows = [
        {"application_name": name_of(number), "state": "streaming", "flush": flush}
        for number, flush in sight.rows
    ]
    return Instance(
        process=Process.RUNNING,
        has_data=True,
        system_id=SYSTEM_ID,
        in_recovery=not node.is_primary,
        timeline=node.timeline,
        checkpoint_timeline=node.timeline - node.owes_checkpoint,
        location=node.position if node.is_primary else None,
        received=None if node.is_primary else node.position,
        replayed=None if node.is_primary else node.position,
        receiver_status="streaming" if sight.streams else None,
        upstream=upstream,
        replication=tuple(rows),
        sync_names=node.names,
        disk=disk,
    )


@cache
def _seen(sight: Sight) -> tuple[View, bool]:
    """Return the view without how long it has been alone, and whether it is."""
    node = sight.node
    view = View(
        now=NOW,
        me=name_of(sight.number),
        tags=Tags(),
        instance=_instance(sight),
        cluster=_cluster(
            sight.asked,
            sight.leader,
            sight.sync,
            sight.initialized,
            sight.said,
            sight.request,
            sight.heir,
            node.paused,
        ),
        handover_failure="it failed" if node.handover_failed else None,
        store_answers=node.etcd,
        lease=Lease(sight.number, NOW + 5) if node.lease else None,
        peers={peer.name: peer for peer in sight.peers},
        unlocked_since=NOW - 10 * sight.late,
        starting_since=NOW - 1000 * node.is_slow,
        start_failures=node.failures,
        diverged=sight.diverged,
        settled=node.settling == 2,
        held_back_until=NOW + node.held_back,
        silent_seconds=1000.0 * (node.hung == 2),
    )
    return view, view.instance.is_primary and not standbys(view)


@cache
def _decided(sight: Sight) -> Decision:
    view, _ = _seen(sight._replace(node=sight.node._replace(alone=0)))
    since = ALONE[sight.node.alone]
    decision = decide(view if since is None else replace(view, alone_since=NOW - since))
    MET.add(decision.rule.name)
    return decision


def forget_decisions() -> None:
    """Have every decision made anew: the rules are others."""
    MET.clear()
    for cached in (_parsed, _member, _cluster, _seen, _decided):
        cached.cache_clear()


def reached(world: World, number: int) -> tuple[int, ...]:
    """Return whose agents answer *number*, that has just read the member keys."""
    return tuple(
        each
        for each, node in enumerate(world.nodes)
        if each != number and node.said and node.agent and world.linked(number, each)
    )


def _answer(world: World, number: int) -> Peer:
    node = world.nodes[number]
    role = ("primary" if node.is_primary else "replica") if node.answers else ""
    return Peer(
        name=name_of(number),
        role=role,
        timeline=node.timeline if node.answers else None,
        position=node.position if node.answers else 0,
        can_lead=bool(role)
        and node.etcd
        and node.lease
        and not node.is_sick
        and not node.held_back,
        receives=node.upstream is not None,
    )


def _diverged(world: World, number: int) -> bool | None:
    """Tell what the loop finds out about WAL that is not the leader's; None for not yet."""
    node, leader = world.nodes[number], world.leader
    if leader is None or leader == number or not node.answers or node.is_primary:
        return False
    there = world.nodes[leader]
    if there.wal[: len(node.wal)] == node.wal:
        return False
    if there.said is None or not there.said.is_settled_primary:
        return None
    return True if there.leads_here and world.linked(number, leader) else None


def look(asked: Asked, world: World, number: int) -> tuple[World, Sight, Decision]:
    """Return what agent *number* sees and decides, and the world with what it then remembers."""
    node = world.nodes[number]
    leads = node.leads_here
    followers = world.followers(number) if leads else []
    node = node._replace(
        lease=node.lease or node.etcd,
        paused=world.paused if node.etcd else node.paused,
        failures=0 if node.answers else node.failures,
        settling=_settling(world, node, followers) if leads else 0,
        alone=0,
    )
    asks = node.etcd and world.leader is None and node.answers
    peers = tuple(_answer(world, each) for each in reached(world, number)) if asks else ()
    sight = Sight(
        asked,
        number,
        node._replace(said=None),
        (world.leader, world.key_is_old),
        world.sync,
        world.initialized,
        tuple(each.said for each in world.nodes),
        world.late,
        peers,
        world.source(number) is not None,
        _diverged(world, number),
        tuple((each, world.nodes[each].position) for each in followers),
        world.request,
        world.heir,
    )
    if leads and _seen(sight)[1]:
        alone = max(1, world.nodes[number].alone)
        node = node._replace(alone=alone)
        sight = sight._replace(node=sight.node._replace(alone=alone))
    if node == world.nodes[number]:
        return world, sight, _decided(sight)
    return world.having(number, node), sight, _decided(sight)


def _settling(world: World, node: Node, followers: list[int]) -> int:
    """Return 2 when those who must acknowledge have all that the primary has, in a second round."""
    if node.settling != 1:
        return max(1, node.settling)
    wanted = wanted_by(node)
    have = {name_of(each) for each in followers if world.nodes[each].position == node.position}
    return 2 if len(have & wanted.standbys) >= wanted.count else 1
