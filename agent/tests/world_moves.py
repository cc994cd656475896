# SPDX-License-Identifier: GPL-3.0-or-later
"""Every move that a small world can make: what agents do, what WAL and time do.

What an agent's actions do is modelled, long operations end in one step. What all members share and
no rule can tell is taken out (`tidy`), so that worlds which differ in nothing are one.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Final

from agent.tests.world_faults import mends, wishes
from agent.tests.worlds import (
    ALONE,
    RUNNING,
    STARTING,
    STOPPED,
    Asked,
    Node,
    Said,
    Sight,
    Wal,
    World,
    look,
    name_of,
    number_of,
    reached,
    wanted_by,
)
from pgherd.actions import (
    Action,
    Bootstrap,
    Clone,
    Demote,
    EndHandover,
    Follow,
    HandOver,
    KeepSlots,
    Lead,
    Promote,
    Rejoin,
    ReleaseKey,
    SetSyncNames,
    StartPrimary,
    StartStandby,
    StopReceiving,
    TakeKey,
    WriteSync,
)
from pgherd.model import SyncKey
from pgherd.quorum import succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgherd.decide import Decision
    from pgherd.quorum import Acknowledging

Move = tuple[str, World]
# What may be decided on a world that is no more when it is done.
RACING: Final = (
    TakeKey, ReleaseKey, WriteSync, Promote, Rejoin, Clone, StartPrimary, HandOver, EndHandover
)  # fmt: skip
# So far may the WAL of a leader be ahead of what all members have, in records.
WRITES: Final = 1


class LostCommitError(AssertionError):
    """A primary goes on without a commit of which a client was told."""


# What an agent does


def act(world: World, number: int, sight: Sight, decision: Decision) -> World:
    """Return the world after *number* has done what it decided at *sight*, and told others."""
    for action in decision.actions:
        world = _done(world, number, sight, action)
    node = world.nodes[number]
    if node.etcd and node.lease:
        said = _published(world, sight)
        if said != node.said:
            world = world.having(number, node._replace(said=said))
    return tidy(check(sight.asked, world))


def _published(world: World, sight: Sight) -> Said:
    """Return the member key as it is from the end of this turn on, until the next one."""
    number = sight.number
    node = world.nodes[number]
    may_write = node.process != STOPPED and node.is_primary
    asked = sight.sync is not None and sight.sync.isolated and sight.leader[0] is not None
    # The answer stands for the question that was seen.
    asked = asked and world.sync == sight.sync and not may_write
    return Said(
        node.process if not node.hung else STARTING,
        is_settled_primary=node.answers and node.is_primary and not node.owes_checkpoint,
        unfit=node.is_sick,
        reach=frozenset(reached(world, number)) if asked else None,
    )


def _done(world: World, number: int, sight: Sight, action: Action) -> World:
    node = world.nodes[number]
    match action:
        case Lead() | KeepSlots():
            if not node.owes_checkpoint:
                return world
            return world.having(number, node._replace(owes_checkpoint=False))
        case TakeKey() | ReleaseKey() | WriteSync():
            return _written(world, number, sight, action)
        case Demote():
            return world.having(number, node.stopped())
        case SetSyncNames(names):
            return world.having(number, node._replace(names=names, settling=0))
        case Follow(leader):
            return world.having(number, node._replace(upstream=number_of(leader.name)))
        case StopReceiving():
            return world.having(number, node._replace(upstream=None)) if node.answers else world
        case Promote(names, timeline):
            return world.having(number, _promoted(node, number, names, timeline))
        case StartPrimary(names):
            if node.process == STOPPED and node.is_sick:
                return world.having(number, node._replace(failures=node.failures + 1))
            started = node._replace(
                process=STARTING, is_primary=True, upstream=None, names=names, settling=0
            )
            return world.having(number, started)
        case StartStandby():
            return world.having(number, _as_standby(node, None))
        case Rejoin(leader):
            return _rejoined(world, number, number_of(leader.name))
        case Clone(source):
            assert source is not None, "no backups here"
            return _rejoined(world, number, number_of(source.name))
        case Bootstrap():
            return _born(world, number)
        case HandOver(_, heir):
            return _handed_over(world, number, number_of(heir.name), sight)
        case EndHandover(request):
            if world.leader == number and not world.key_is_old and world.request == request:
                return world._replace(request=None)
            return world
    raise NotImplementedError(action)


def _written(world: World, number: int, sight: Sight, action: Action) -> World:
    """Return the world after a transaction on the leader key and `/sync` as they were seen."""
    node = world.nodes[number]
    if not (node.etcd and node.lease):
        return world
    same = world.sync == sight.sync
    holds = world.leader == number and not world.key_is_old
    if isinstance(action, ReleaseKey) and holds:
        return world.having(number, node._replace(held_back=True))._replace(leader=None)
    if isinstance(action, TakeKey) and world.leader is None and same:
        world = world._replace(leader=number, late=False, key_is_old=False, heir=None)
        return _with_sync(world, action.sync) if action.sync is not None else world
    if isinstance(action, WriteSync) and holds and same:
        return _with_sync(world, action.sync)
    return world


def _with_sync(world: World, sync: SyncKey | None) -> World:
    """Return the world with another `/sync`; answers to the question of the old one are void."""
    sync = sync and SyncKey(sync.leader, sync.electing, 1, sync.isolated, sync.timeline)
    nodes = tuple(
        node._replace(said=node.said and node.said._replace(reach=None)) for node in world.nodes
    )
    return world._replace(sync=sync, nodes=nodes)


def _handed_over(world: World, number: int, heir: int, sight: Sight) -> World:
    """Return the world in which *number* has stopped, and left the lead to *heir* if it could."""
    node, there = world.nodes[number], world.nodes[heir]
    if not node.answers or not node.is_primary or world.leader != number or world.key_is_old:
        return world
    gets_all = world.source(heir) == number and node.etcd and node.lease
    stopped = node.stopped()
    if not gets_all or world.sync != sight.sync:
        return world.having(number, stopped._replace(handover_failed=True))
    world = world.having(heir, there._replace(wal=node.wal))
    world = world.having(number, stopped._replace(held_back=True))
    world = world._replace(leader=None, heir=(heir, len(node.wal)))
    if world.sync is None or not world.sync.leader:
        return world
    _, electing = succeed(world.sync.electing, world.sync.leader, name_of(heir))
    numbered = max(world.sync.timeline, node.timeline) + 1
    return _with_sync(world, SyncKey(name_of(heir), electing, timeline=numbered))


def _promoted(node: Node, number: int, names: str, timeline: int) -> Node:
    if not node.answers or node.is_primary or not node.lease:
        return node
    return node._replace(
        wal=(*node.wal, (max(node.timeline + 1, timeline), number)),
        is_primary=True,
        upstream=None,
        names=names,
        owes_checkpoint=True,
        settling=0,
    )


def _as_standby(node: Node, upstream: int | None) -> Node:
    return node.stopped()._replace(
        process=STARTING, is_primary=False, upstream=upstream, names="", owes_checkpoint=False
    )


def _rejoined(world: World, number: int, leader: int) -> World:
    node, there = world.nodes[number], world.nodes[leader]
    if not (there.answers and there.is_primary and world.linked(number, leader)):
        return world
    is_past = node.wal and there.wal[: len(node.wal)] == node.wal
    copied = node if is_past else node._replace(wal=there.wal)
    return world.having(number, _as_standby(copied, leader))


def _born(world: World, number: int) -> World:
    node = world.nodes[number]
    if world.initialized or world.leader is not None or not node.etcd:
        return world
    born = node._replace(wal=((1, number),), process=RUNNING, is_primary=True)
    return world.having(number, born)._replace(initialized=True, leader=number)


# What holds in every world


def check(asked: Asked, world: World) -> World:
    """Return the world with the commits of which clients have been told by now.

    :raises LostCommitError: one of them is not in the WAL of a primary that acknowledges more, or
        has just been elected.
    """
    if asked.mode == "off":
        return world
    told = world.acknowledged
    for number, node in enumerate(world.nodes):
        if not node.answers or not node.is_primary or node.is_sick:
            continue
        known = _acknowledged(world, number, wanted_by(node))
        if known[: len(told)] != told[: len(known)]:
            raise LostCommitError(f"{name_of(number)} acknowledges {known}, told was {told}")
        leads = world.leader == number and not world.key_is_old
        if leads and node.wal[: len(told)] != told:
            raise LostCommitError(f"{name_of(number)} leads with {node.wal}, told was {told}")
        told = max(told, known, key=len)
    return world._replace(acknowledged=told)


def _acknowledged(world: World, number: int, wanted: Acknowledging) -> Wal:
    wal = world.nodes[number].wal
    having = sorted(
        (
            len(world.nodes[each].wal)
            for each in world.followers(number)
            if name_of(each) in wanted.standbys
        ),
        reverse=True,
    )
    if wanted.count == 0:
        return wal
    return wal[: having[wanted.count - 1]] if len(having) >= wanted.count else ()


def tidy(world: World) -> World:
    """Return the world without WAL that every member has, timelines counted from 1 again."""
    wals = [node.wal for node in world.nodes if node.wal]
    if not wals or (min(map(len, wals)) == 1 and any(wal[0][0] == 1 for wal in wals)):
        return world
    shared = 0
    for records in zip(*wals, strict=False):
        if any(record != records[0] for record in records):
            break
        shared += 1
    cut = max(0, shared - 1)
    down = min(wal[cut][0] for wal in wals) - 1 if shared else 0
    if not cut and not down:
        return world

    def less(wal: Wal) -> Wal:
        return tuple((timeline - down, writer) for timeline, writer in wal[cut:])

    number = world.sync.timeline - down if world.sync is not None else 0
    return world._replace(
        sync=world.sync and replace(world.sync, timeline=max(0, number)),
        nodes=tuple(node._replace(wal=less(node.wal)) for node in world.nodes),
        acknowledged=less(world.acknowledged),
        heir=world.heir and (world.heir[0], world.heir[1] - cut),
    )


def everybody(world: World) -> Iterator[int]:
    """Yield the members whose agents run."""
    return (number for number, node in enumerate(world.nodes) if node.agent and node.host)


# What WAL and time do


def flows(world: World) -> Iterator[Move]:
    """Yield the worlds in which a standby has got what its upstream has."""
    for number, node in enumerate(world.nodes):
        source = world.source(number)
        if source is not None and world.nodes[source].wal != node.wal:
            wal = world.nodes[source].wal
            yield f"{name_of(number)} receives WAL", world.having(number, node._replace(wal=wal))


def times(world: World) -> Iterator[Move]:
    """Yield the worlds in which one more timer is over, or a start has come to its end."""
    if world.leader is None and not world.late:
        yield "equals have waited for each other", world._replace(late=True)
    if world.key_is_old:
        yield "the old lease of the leader ends", world._replace(leader=None, key_is_old=False)
    for number, node in enumerate(world.nodes):
        name = name_of(number)
        if node.process == STARTING and not node.hung and not node.is_slow:
            yield f"{name} is up", world.having(number, node._replace(process=RUNNING))
        if node.hung == 1:
            yield f"{name} hangs for too long", world.having(number, node._replace(hung=2))
        if node.held_back and (world.late or world.leader is not None):
            # It lasts two leases, in which the others have come to terms.
            over = node._replace(held_back=False)
            yield f"{name} need not hold back any more", world.having(number, over)
        if 0 < node.alone < len(ALONE) - 1:
            longer = node._replace(alone=node.alone + 1)
            yield f"{name} stays alone", world.having(number, longer)
        if node.is_sick and node.answers and node.is_primary:
            yield f"{name} cannot write and dies", world.having(number, node.stopped())
        if node.lease and node.agent and not node.etcd:
            yield (
                f"the lease of {name} is over for itself",
                world.having(number, node._replace(lease=False)),
            )
        elif (node.lease or node.said) and not (node.agent and node.etcd):
            yield f"the lease of {name} ends", _without_lease(world, number)


def _without_lease(world: World, number: int) -> World:
    """Return the world in which etcd has let go of *number*, and its guard has done its duty."""
    node = world.nodes[number]
    # In maintenance mode nobody sees to it.
    if node.is_primary and not node.paused:
        node = node.stopped()
    world = world.having(number, node._replace(lease=False, said=None))
    return world._replace(leader=None) if world.leader == number else world


def writes(world: World) -> Iterator[Move]:
    """Yield the worlds in which a client has written something."""
    for number, node in enumerate(world.nodes):
        shortest = min(len(each.wal) for each in world.nodes if each.wal) if node.wal else 0
        is_able = node.answers and node.is_primary and not node.is_sick
        if is_able and len(node.wal) < shortest + WRITES:
            record = (node.timeline, number)
            written = node._replace(wal=(*node.wal, record))
            yield f"{name_of(number)} writes", world.having(number, written)


# What agents do


def turns(asked: Asked, world: World) -> Iterator[Move]:
    """Yield the worlds after one agent's turn, and those where another's came in between."""
    looks = [(number, *look(asked, world, number)) for number in everybody(world)]
    for number, seen, sight, decision in looks:
        turn = f"{name_of(number)}: {decision.rule.name}"
        yield turn, act(seen, number, sight, decision)
        if not any(isinstance(action, RACING) for action in decision.actions):
            continue
        for other, _, _, decided in looks:
            if other == number or not any(isinstance(each, RACING) for each in decided.actions):
                continue
            between = step(asked, seen, other)
            if between.nodes[number] == seen.nodes[number]:
                story = f"{turn}, decided before {name_of(other)}: {decided.rule.name}"
                yield story, act(between, number, sight, decision)


def step(asked: Asked, world: World, number: int) -> World:
    seen, sight, decision = look(asked, world, number)
    return act(seen, number, sight, decision)


def fair_round(asked: Asked, world: World) -> World:
    """Return the world after each agent's turn, after WAL has flowed and time has passed."""
    for number in everybody(world):
        world = step(asked, world, number)
    for kind in (flows, times):
        world = all_of(asked, world, kind)
    return world


