# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks in a small world, is mended, or is asked for by an operator."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from agent.tests.worlds import STARTING, STOPPED, World, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.tests.world_moves import Move
    from agent.tests.worlds import Asked


def faults(world: World) -> Iterator[Move]:
    """Yield the worlds in which one more thing is broken."""
    if world.leader is not None and not world.key_is_old:
        yield "somebody deletes the leader key", world._replace(leader=None)
    for number, node in enumerate(world.nodes):
        name = name_of(number)
        if not node.host:
            continue
        if node.process != STOPPED:
            failed = node.failures + (node.process == STARTING and node.agent)
            dead = node.stopped()._replace(failures=min(1, failed))
            yield f"PostgreSQL of {name} dies", world.having(number, dead)
            if not node.hung:
                yield f"PostgreSQL of {name} hangs", world.having(number, node._replace(hung=1))
        if node.process == STARTING and not node.is_slow:
            slow = node._replace(is_slow=True)
            yield f"the start of {name} takes long", world.having(number, slow)
        if node.agent:
            yield f"the agent of {name} dies", world.having(number, node._replace(agent=False))
        lost = node.stopped()._replace(host=False, agent=False)
        yield f"the host of {name} is lost", world.having(number, lost)
        if node.etcd:
            yield f"{name} is cut off from etcd", world.having(number, node._replace(etcd=False))
        if not node.is_sick:
            yield f"the disk of {name} is sick", world.having(number, node._replace(is_sick=True))
        cuts = world.cuts | _pairs(world, number)
        if cuts != world.cuts:
            yield f"{name} is cut off from its peers", world._replace(cuts=cuts)


def wishes(asked: Asked, world: World) -> Iterator[Move]:
    """Yield the worlds in which an operator has begun or ended maintenance."""
    if asked.pausing:
        label = "maintenance is over" if world.paused else "maintenance begins"
        yield label, world._replace(paused=not world.paused)


def _pairs(world: World, number: int) -> frozenset[tuple[int, int]]:
    others = [each for each in range(len(world.nodes)) if each != number]
    return frozenset((min(number, each), max(number, each)) for each in others)


def mends(world: World) -> Iterator[Move]:
    """Yield the worlds in which one thing is mended."""
    for number, node in enumerate(world.nodes):
        name = name_of(number)
        if not node.host:
            yield f"the host of {name} is back", _back(world, number)
            continue
        if not node.agent:
            yield f"the agent of {name} is back", world.having(number, node.forgetful())
        if node.hung:
            yield f"PostgreSQL of {name} goes on", world.having(number, node._replace(hung=0))
        if not node.etcd:
            yield f"{name} reaches etcd", world.having(number, node._replace(etcd=True))
        if node.is_sick:
            yield f"the disk of {name} is well", world.having(number, node._replace(is_sick=False))
        if world.cuts & _pairs(world, number):
            cuts = world.cuts - _pairs(world, number)
            yield f"{name} reaches its peers", world._replace(cuts=cuts)


def _back(world: World, number: int) -> World:
    """Return the world in which the host has booted: its agent has to ask for a new lease."""
    node = world.nodes[number].forgetful()._replace(host=True)
    if node.lease and world.leader == number:
        world = world._replace(key_is_old=True)
    return world.having(number, node)


def healed(world: World, well: Iterable[int], *, links: bool = True) -> World:
    """Return the world with all that the agents of *well* need.

    :param links: that they reach one another is part of it.
    """
    for number in well:
        if not world.nodes[number].host:
            world = _back(world, number)
        node = world.nodes[number]
        node = node if node.agent else node.forgetful()
        node = node._replace(etcd=True, is_sick=False, is_slow=False)
        world = world._replace(paused=False)
        world = world.having(number, node)
    if links:
        world = world._replace(cuts=world.cuts - set(combinations(sorted(well), 2)))
    return world
