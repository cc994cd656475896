# SPDX-License-Identifier: GPL-3.0-or-later
"""Every state of the decision table can be left: all small worlds with few faults, walked.

From every world that agents, WAL, time and a few faults can bring about, and for every majority of
members that is well from then on, the cluster must come to rest with exactly one primary, which
holds the key and acknowledges commits, whatever else stays broken. On the way no commit of which a
client was told is missing from a primary that leads.
"""

from __future__ import annotations

import gc
import os
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from agent.tests.world_faults import faults, healed
from agent.tests.world_moves import (
    LostCommitError,
    Move,
    check,
    every_turn,
    everybody,
    fair_round,
    lockstep,
)
from agent.tests.worlds import (
    MET,
    STOPPED,
    Asked,
    Node,
    World,
    forget_decisions,
    look,
    name_of,
)
from pgherd import decide
from pgherd.handover import Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pgherd.view import Peer, View

# So many faults lie on one path at most; what was broken may be mended at any time. With 2, three
# members take hours and some gigabytes.
FAULTS: Final = int(os.environ.get("PGHERD_WALK_FAULTS", "1"))
# Rounds within which the cluster has come to rest, each one turn of every agent.
ROUNDS: Final = 40
# Where time passes and agents do not move, leaders change for ever: when so many timelines differ
# the world is judged, but not left any more.
TIMELINES: Final = 2
# Of a world that is stuck so many rounds are shown.
SHOWN: Final = 10


class Stuck(NamedTuple):
    """A world that cannot be left, though *well* are well, and reach one another if *linked*."""

    world: World
    well: tuple[int, ...]
    linked: bool = True

    @property
    def begin(self) -> World:
        return healed(self.world, self.well, links=self.linked)