def all_of(asked: Asked, world: World, kind: Callable[[World], Iterator[Move]]) -> World:
    """Return the world after every move of *kind* that it had to begin with, once each."""
    for label in [label for label, _ in kind(world)]:
        following = dict(kind(world)).get(label)
        if following is not None:
            world = tidy(check(asked, following))
    return world


def every_turn(asked: Asked, world: World) -> Iterator[Move]:
    """Yield all moves but faults."""
    yield from turns(asked, world)
    for kind in (flows, times, writes, mends):
        for label, following in kind(world):
            yield label, tidy(check(asked, following))
    yield from wishes(asked, world)


def lockstep(asked: Asked, world: World) -> Iterator[Move]:
    """Yield all moves but faults when agents go round together, in any order, and WAL flows."""
    for order in permutations(everybody(world)):
        following, names = world, []
        for number in order:
            seen, sight, decision = look(asked, following, number)
            following = act(seen, number, sight, decision)
            names.append(f"{name_of(number)}: {decision.rule.name}")
        yield ", ".join(names), following
    for kind in (flows, times):
        following = all_of(asked, world, kind)
        if following != world:
            yield f"all that can: {kind.__name__}", following
    for kind in (writes, mends):
        for label, following in kind(world):
            yield label, tidy(check(asked, following))
    yield from wishes(asked, world)
