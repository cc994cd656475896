# SPDX-License-Identifier: GPL-3.0-or-later
"""A rolling restart: whose turn it is, and when the next one's comes. Pure.

Where it stands is in etcd only, in the ledger's entry. The leader, whoever that is by then, moves
the turn on; each member restarts itself when it sees that the turn is its own.

Standbys come first, and commits go on. Then the lead is handed to one of them, and the old primary
is restarted by becoming a standby. Where a setting was lowered that a standby must not have lower
than its primary (PostgreSQL documentation 26.4.1), the primary is restarted in place, before the
standbys; where others were raised as well, between two restarts of the standbys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.handover import Handover
from pgherd.rules.handover import heirs
from pgherd.settings import whole
from pgherd.timestamps import ScheduleError, parse_time

if TYPE_CHECKING:
    from pgherd.ledger import Entry
    from pgherd.model import Member
    from pgherd.view import View

KIND: Final = "rolling_restart"
# A standby must have as much of these as its primary has.
SENSITIVE: Final = frozenset(
    {
        "max_connections",
        "max_worker_processes",
        "max_wal_senders",
        "max_prepared_transactions",
        "max_locks_per_transaction",
    }
)
# What a turn may take besides the start of PostgreSQL, seconds.
TURN_SECONDS: Final = 120.0
# How long members have to take in a change of the configuration, before one is begun. Seconds.
INFORM_SECONDS: Final = 30.0
# A scheduled one that nobody could begin for so long is not made at all. Seconds.
MISSED_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Roll:
    """Where a rolling restart stands.

    :param pending: only members with settings that wait for a restart.
    :param plan: members in the order of their turns; empty before it has begun.
    :param servers: when the postmasters that are to go were started, by member.
    :param in_place: the leader is restarted without handing the lead over.
    :param turn: whose turn it is, an index of *plan*.
    :param since: when that turn began, seconds since the epoch; before there is a plan, since when
        members are waited for that have not taken in a change of the configuration.
    :param handover: id of the switchover of this turn.
    """

    pending: bool = False
    plan: tuple[str, ...] = ()
    servers: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = False
    turn: int = 0
    since: float = 0.0
    handover: str | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Roll:
        """Read the details of a ledger's entry; what is damaged counts as not there."""
        plan, servers, since = raw.get("plan"), raw.get("servers"), raw.get("since")
        return cls(
            pending=raw.get("pending") is True,
            plan=tuple(map(str, plan)) if isinstance(plan, list) else (),
            servers=dict(servers) if isinstance(servers, Mapping) else {},
            in_place=raw.get("in_place") is True,
            turn=max(0, whole(raw.get("turn")) or 0),
            since=since if isinstance(since, int | float) else 0.0,
            handover=str(raw["handover"]) if raw.get("handover") else None,
        )

    def published(self) -> dict[str, Any]:
        return {**asdict(self), "plan": list(self.plan)}

    @property
    def name(self) -> str | None:
        """Whose turn it is."""
        return self.plan[self.turn] if self.turn < len(self.plan) else None


@dataclass(frozen=True)
class Step:
    """What the leader writes down next.

    :param roll: where it stands from now on.
    :param heir: who shall lead, if the lead is to be handed over now.
    :param state: of the ledger's entry.
    :param result: of the ledger's entry, when this is its end.
    """

    roll: Roll
    heir: str | None = None
    state: str = "running"
    result: str = ""


def find_roll(view: View) -> Entry | None:
    """Return the rolling restart that has not ended, None when there is none."""
    ledger = view.cluster.ledger if view.cluster else ()
    return next((each for each in ledger if each.kind == KIND and not each.is_finished), None)


def is_my_turn(view: View) -> bool:
    """Tell whether this member has to restart its PostgreSQL now, where it is."""
    entry = find_roll(view)
    if entry is None or entry.state != "running" or not view.instance.is_running:
        return False
    roll = Roll.parse(entry.details)
    if roll.name != view.me or view.instance.started_at != roll.servers.get(view.me):
        return False
    return not view.holds_key or roll.in_place


def due_at(entry: Entry) -> float | None:
    """Return when *entry* is to begin, seconds since the epoch; None for at once."""
    try:
        return parse_time(entry.scheduled_at) if entry.scheduled_at else None
    except ScheduleError:
        return None


def next_step(view: View) -> Step | None:
    """Return what the leader has to write down, None while something is waited for."""
    entry = find_roll(view)
    if entry is None or view.cluster is None:
        return None
    roll, at = Roll.parse(entry.details), due_at(entry)
    if entry.state == "scheduled":
        if at is not None and view.wall < at:
            return None
        if at is not None and view.wall - at > MISSED_SECONDS:
            return _failed(roll, "its time has passed while nobody was there to begin it")
    if view.settings.pause:
        return _failed(roll, "the cluster is paused")
    if not roll.plan:
        return _begin(view, roll)
    return _go_on(view, roll)


def _failed(roll: Roll, why: str) -> Step:
    return Step(roll, state="failed", result=f"rolling restart failed: {why}")


def _started(member: Member | None) -> str:
    """Return when *member*'s postmaster was started, as it published it; empty if not known."""
    return str(member.ours.get("started") or "") if member is not None else ""


def _waits(member: Member) -> bool:
    return bool(member.data.get("pending_restart"))


def _reasons(member: Member | None) -> Any:
    """Return what waits for a restart of *member*, as it published it."""
    return member.data.get("pending_restart_reason") if member is not None else None


