# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not well in a cluster: pure checks, a sentence for each failing condition.

Every check takes what was seen and what is allowed, and returns its sentences; none is a check
that cannot fail. Private to the collection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import good_states, is_well
from ansible_collections.pgherd.cluster.plugins.module_utils._members import (
    LEADERS,
    VOTERS,
    by_name,
    is_synchronous,
    leader_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Seen:
    """What was asked of a cluster at one moment.

    cluster: the body of `/cluster`; pages: that of every member's `/patroni`, None where its
    agent did not answer; certificates: by whose they are, the days that are left, or what is wrong;
    backups: what the repositories hold, as backup_info has it, or under `problem` why nobody knows.
    """

    cluster: dict[str, Any]
    pages: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    certificates: dict[str, float | str] = field(default_factory=dict)
    backups: dict[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """The members by name."""
        found: dict[str, dict[str, Any]] = by_name(self.cluster)
        return found

    def extra(self, name: str) -> dict[str, Any]:
        """Return what only a pgherd agent says of itself, empty where it says nothing."""
        page = self.pages.get(name) or {}
        return dict(page.get("pgherd") or {})


@dataclass(frozen=True)
class Allowed:
    """members: who has to be there; the rest are bounds, in the units that they name."""

    members: tuple[str, ...] = ()
    lag_bytes_max: int = 16777216
    slot_bytes_max: int = 1073741824
    certificate_days_min: float = 7
    archive_seconds_max: float = 300
    backup_hours_max: float = 36
    drill_days_max: float = 8


def leader(seen: Seen, _allowed: Allowed) -> list[str]:
    """There is one leader, and it runs."""
    leaders = [name for name, member in seen.members.items() if member.get("role") in LEADERS]
    if len(leaders) != 1:
        said = f"there are {len(leaders)} leaders: {', '.join(leaders)}" if leaders else ""
        return [said or "nobody leads: no member takes writes"]
    member = seen.members[leaders[0]]
    if not is_well(member):
        return [f"{leaders[0]} leads and is `{member.get('state', '')}`"]
    return []


def members(seen: Seen, allowed: Allowed) -> list[str]:
    """Everybody is there, answers, and streams."""
    problems = []
    for name in sorted({*allowed.members, *seen.members}):
        member = seen.members.get(name)
        if member is None:
            problems.append(f"{name} is not in the cluster: does its agent run?")
        elif member.get("role") not in LEADERS and not is_well(member):
            state, good = member.get("state", ""), " or ".join(good_states(member))
            problems.append(f"{name} is `{state}`, not {good}")
        elif name in seen.pages and seen.pages[name] is None:
            problems.append(f"the agent of {name} does not answer: look at its unit pgherd")
    return problems


def timeline(seen: Seen, _allowed: Allowed) -> list[str]:
    """All are on the leader's timeline."""
    wanted = seen.members.get(leader_of(seen.cluster), {}).get("timeline")
    return [
        f"{name} is on timeline {member.get('timeline')}, the leader on {wanted}"
        for name, member in sorted(seen.members.items())
        if wanted is not None and member.get("timeline", wanted) != wanted
    ]


def lag(seen: Seen, allowed: Allowed) -> list[str]:
    """No standby is further behind than is allowed."""
    problems = []
    for name, member in sorted(seen.members.items()):
        behind = member.get("lag", 0)
        if member.get("role") in LEADERS:
            continue
        if not isinstance(behind, int):
            problems.append(f"nobody knows how far {name} is behind")
        elif behind > allowed.lag_bytes_max:
            problems.append(f"{name} is {behind} bytes behind, {allowed.lag_bytes_max} are allowed")
    return problems


def sync(seen: Seen, _allowed: Allowed) -> list[str]:
    """Where commits are to wait for standbys, they do, and enough standbys are there."""
    if not is_synchronous(seen.cluster):
        return []
    needed = int((seen.cluster.get("pgherd") or {}).get("acknowledgements") or 0)
    voters = [name for name, m in sorted(seen.members.items()) if m.get("role") in VOTERS]
    streaming = [name for name in voters if is_well(seen.members[name])]
    if not voters:
        return ["commits wait for no standby: the loss of the primary would lose some"]
    if len(streaming) < needed:
        return [f"commits wait for {needed} standbys, and {len(streaming)} of them stream"]
    return []


def quorum(seen: Seen, _allowed: Allowed) -> list[str]:
    """Any one host may be lost without an end to writes. Asked of three members or more."""
    if len(seen.members) < 3 or not is_synchronous(seen.cluster):
        return []
    needed = int((seen.cluster.get("pgherd") or {}).get("acknowledgements") or 0)
    well = [n for n, m in seen.members.items() if m.get("role") in VOTERS and is_well(m)]
    if needed and len(well) <= needed:
        whom = ", ".join(sorted(well)) or "nobody"
        return [f"no standby may be lost: commits need {needed}, and {whom} acknowledges"]
    return []


def pending_restart(seen: Seen, _allowed: Allowed) -> list[str]:
    """No setting waits for a restart of PostgreSQL."""
    return [
        f"{name} waits for a restart{_why(member)}"
        for name, member in sorted(seen.members.items())
        if member.get("pending_restart")
    ]


def _why(member: dict[str, Any]) -> str:
    reasons = member.get("pending_restart_reason") or {}
    changes = [
        f"{setting} {change.get('old_value')} to {change.get('new_value')}"
        for setting, change in sorted(reasons.items())
    ]
    return f" ({', '.join(changes)})" if changes else ""


def paused(seen: Seen, _allowed: Allowed) -> list[str]:
    """The cluster looks after itself."""
    if not seen.cluster.get("pause"):
        return []
    return ["the cluster is paused: nobody takes over from a lost primary"]


def guard(seen: Seen, _allowed: Allowed) -> list[str]:
    """A guard watches every primary whose agent says whether one does."""
    if seen.cluster.get("pause"):
        return []  # it is off on purpose, and `paused` says so
    return [
        f"no guard watches the primary {name}: look at its unit pgherd-guard"
        for name, member in sorted(seen.members.items())
        if member.get("role") in LEADERS and seen.extra(name).get("guarded") is False
    ]


def disk(seen: Seen, _allowed: Allowed) -> list[str]:
    """Every data disk takes writes and has room."""
    return [
        f"the data disk of {name} is {seen.extra(name)['disk']}"
        for name in sorted(seen.pages)
        if seen.extra(name).get("disk", "well") != "well"
    ]


def slots(seen: Seen, allowed: Allowed) -> list[str]:
    """No slot is lost, and none that nobody uses holds much back."""
    problems = []
    for name in sorted(seen.pages):
        for slot, facts in sorted((seen.extra(name).get("slots") or {}).items()):
            retained = int(facts.get("retained_bytes") or 0)
            if facts.get("lost"):
                problems.append(f"slot {slot} of {name} is lost: who reads it must begin anew")
            elif not facts.get("active") and retained > allowed.slot_bytes_max:
                problems.append(f"nobody reads slot {slot} of {name}, which keeps {retained} bytes")
    return problems


def certificates(seen: Seen, allowed: Allowed) -> list[str]:
    """Every certificate is good, and will be for a while."""
    problems = []
    for whose, left in sorted(seen.certificates.items()):
        if isinstance(left, str):
            problems.append(f"the certificate of {whose}: {left}")
        elif left < allowed.certificate_days_min:
            problems.append(f"the certificate of {whose} ends in {left:.1f} days")
    return problems


def archivers(seen: Seen) -> dict[str, dict[str, Any]]:
    """Return what is told of archivers, by the names of the members that archive."""
    found = {name: seen.extra(name).get("archiver") for name in sorted(seen.pages)}
    return {name: dict(archiver) for name, archiver in found.items() if archiver}


def archiving(seen: Seen, allowed: Allowed) -> list[str]:
    """Where WAL is archived, the last attempt was good, and nothing waits for long."""
    problems = []
    for name, archiver in archivers(seen).items():
        waits = float(archiver.get("waiting_seconds") or 0)
        if archiver.get("failing"):
            what = f"{archiver.get('failed')} at {archiver.get('failed_at')}"
            problems.append(f"{name} cannot archive WAL ({what}): look at archive_command")
        elif waits > allowed.archive_seconds_max:
            most = allowed.archive_seconds_max
            number = int(archiver.get("waiting") or 0)
            problems.append(
                f"WAL of {name} waits for {waits:.0f} s to be archived, {most:g} are allowed "
                f"({number} segments)"
            )
    return problems


def backup(seen: Seen, allowed: Allowed) -> list[str]:
    """Every repository has a good backup that is young enough, and all WAL since."""
    if problem := seen.backups.get("problem"):
        return [f"nobody knows what backups there are: {problem}"]
    problems = []
    for repository in seen.backups.get("repositories") or []:
        name = f"repository {repository['number']}"
        if repository["problem"]:
            problems.append(f"{name}: {repository['problem']}")
            continue
        good = [each for each in repository["backups"] if not each["error"]]
        if not good:
            problems.append(f"{name} has no backup: take one (pgherd.cluster.backup)")
            continue
        hours = (seen.backups["now"] - max(each["stopped"] for each in good)) / 3600
        if hours > allowed.backup_hours_max:
            most = allowed.backup_hours_max
            problems.append(
                f"the newest backup of {name} is {hours:.0f} h old, {most:g} are allowed"
            )
        if lacks := repository["missing_wal_since_newest"]:
            problems.append(
                f"{name} lacks {len(lacks)} segments of WAL since the newest backup, {lacks[0]} "
                "first: take a backup (pgherd.cluster.backup)"
            )
    return problems


def restore_drill(seen: Seen, allowed: Allowed) -> list[str]:
    """The last restore drill passed, and is not long ago."""
    if "repositories" not in seen.backups:
        return []  # `backup` says that nobody knows
    drill = seen.backups.get("drill")
    if not drill:
        return ["no backup was ever restored to see if it can be (pgherd.cluster.restore_drill)"]
    if drill["verdict"] != "passed":
        bad = [check["name"] for check in drill["checks"] if check["verdict"] != "passed"]
        return [
            f"the last restore drill failed ({', '.join(bad)}), at {drill['finished'][:19]} UTC"
        ]
    days = (seen.backups["now"] - drill["finished_at"]) / 86400
    if days > allowed.drill_days_max:
        most = allowed.drill_days_max
        return [f"the last restore drill was {days:.0f} days ago, {most:g} are allowed"]
    return []


CHECKS: dict[str, Callable[[Seen, Allowed], list[str]]] = {
    "leader": leader,
    "members": members,
    "timeline": timeline,
    "lag": lag,
    "sync": sync,
    "quorum": quorum,
    "pending_restart": pending_restart,
    "paused": paused,
    "guard": guard,
    "disk": disk,
    "slots": slots,
    "certificates": certificates,
    "archiving": archiving,
    "backup": backup,
    "restore_drill": restore_drill,
}
# Checks that look at what not every cluster has: whether this one has it, and a sentence if not.
OPTIONAL: dict[str, tuple[Callable[[Seen], Any], str]] = {
    "certificates": (lambda seen: seen.certificates, "nothing that was asked speaks TLS"),
    "archiving": (archivers, "no member archives WAL (archive_mode is off, or an agent is silent)"),
    "backup": (lambda seen: seen.backups, "nobody said what backups there are"),
    "restore_drill": (lambda seen: seen.backups, "nobody said what backups there are"),
}


def examine(seen: Seen, allowed: Allowed, names: list[str]) -> dict[str, list[str]]:
    """Return the sentences of every check in *names*, none for one that holds."""
    return {name: CHECKS[name](seen, allowed) for name in names}


def skipped(seen: Seen, names: list[str]) -> dict[str, str]:
    """Return why checks in *names* did not look at anything, by their names."""
    asked = {name: OPTIONAL[name] for name in names if name in OPTIONAL}
    return {name: reason for name, (has, reason) in asked.items() if not has(seen)}
