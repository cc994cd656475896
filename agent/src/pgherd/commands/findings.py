# SPDX-License-Identifier: GPL-3.0-or-later
"""What `pgherd doctor` may find, and how bad it is: judgements only, nothing is looked at here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from pgherd.commands.drawing import duration, size

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(Enum):
    """How bad it is: a problem costs the cluster something now, or will when a host is lost."""

    GOOD = "good"
    HINT = "hint"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param area: what it belongs to.
    :param text: what was found.
    :param remedy: what to do about it; empty only where nothing is to be done.
    """

    level: Level
    area: str
    text: str
    remedy: str = ""


def good(area: str, text: str) -> Finding:
    return Finding(Level.GOOD, area, text)


def hint(area: str, text: str, remedy: str) -> Finding:
    return Finding(Level.HINT, area, text, remedy)


def warning(area: str, text: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, area, text, remedy)


def problem(area: str, text: str, remedy: str) -> Finding:
    return Finding(Level.PROBLEM, area, text, remedy)


# A disk as full as this fills up in the next surprise; shares of its size.
ROOM_SCARCE: Final = 0.15
ROOM_GONE: Final = 0.05
# pgherd counts time by clocks that nobody sets; schedules, logs and certificates go by these.
SKEW_SECONDS: Final = 1.0
CERTIFICATE_DAYS: Final = (7, 30)
LAG_SECONDS: Final = 10.0


def judge_latency(seconds: float, timeout: float) -> Finding:
    """Judge how long etcd takes for a linearizable read.

    :param timeout: what a request may take, seconds (pgherd.etcd_timeout).
    """
    text = f"a linearizable read takes {seconds * 1000:.0f} ms"
    remedy = "look at etcd's disks (fdatasync) and at the network between its members"
    if seconds > timeout / 2:
        return problem("etcd", f"{text}; a request may take {timeout:g} s", remedy)
    if seconds > timeout / 10:
        return warning("etcd", text, remedy)
    return good("etcd", text)


def judge_room(area: str, place: str, free: int, total: int) -> Finding:
    """Judge how much of a file system of *total* bytes is free."""
    text = f"{place}: {size(free)} of {size(total)} free"
    share = free / total if total else 1.0
    remedy = "make room or enlarge it; a full disk costs this host the lead (docs: the data disk)"
    if share < ROOM_GONE:
        return problem(area, text, remedy)
    return warning(area, text, remedy) if share < ROOM_SCARCE else good(area, text)


def judge_skew(name: str, seconds: float, precision: float) -> Finding:
    """Judge by how much the clock of member *name* is ahead of ours.

    :param precision: what the measurement may be wrong by, seconds.
    """
    if abs(seconds) - precision <= SKEW_SECONDS:
        return good("clock", f"{name} agrees within {max(abs(seconds), precision):.2g} s")
    direction = "ahead" if seconds > 0 else "behind"
    return warning(
        "clock",
        f"{name} is {duration(abs(seconds))} {direction} of us",
        "set the clocks by NTP (chrony): schedules, certificates and logs go by them",
    )


def judge_certificate(path: str, days: float) -> Finding:
    """Judge a certificate that is good for *days* from now on."""
    urgent, soon = CERTIFICATE_DAYS
    remedy = "issue a new one and run `systemctl reload pgherd` on this host"
    if days < 0:
        return problem("certificates", f"{path} has expired {-days:.0f} days ago", remedy)
    text = f"{path} expires in {days:.0f} days"
    if days < urgent:
        return problem("certificates", text, remedy)
    return warning("certificates", text, remedy) if days < soon else good("certificates", text)


def judge_standby(row: Mapping[str, Any]) -> Finding:
    """Judge a member of `GET /cluster` that does not lead, with its lag as the leader sees it."""
    name, state = row["name"], row.get("state")
    if state != "streaming":
        return problem(
            "replication",
            f"{name} is {state}",
            f"look there: journalctl -u pgherd and PostgreSQL's log on {name}",
        )
    fresh = row.get("pgherd") or {}
    if "lag_seconds" not in fresh:
        return good("replication", f"{name} streams")
    seconds = float(fresh["lag_seconds"])
    text = f"{name} is {size(fresh['lag'])}, {duration(seconds)} behind"
    if seconds > LAG_SECONDS:
        remedy = f"look for what holds it up on {name}: its disk, a long query, a paused replay"
        return warning("replication", text, remedy)
    return good("replication", text)