def changes_of(reasons: Any) -> set[str]:
    """Return whether settings with which standbys must keep up are ``raised`` or ``lowered``.

    :param reasons: old and new value by name, as Patroni publishes them; may hold anything.
    """
    found = set()
    for name, change in reasons.items() if isinstance(reasons, Mapping) else ():
        if name not in SENSITIVE or not isinstance(change, Mapping):
            continue
        old, new = whole(change.get("old_value")), whole(change.get("new_value"))
        if old is not None and new is not None and old != new:
            found.add("raised" if new > old else "lowered")
    return found


def stages(changes: set[str]) -> tuple[str, ...]:
    """Return who is restarted, in order: ``standbys`` and ``leader``; with both, standbys twice.

    :param changes: what `changes_of` makes of what waits on the leader.
    """
    if changes == {"lowered"}:
        return ("leader", "standbys")
    return ("standbys", "leader", "standbys") if "lowered" in changes else ("standbys", "leader")


def _begin(view: View, roll: Roll) -> Step | None:
    """Return the plan, once everybody whose word it rests on knows what waits for a restart."""
    assert view.cluster is not None
    late = [name for name in view.cluster.uninformed if roll.pending or name == view.me]
    if late and not roll.since:
        return Step(replace(roll, since=view.wall))
    if late and view.wall - roll.since <= INFORM_SECONDS:
        return None
    if late:
        who = f"{', '.join(late)} did not take in the configuration"
        return _failed(roll, f"{who} within {INFORM_SECONDS:g} s")
    return _plan(view, roll)


def _plan(view: View, roll: Roll) -> Step:
    assert view.cluster is not None
    changes = changes_of(_reasons(view.cluster.members.get(view.me)))
    # What is lowered waits on no standby before its primary has been restarted with it.
    everybody = not roll.pending or "lowered" in changes
    members = {
        name: member
        for name, member in sorted(view.cluster.members.items())
        if member.is_running and _started(member) and (everybody or _waits(member))
    }
    if not members:
        return Step(roll, state="done", result="nothing waits for a restart")
    those = {
        "standbys": tuple(name for name in members if name != view.me),
        "leader": tuple(name for name in members if name == view.me),
    }
    plan = tuple(name for stage in stages(changes) for name in those[stage])
    alone = set(view.cluster.members) <= {view.me}
    return Step(
        replace(
            roll,
            plan=plan,
            servers={name: _started(member) for name, member in members.items()},
            in_place=alone or "lowered" in changes or view.remote is not None,
            turn=0,
            since=view.wall,
        )
    )


def _go_on(view: View, roll: Roll) -> Step | None:
    assert view.cluster is not None
    name = roll.name
    if name is None:
        return Step(roll, state="done", result=_summary(roll))
    if not _is_back(view, roll, name):
        limit = TURN_SECONDS + view.settings.primary_start_timeout
        member = view.cluster.members.get(name)
        if view.wall - roll.since > limit:
            state = member.state if member is not None else "unknown"
            return _failed(roll, f"{name} is not back after {limit:g} s; its state is {state}")
        return _hand_over(view, roll) if name == view.me and not roll.in_place else None
    following = roll.turn + 1
    if following == len(roll.plan):
        return Step(roll, state="done", result=_summary(roll))
    servers = dict(roll.servers)
    upcoming = roll.plan[following]
    if upcoming in roll.plan[:following]:
        servers[upcoming] = _started(view.cluster.members.get(upcoming))
    return Step(replace(roll, turn=following, servers=servers, since=view.wall, handover=None))


def _summary(roll: Roll) -> str:
    return f"restarted {', '.join(dict.fromkeys(roll.plan))}"


def _is_back(view: View, roll: Roll, name: str) -> bool:
    """Tell whether *name* has been restarted and does its part again."""
    assert view.cluster is not None
    member = view.cluster.members.get(name)
    started = _started(member)
    if member is None or not member.is_running or started in ("", roll.servers.get(name)):
        return False
    if name == view.me:
        return view.instance.is_running
    if member.tags.nostream or member.tags.replicatefrom or view.remote is not None:
        return True
    rows = [row for row in view.instance.replication if row.get("application_name") == name]
    if not rows or rows[0].get("state") != "streaming":
        return False
    behind = (view.instance.location or 0) - (rows[0].get("flush") or 0)
    if behind > view.settings.maximum_lag_on_failover:
        return False
    # One that may not lead acknowledges only where there are not enough others.
    exempt = member.tags.nosync or member.tags.nofailover
    counts = view.settings.synchronous_mode == "quorum" and not exempt
    return not counts or (view.sync is not None and name in view.sync.electing.voters)


def _hand_over(view: View, roll: Roll) -> Step | None:
    """Return the step that has another member lead, so that this one can be restarted."""
    assert view.cluster is not None
    if roll.handover is not None:
        known = next((each for each in view.cluster.ledger if each.id == roll.handover), None)
        if known is None or (known.is_finished and known.state != "done"):
            why = known.result if known is not None else "the switchover was forgotten"
            return _failed(roll, why)
        return None
    request = Handover(view.me, None)
    fresh = [
        member.name
        for member in heirs(view, request)
        if _started(member) != roll.servers.get(member.name)
    ]
    able = fresh or [member.name for member in heirs(view, request)]
    return Step(roll, heir=able[0]) if able and view.handover is None else None
