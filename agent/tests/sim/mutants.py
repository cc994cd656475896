# SPDX-License-Identifier: GPL-3.0-or-later
"""Safety rules and checks taken out one at a time: the simulator must notice each of them.

Not in the table are checks that others stand in for, so that taking out one alone changes nothing
that can be seen: the rule `demote_without_key` (the guard), the comparison of /sync's revision when
the key is taken (the create revision of the key), `was_succeeded` before a key is retaken (the
peers' timelines, and the guard).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from agent.tests.sim.faults import Fault
from pgherd import decide
from pgherd.etcd import Compare
from pgherd.model import Lease
from pgherd.quorum import Acknowledging, Electing, Step
from pgherd.view import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.lease import LeaseKeeper

    Patch = Any

# True of every key: a revision or lease compared with itself.
ALWAYS: Final = Compare("/nothing", "create_revision", 0)


@dataclass(frozen=True)
class Mutant:
    """One thing taken out.

    :param how: makes the patches that take it out.
    :param plan: what the histories that show it have in common.
    """

    name: str
    what: str
    how: Callable[[], tuple[Patch, ...]]
    plan: Mapping[str, Any] = field(default_factory=dict)

    def applied(self) -> ExitStack:
        """Take it out until the context ends."""
        stack = ExitStack()
        for each in self.how():
            stack.enter_context(each)
        return stack


def _without_rule(name: str) -> tuple[Patch, ...]:
    rules = tuple(rule for rule in decide.RULES if rule.name != name)
    assert len(rules) < len(decide.RULES)
    return (patch("pgherd.decide.RULES", rules),)


def _never(*targets: str) -> tuple[Patch, ...]:
    return tuple(patch(target, lambda *arguments: False) for target in targets)


def _guard_off() -> tuple[Patch, ...]:
    return (patch("agent.tests.sim.host.SimGuard.look", lambda guard, deadline=None: None),)


def _validity_from_the_answer() -> tuple[Patch, ...]:
    def extend(keeper: LeaseKeeper, lease: int, sent: float) -> None:
        is_new = keeper.lease is None or keeper.lease.id != lease
        keeper.lease = Lease(lease, keeper._clock() + keeper._ttl)
        keeper._renewed(keeper.lease.valid_until)
        if is_new:
            keeper._save()

    return (patch("pgherd.lease.LeaseKeeper._extend", extend),)


def _take_leader_unconditionally() -> tuple[Patch, ...]:
    def compare(key: str, target: str, value: Any) -> Compare:
        is_free = key.endswith("/leader") and target == "create_revision" and value == 0
        return ALWAYS if is_free else Compare(key, target, value)

    # Every leader writes /sync when it takes the key, so its revision would tell as well.
    any_sync = patch("pgherd.store.Store._sync_is", lambda store, revision: ALWAYS)
    return (patch("pgherd.store.Compare", compare), any_sync)


def _positions_do_not_matter() -> tuple[Patch, ...]:
    class Behind:
        """Compares as no more than anything."""

        def __le__(self, other: object) -> bool:
            return True

        def __gt__(self, other: object) -> bool:
            return False

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    return (patch.object(Peer, "history", property(lambda peer: Behind())),)


def _any_answer_votes() -> tuple[Patch, ...]:
    stays = _without_rule("stop_receiving")
    return (*stays, patch.object(Peer, "votes", property(lambda peer: True)))


def _acknowledging_first(
    have: tuple[Acknowledging, Electing], want: tuple[Acknowledging, Electing], *, settled: bool
) -> Step | None:
    if have[0] != want[0]:
        return want[0]
    return want[1] if have[1] != want[1] else None


def _electing_first(
    have: tuple[Acknowledging, Electing], want: tuple[Acknowledging, Electing], *, settled: bool
) -> Step | None:
    if have[1] != want[1]:
        return want[1]
    return want[0] if have[0] != want[0] else None


def _step(order: Callable[..., Step | None]) -> tuple[Patch, ...]:
    return (patch("pgherd.rules.sync.next_step", order),)


def _settled_at_once() -> tuple[Patch, ...]:
    return (patch("pgherd.tracking.Tracker._is_settled", lambda tracker, instance: True),)


def _sync_stays() -> tuple[Patch, ...]:
    return (patch("pgherd.rules.election.succession", lambda view: None),)


def _numbers_of_postgresql() -> tuple[Patch, ...]:
    from pgherd.rules.successors import succession

    def succeed(view: Any) -> Any:
        return succession(view) if view.sync is not None else None

    return (
        *_without_rule("reserve_timeline"),
        patch("pgherd.rules.election.succession", succeed),
    )


def _unfenced() -> tuple[Patch, ...]:
    return (patch("pgherd.store.Store._ours", lambda store, leader: ALWAYS),)


def _promises_anybody() -> tuple[Patch, ...]:
    return (
        patch("pgherd.failsafe.Failsafe.promise", lambda *arguments: (200, "Accepted")),
        patch("pgherd.failsafe.Failsafe.promised_to", lambda *arguments: None),
    )


def _majority_of_one() -> tuple[Patch, ...]:
    async def request(peers: Any, members: Any, body: Any, within: float) -> dict[str, int]:
        return dict.fromkeys(members, 0)

    return (patch("agent.tests.sim.agent.SimPeers.request_promises", request),)


def _never_diverged() -> tuple[Patch, ...]:
    async def diverged(*arguments: Any) -> None:
        return None

    async def not_diverged(*arguments: Any) -> bool:
        return False

    return (
        patch("pgherd.rejoin.diverged", diverged),
        patch("pgherd.descent.Descent.judge", not_diverged),
    )


def _names_after_promotion() -> tuple[Patch, ...]:
    return (
        patch("pgherd.rules.standby.leading_names", lambda view: ""),
        patch("pgherd.rules.recovery.leading_names", lambda view: ""),
    )


def _stale_succession() -> tuple[Patch, ...]:
    from pgherd.rules.successors import succession

    def succeed(view: Any) -> Any:
        key = succession(view)
        return replace(key, electing=Electing(key.electing.voters, 0))

    return (patch("pgherd.rules.election.succession", succeed),)


def _heir_at_once() -> tuple[Patch, ...]:
    async def has(*arguments: Any) -> bool:
        return True

    return (
        patch("pgherd.switchover.Switchover._has", has),
        patch("pgherd.rules.handover.is_heir", _is_named),
    )


def _is_named(view: Any) -> bool:
    heir = view.cluster.heir if view.cluster else None
    return heir is not None and heir[0] == view.me


# The choice of a fault that makes it a cut from etcd, both ways (see `faults.cut`).
CUT_FROM_ETCD: Final = 0.0031

# What histories have in common that show a mutant; the agent as it is lives through them, too.
SYNC: Final = {"mode": "quorum", "members": 3, "tags": ({}, {}, {}), "rates": (1.0, 1.0, 1.0)}
FAILSAFE: Final = {**SYNC, "failsafe": True, "kinds": ("cut", "trouble_etcd", "pause_host")}
ELECTIONS: Final = {**SYNC, "kinds": ("cut_standby", "lose_host", "cut", "pause_host")}
HANDOVERS: Final = {**SYNC, "kinds": ("crash_postgres", "cut_standby", "lose_host", "cut")}
TRANSITIONS: Final = {**SYNC, "kinds": ("cut_standby", "reconfigure", "lose_host", "cut")}
LATE: Final = {"ttl": 2, "kinds": ("late_requests", "trouble_etcd", "bad_network", "cut")}
# The answers of etcd come late, and then none come any more.
CUT_OFF: Final[dict[str, Any]] = {
    "mode": "off", "members": 3, "ttl": 2, "tags": ({}, {}, {}), "rates": (1.0, 1.0, 1.0),
    "failsafe": False, "guarded": True, "gone": False,
    "faults": tuple(
        fault
        for at in (3.0, 20.0, 37.0)
        for fault in (
            Fault(at, 1.7, "bad_network", None, 0.3),
            Fault(at + 1.5, 8.0, "cut", None, CUT_FROM_ETCD),
        )
    ),
}  # fmt: skip
# Each of two leads while the other is away, both from the same place on, and then they meet.
STRANGERS: Final[dict[str, Any]] = {
    "mode": "off", "members": 2, "ttl": 2, "tags": ({}, {}), "rates": (1.0, 1.0),
    "failsafe": False, "guarded": True, "gone": False,
    "faults": (
        Fault(2.0, 5.0, "lose_host", 0, 0.5),
        Fault(8.2, 9.0, "pause_host", 1, 0.5),
        Fault(15.0, 2.5, "pause_host", 0, 0.5),
    ),
}  # fmt: skip
UNGUARDED: Final = {**SYNC, "guarded": False, "two_primaries": True}

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "guard_off", "nobody kills at the deadline when the agent cannot", _guard_off,
        {"kinds": ("freeze_agent", "cut", "trouble_etcd")},
    ),
    Mutant(
        "lease_from_the_answer", "a lease is valid from when etcd's answer came, with no margin",
        _validity_from_the_answer, CUT_OFF,
    ),
    Mutant(
        "take_leader_unconditionally", "the leader key is taken also when somebody has it",
        _take_leader_unconditionally,
        {**SYNC, "mode": "off", "ttl": 2, "kinds": ("split", "lose_host")},
    ),
    Mutant(
        "votes_not_counted", "a candidate needs no votes",
        lambda: _never("pgherd.rules.election._lacks_votes"), ELECTIONS,
    ),
    Mutant(
        "positions_ignored", "whoever answers votes, whatever it has",
        _positions_do_not_matter, ELECTIONS,
    ),
    Mutant(
        "votes_while_receiving", "a standby streams on, and votes, while nobody guards the leader",
        _any_answer_votes,
        {**UNGUARDED, "kinds": ("freeze_agent", "cut_standby", "slow_disk", "cut")},
    ),
    Mutant(
        "sync_stays", "the new leader does not write /sync with the leader key", _sync_stays,
        {**SYNC, "gone": True},
    ),
    Mutant(
        "quorum_forgotten", "the new leader asks less of its successor than was asked of it",
        _stale_succession, HANDOVERS,
    ),
    Mutant(
        "names_first", "PostgreSQL's side changes before etcd's",
        lambda: _step(_acknowledging_first), TRANSITIONS,
    ),
    Mutant(
        "electorate_first", "etcd's side changes before PostgreSQL's",
        lambda: _step(_electing_first), TRANSITIONS,
    ),
    Mutant(
        "heir_at_once", "the lead is left to a standby that may lack the last commits",
        _heir_at_once,
        {**SYNC, "kinds": ("switch_over", "cut_standby", "cut", "slow_disk")},
    ),
    Mutant(
        "settled_at_once", "a setting counts for commits made before it", _settled_at_once,
        TRANSITIONS,
    ),
    Mutant(
        "names_after_promotion", "a new primary waits for nobody until its first round",
        _names_after_promotion, HANDOVERS,
    ),
    Mutant("unfenced", "what only the leader may write is written by name only", _unfenced,
           {**LATE, "kinds": ("late_requests", "crash_postgres", "pause_host")}),
    Mutant("promise_ignored", "a promise binds nobody", _promises_anybody, FAILSAFE),
    Mutant(
        "failsafe_alone", "no majority is needed to go on without etcd", _majority_of_one,
        FAILSAFE,
    ),
    Mutant(
        "numbers_of_postgresql", "with asynchronous replication PostgreSQL numbers its timelines",
        _numbers_of_postgresql, STRANGERS,
    ),
    Mutant("never_diverged", "a former primary streams without a rewind", _never_diverged),
)  # fmt: skip

BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}
