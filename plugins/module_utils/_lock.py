# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a cluster's lock, and what is to be done about it. Private to the collection."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

MINUTE = 60
HOUR = 3600


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its value in etcd says.

    `since` is seconds of the epoch by the controller's clock; `token` names one process of one
    controller and no other; `depth` counts how often it took the lock.
    """

    holder: str
    controller: str
    pid: int
    playbook: str
    since: float
    token: str
    reason: str = ""
    depth: int = 1

    @classmethod
    def from_text(cls, text: str) -> Holder:
        """Read the value of a lock; one that is not ours is a holder of whom nothing is known."""
        try:
            data = json.loads(text)
            return cls(
                holder=str(data["holder"]),
                controller=str(data["controller"]),
                pid=int(data["pid"]),
                playbook=str(data["playbook"]),
                since=datetime.fromisoformat(str(data["since"])).timestamp(),
                token=str(data["token"]),
                reason=str(data.get("reason", "")),
                depth=int(data.get("depth", 1)),
            )
        except (ValueError, KeyError, TypeError):
            return cls(f"somebody ({text[:60]!r})", "", 0, "", 0, "")

    def as_dict(self) -> dict[str, Any]:
        """Return what modules hand back; `since` as a time in UTC."""
        moment = datetime.fromtimestamp(int(self.since), timezone.utc)
        return {**asdict(self), "since": moment.isoformat()}

    def to_text(self) -> str:
        """Return the value for etcd."""
        return json.dumps(self.as_dict(), sort_keys=True)


@dataclass(frozen=True)
class Plan:
    """What to do about a lock.

    `action` is nothing, take, enter, renew, replace, leave, release, break or refuse;
    `value` is who holds the lock afterwards, None for nobody or for no change.
    """

    action: str
    value: Holder | None = None


def plan(state: str, found: Holder | None, mine: Holder, dead_token: str = "") -> Plan:
    """Return what brings a lock that *found* holds to *state* for *mine*.

    *state* is present, renewed, absent or broken; *dead_token* is the token of a holder whose
    process is known to be gone.
    """
    if state == "broken":
        return Plan("break" if found else "nothing")
    if state == "absent":
        if found is None or found.token != mine.token:
            return Plan("nothing")
        if found.depth > 1:
            return Plan("leave", _at_depth(found, found.depth - 1))
        return Plan("release")
    if found is None:
        return Plan("take", mine)
    if found.token == mine.token and state == "renewed":
        return Plan("renew")
    if found.token == mine.token:
        return Plan("enter", _at_depth(found, found.depth + 1))
    if dead_token and found.token == dead_token:
        return Plan("replace", mine)
    return Plan("refuse")


def _at_depth(holder: Holder, depth: int) -> Holder:
    return replace(holder, depth=depth)


def span(seconds: float) -> str:
    """Return *seconds* in the one or two words that matter."""
    whole = max(int(seconds), 0)
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < 2 * HOUR:
        return f"{whole // MINUTE} min"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


def sentence(found: Holder, now: float, left_seconds: int | None) -> str:
    """Say who holds the lock, since when, and when it ends by itself (None: never)."""
    text = found.holder
    if found.playbook:
        text += f" runs {found.playbook} (process {found.pid})"
    if found.reason:
        text += f", {found.reason},"
    if found.since:
        moment = datetime.fromtimestamp(found.since, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        text += f" since {moment} UTC, {span(now - found.since)} ago"
    if left_seconds is None:
        return f"{text}; the lock does not end by itself."
    return f"{text}; the lock ends by itself in {span(left_seconds)}."
