# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pooler for writes has to point, and whether it may be used: pure, by what is seen."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import PostgresConfig
    from pgherd.model import Member
    from pgherd.view import View

# What another member says of its address must not make a line of its own.
HOST: Final = re.compile(r"[A-Za-z0-9_.:-]+")
LEADING: Final = frozenset({"primary", "master", "standby_leader"})
# A pooler is pointed at a new leader within milliseconds; one that is not by then will not be soon.
FOLLOW_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Target:
    """The member that a pooler's clients are sent to."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} ({self.host}:{self.port})"


@dataclass(frozen=True)
class PoolerState:
    """What is known of the pooler for writes.

    :param is_up: its console answers.
    :param target: where it points, None while that is not known.
    :param leader: the settled leader seen last, and *since* when (CLOCK_BOOTTIME seconds).
    :param heard_at: when etcd, or in failsafe mode the leader, was last heard.
    :param problem: why it could not be pointed at the leader, empty if nothing is wrong.
    """

    is_up: bool = False
    target: Target | None = None
    leader: Target | None = None
    since: float = 0.0
    heard_at: float | None = None
    problem: str = ""


def find_target(view: View, own: PostgresConfig) -> Target | None:
    """Return the leader that takes writes now, None while there is none to be seen.

    In a standby cluster it is the leader of the standbys. In failsafe mode, in which etcd cannot be
    asked, it is who leads by promise.
    """
    if view.leader is None or not view.store_answers:
        return _promised(view, own)
    if view.leader.name == view.me:
        leads = view.instance.is_primary or (view.remote is not None and view.instance.is_standby)
        return _own(view, own) if view.holds_key and leads else None
    member = view.other_leader
    if member is None or not member.is_running or member.data.get("role") not in LEADING:
        return None
    return _of(member)


def _promised(view: View, own: PostgresConfig) -> Target | None:
    if view.leads_by_promise and view.instance.is_primary:
        return _own(view, own)
    return _of(view.promised) if view.promised is not None else None


def _own(view: View, own: PostgresConfig) -> Target:
    return Target(view.me, own.connect_host, own.connect_port)


def _of(member: Member) -> Target | None:
    return Target(member.name, member.host, member.port) if HOST.fullmatch(member.host) else None


def obstacle(state: PoolerState, now: float, lease_ttl: float) -> str:
    """Return why clients should not be sent to the pooler for writes, empty when they may.

    A pause, or no leader for the moment, is no reason: they wait, and go on when there is one.
    """
    if not state.is_up:
        return "PgBouncer does not answer"
    if state.target is None:
        return "no leader has been seen yet"
    if state.leader != state.target and now - state.since > FOLLOW_SECONDS:
        return state.problem or f"it still points at {state.target}, and {state.leader} leads"
    if state.heard_at is None or now - state.heard_at > lease_ttl:
        return "etcd is silent: whether the leader is still one is not known"
    return ""


def by_socket(target: Target, own: PostgresConfig) -> Target:
    """Return this member as *target* the short way: its socket costs less than TCP does.

    A pooler spends about a tenth less processor time on a query then (bench/path).
    """
    return replace(target, host=str(own.socket_directory), port=own.port)


def render(target: Target, databases: Mapping[str, str]) -> str:
    """Return PgBouncer's section [databases] that sends the clients of *databases* to *target*.

    :param databases: what their lines say beyond that, by name; `*` for all others.
    """
    lines = ["; Written by pgherd, which follows the leader: changes are lost.", "[databases]"]
    for name, options in databases.items():
        lines.append(f"{name} = host={target.host} port={target.port} {options}".rstrip())
    return "\n".join(lines) + "\n"