class Walk:
    """All worlds that can be reached from one at rest, with the moves that lead there.

    :param pace: what moves there are but faults.
    :ivar excused: cases in which those who are well cannot know that they have every commit.
    """

    def __init__(self, asked: Asked, pace: Callable[[Asked, World], Iterator[Move]]) -> None:
        forget_decisions()
        self.asked = asked
        self.pace = pace
        start = steady(asked)
        self.came: dict[World, tuple[World | None, str]] = {start: (None, "all is well")}
        self.excused = 0
        self._rests: dict[World, World | None] = {}

    def stuck(self, limit: int) -> Stuck | None:
        """Walk with *limit* faults on a path at most; return the first world one is stuck in."""
        layer = list(self.came)
        for broken in range(limit + 1):
            everything: list[World] = []
            while layer:
                found: list[World] = []
                for world in layer:
                    found += self._after(world)
                    stuck = next((case for case in self._cases(world) if self._stays(case)), None)
                    if stuck is not None:
                        return stuck
                everything += layer
                layer = found
            if broken < limit:
                for world in everything:
                    broken_ones = ((text, check(self.asked, each)) for text, each in faults(world))
                    layer += self._new(world, broken_ones)
        return None

    def _after(self, world: World) -> list[World]:
        if max(node.timeline for node in world.nodes) > TIMELINES:
            return []
        try:
            return self._new(world, self.pace(self.asked, world))
        except LostCommitError as lost:
            raise LostCommitError(f"{self.story(world)}\n{lost}") from None

    def _new(self, world: World, following: Iterable[Move]) -> list[World]:
        found = []
        for label, other in following:
            if other not in self.came:
                self.came[other] = (world, label)
                found.append(other)
        return found

    def _cases(self, world: World) -> Iterator[Stuck]:
        """Yield who may be well from *world* on."""
        size = self.asked.size
        for count in range(size // 2 + 1, size + 1):
            for well in combinations(range(size), count):
                yield Stuck(world, well)
        if world.cuts and not self.asked.strict:
            # They are all up and have etcd, so one of them can lead, alone if need be.
            yield Stuck(world, tuple(range(size)), linked=False)

    def _stays(self, case: Stuck) -> bool:
        begin = case.begin
        try:
            rest = self._rest(begin)
        except LostCommitError as lost:
            raise LostCommitError(f"{self.explain(case)}\n{lost}") from None
        if rest is not None and is_good(rest, case.well if case.linked else ()):
            return False
        if may_lack_a_commit(self.asked, begin, case.well):
            self.excused += 1
            return False
        return True

    def _rest(self, world: World) -> World | None:
        """Return the world in which all comes to rest, None when it does not."""
        path = [world]
        while path[-1] not in self._rests and len(path) <= ROUNDS:
            following = fair_round(self.asked, path[-1])
            if following == path[-1]:
                self._rests[following] = following
                break
            path.append(following)
        rest = self._rests.get(path[-1])
        self._rests.update(dict.fromkeys(path, rest))
        return rest

    def story(self, end: World) -> str:
        """Return the moves that lead to *end*."""
        lines: list[str] = []
        world: World | None = end
        while world is not None:
            world, label = self.came[world]
            lines.insert(0, label)
        return "\n".join(lines)

    def explain(self, stuck: Stuck) -> str:
        """Return the moves to *stuck*, and the rules the members are in from there on."""
        lines = [self.story(stuck.world)]
        linked = "reach one another" if stuck.linked else "stay cut off as they are"
        lines.append(f"From now on {', '.join(map(name_of, stuck.well))} are well and {linked}:")
        begin = stuck.begin
        for _ in range(SHOWN):
            lines += self._state(begin)
            try:
                begin = fair_round(self.asked, begin)
            except LostCommitError:
                break
        return "\n".join(lines)

    def _state(self, world: World) -> Iterator[str]:
        leader = name_of(world.leader) if world.leader is not None else "nobody"
        yield f"leader {leader}, sync {world.sync and world.sync.published()}, cut {world.cuts}"
        for number in everybody(world):
            _, _, decision = look(self.asked, world, number)
            node = world.nodes[number]
            told = {k: v for k, v in node._asdict().items() if v != Node._field_defaults[k]}
            yield f"    {name_of(number)} {decision.rule.name}: {told}"


def is_good(world: World, well: tuple[int, ...]) -> bool:
    """Tell whether one primary leads, and whoever of *well* reaches it streams from it."""
    running = (each for each, node in enumerate(world.nodes) if node.process != STOPPED)
    primaries = [number for number in running if world.nodes[number].is_primary]
    if len(primaries) != 1 or not world.serves(primaries[0]) or world.request is not None:
        return False
    [leader] = primaries
    others = (number for number in well if number != leader and world.linked(number, leader))
    return all(world.source(number) == leader for number in others)


def may_lack_a_commit(asked: Asked, world: World, well: tuple[int, ...]) -> bool:
    """Tell whether those that are well cannot know that they have every acknowledged commit."""
    if world.initialized and not any(world.nodes[number].wal for number in well):
        return True
    if asked.mode == "off" or world.sync is None:
        return False
    names = {name_of(number) for number in well}
    if world.sync.leader in names:
        return False
    return len(names & world.sync.electorate) <= world.sync.electing.quorum


def steady(asked: Asked) -> World:
    """Return the world at rest after one has created the cluster and the others have joined."""
    world = World(tuple(Node() for _ in range(asked.size)), initialized=False)
    for _ in range(ROUNDS):
        world = fair_round(asked, world)
    assert is_good(world, tuple(range(asked.size)))
    return world._replace(request=request(asked, world))


def request(asked: Asked, world: World) -> Handover | None:
    """Return the handover that is asked for, None when none is."""
    if not asked.handover:
        return None
    leader = name_of(world.leader) if world.leader is not None else None
    kind, _, best = asked.handover.partition(" to the ")
    candidate = None if best else name_of(asked.size - 1)
    return Handover(leader if kind == "switchover" else None, candidate, id="1")


@pytest.fixture(autouse=True)
def _no_cycles() -> Iterator[None]:
    """Spare the collector the walk: it keeps all it makes, and looking through it takes long."""
    gc.collect()
    gc.disable()
    yield
    forget_decisions()
    gc.enable()


class Outcome(NamedTuple):
    """What a walk has found: how many worlds, which rules, and the story of the first stall."""

    worlds: int
    excused: int
    met: frozenset[str]
    stall: str


@cache
def outcome(asked: Asked, pace: Callable[[Asked, World], Iterator[Move]], limit: int) -> Outcome:
    walk = Walk(asked, pace)
    stuck = walk.stuck(limit)
    stall = walk.explain(stuck) if stuck is not None else ""
    return Outcome(len(walk.came), walk.excused, frozenset(MET), stall)


WALKS: Final = [
    (Asked("quorum"), lockstep, FAULTS),
    (Asked("quorum", strict=True), lockstep, FAULTS),
    (Asked("on"), lockstep, FAULTS),
    (Asked("off"), lockstep, FAULTS),
    (Asked("quorum", size=2), every_turn, FAULTS),
    (Asked("off", size=2), every_turn, FAULTS),
    (Asked("off"), every_turn, FAULTS),
    (Asked("quorum", handover="switchover"), lockstep, FAULTS),
    (Asked("quorum", size=2, handover="switchover to the best"), every_turn, FAULTS),
    (Asked("on", size=2, handover="failover"), lockstep, FAULTS),
    (Asked("off", size=2, handover="switchover"), lockstep, FAULTS),
    # With a fault these are too many: in maintenance mode nothing leads back to rest.
    (Asked("quorum", pausing=True), lockstep, 0),
    (Asked("off", size=2, pausing=True), every_turn, 0),
]


@pytest.mark.parametrize(("asked", "pace", "limit"), WALKS)
def test_a_majority_that_is_well_always_ends_with_a_primary(
    asked: Asked, pace: Callable[[Asked, World], Iterator[Move]], limit: int
) -> None:
    """Agents go round together, in any order, or each whenever it likes, late decisions included.

    Without enough of the electorate nobody may lead; one fault must not bring that about.
    """
    found = outcome(asked, pace, limit)
    if found.stall:
        pytest.fail(found.stall, pytrace=False)
    assert found.worlds > (300 if limit else 5)
    assert found.excused == 0 or limit > 1


# Rules for what no walk has: the operator's wishes, failsafe mode, an agent that never heard of the
# cluster, an operation under way (here they end at once), data that is gone or not there yet.
NOT_WALKED: Final = {
    "busy",
    "give_up_key_without_data",
    "keep_promise",
    "lead_by_promise",
    "minority",
    "promised",
    "refuse_foreign_data",
    # PostgreSQL keeps to a timeline: the worlds know nothing of how it chooses one.
    "rejoin_stuck",
    # Nor of logical slots.
    "copy_slots",
    # Another cluster to follow, and members that must not stream, are the operator's wishes, too.
    "demote_cluster",
    "hand_over_standbys",
    "lead_standbys",
    "stop_streaming",
    "stop",
    # Nobody stops PostgreSQL by hand.
    "finish_stop",
    # A restart ends at once in these worlds, and is asked for by nobody.
    "begin_scheduled_restart",
    "drop_scheduled_restart",
    "clear_data",
    "leave_sync_first",
    # Nothing breaks in the walks with maintenance.
    "give_up_key_in_pause",
    "paused",
    "wait_in_pause",
    "move_turn",
    "take_turn",
    "restart_primary",
    "restart_standby",
    "wait_for_etcd",
    # Nobody deletes all keys here.
    "wait_for_initialize",
    "wait_for_source",
    # Backups are the operator's, and what they lead to: a restored leader, WAL of higher limits.
    "restore",
    "lead_restored",
    "raise_limits",
}
# What one fault does not lead to.
NEED_MORE_FAULTS: Final = {
    "begin_sync",
    "demote_behind_history",
    "follow_while_starting",
    "give_up_unelected_key",
    "read_etcd_first",
    "rejoin_while_starting",
    "start_takes_too_long",
}


def test_the_walks_meet_every_rule_that_faults_can_bring_about() -> None:
    met = frozenset[str]().union(*(outcome(*walk).met for walk in WALKS))
    unmet = {rule.name for rule in decide.RULES} - met
    assert unmet - NOT_WALKED <= NEED_MORE_FAULTS
    assert not met & NOT_WALKED


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("kill_hung", Asked("off")),
        ("follow", Asked("off")),
        ("take_key", Asked("off")),
        ("restart_crashed_primary", Asked("off")),
        ("give_up_key", Asked("off")),
        ("rejoin_diverged", Asked("quorum")),
        ("stop_receiving", Asked("quorum")),
        ("hand_over_cut_off", Asked("quorum", strict=True)),
    ],
)
def test_without_a_rule_the_walk_finds_the_stall(
    name: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the walk itself."""
    monkeypatch.setattr(decide, "RULES", tuple(r for r in decide.RULES if r.name != name))
    walk = Walk(asked, lockstep)
    stuck = walk.stuck(1)
    assert stuck is not None
    assert "From now on" in walk.explain(stuck)


def test_candidates_that_wait_for_their_equals_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of pg_auto_failover was seen to wait for itself, it being the furthest ahead."""

    def is_not_behind(view: View, peer: Peer) -> bool:
        return peer.can_lead and peer.history >= (view.instance.timeline, view.instance.position)

    monkeypatch.setattr("pgherd.rules.election._is_ahead", is_not_behind)
    walk = Walk(Asked("off"), lockstep)
    stuck = walk.stuck(1)
    assert stuck is not None
    assert "peer_is_ahead" in walk.explain(stuck)


def test_commits_that_wait_for_nobody_are_found_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    without = tuple(rule for rule in decide.RULES if rule.name != "adjust_sync")
    monkeypatch.setattr(decide, "RULES", without)
    walk = Walk(Asked("quorum"), lockstep)
    with pytest.raises(LostCommitError, match="told was"):
        walk.stuck(1)
