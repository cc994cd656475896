# SPDX-License-Identifier: GPL-3.0-or-later
"""Switchover and failover: who shall lead, and what came of asking for it."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.drawing import duration
from pgherd.commands.listing import render
from pgherd.commands.look import seen
from pgherd.commands.rest import Reply, UnreachableError
from pgherd.commands.schedule import parse_schedule, scheduled_option
from pgherd.commands.session import LEADING, by_use, leader_of, session_command
from pgherd.errors import NobodyAnswersError, PgherdError
from pgherd.handover import TRANSACTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.commands.session import Session

# How long an operation is followed whose request was cut off, seconds.
FOLLOW_SECONDS: Final = 300.0
# How long the cluster is waited for before it is shown again, seconds.
SETTLE_SECONDS: Final = 5.0
OPERATION: Final = "x-pgherd-operation"


@click.command("switchover")
@session_command(force=True)
@click.option(
    "--leader", "--primary", "leader", metavar="NAME", help="Refuse if it does not lead now."
)
@click.option("--candidate", metavar="NAME", help="Who shall lead; the best standby if not given.")
@click.option(
    "--transactions",
    type=click.Choice(TRANSACTIONS),
    help="What becomes of long transactions: they are ended (the default), waited for, or the "
    "switchover is called off.",
)
@click.option(
    "--transaction-timeout",
    type=click.FloatRange(0, 600),
    metavar="SECONDS",
    help="How long they are waited for while clients go on; 10 where there are poolers.",
)
@scheduled_option
def switchover_command(session: Session, **asked: Any) -> None:
    """Hand the lead over to a standby, in order and without losing anything.

    What is not given is asked for on a terminal. The answer says how it ended.
    """
    leader, candidate, scheduled = (asked[key] for key in ("leader", "candidate", "scheduled"))
    cluster = session.cluster()
    row = leader_of(cluster)
    if row is None:
        raise PgherdError("there is no leader to switch over from: try `pgherd failover`")
    asks = not session.force and sys.stdin.isatty()
    if leader is None:
        leader = _prompt("Leader", str(row["name"])) if asks else str(row["name"])
    if leader != row["name"]:
        raise PgherdError(f"{leader} does not lead: {row['name']} does")
    others = _others(cluster)
    if not others:
        raise PgherdError("there is no standby to switch over to")
    if candidate is None and asks:
        candidate = _prompt(f"Candidate ({', '.join(others)}; empty for the best)", "") or None
        scheduled = scheduled or _prompt("When (2026-11-23T22:30, 22:30, +10min)", "now")
    _check_candidate(candidate, others)
    at = parse_schedule(scheduled)
    body = {"leader": leader, "candidate": candidate, "scheduled_at": at}
    body |= {key: asked[key] for key in ("transactions", "transaction_timeout")}
    session.tell(render(seen(session)[0]))
    moment = f" at {at}" if at else ""
    target = candidate or "the best standby"
    session.confirm(f"Switch over from {leader} to {target}{moment}?")
    given = {key: value for key, value in body.items() if value not in (None, "")}
    _carry_out(session, cluster, "switchover", given)


@click.command("failover")
@session_command(force=True)
@click.option("--candidate", metavar="NAME", help="Who shall lead.")
def failover_command(session: Session, *, candidate: str | None) -> None:
    """Make a member leader where there is none, or though it may lack acknowledged writes.

    With a healthy leader a switchover is what you want: a failover may lose data.
    """
    cluster = session.cluster()
    others = _others(cluster)
    if candidate is None:
        if session.force or not sys.stdin.isatty():
            raise click.UsageError("a failover is to somebody: say --candidate NAME")
        candidate = _prompt(f"Candidate ({', '.join(others)})", others[0] if others else "")
    _check_candidate(candidate, others)
    session.tell(render(seen(session)[0]))
    row = leader_of(cluster)
    demoted = f", demoting {row['name']}" if row else ""
    session.confirm(f"Fail over to {candidate}{demoted}? Acknowledged writes may be lost.")
    _carry_out(session, cluster, "failover", {"candidate": candidate})


def _prompt(text: str, default: str) -> str:
    return str(click.prompt(text, default=default, show_default=bool(default), err=True))


def _others(cluster: Mapping[str, Any]) -> list[str]:
    rows = cluster.get("members", ())
    return [str(row["name"]) for row in rows if row.get("role") not in LEADING]


def _check_candidate(candidate: str | None, others: list[str]) -> None:
    if candidate is not None and candidate not in others:
        raise PgherdError(
            f"{candidate} is no standby of this cluster; standbys: {', '.join(others) or 'none'}"
        )


def _carry_out(
    session: Session, cluster: Mapping[str, Any], kind: str, body: dict[str, Any]
) -> None:
    """Ask for it, and tell how it ended.

    :raises PgherdError: it was refused or failed.
    """
    known = _operations(session)
    begun = time.monotonic()
    try:
        reply = session.act(by_use(cluster), "POST", f"/{kind}", body)
    except UnreachableError:
        raise
    except NobodyAnswersError as error:
        session.tell(f"{error}; looking for the outcome elsewhere")
        reply = _outcome(session, kind, known)
    number = reply.headers.get(OPERATION)
    if reply.status == 202 and number and not body.get("scheduled_at"):
        reply = _followed(session, number)
    if session.as_json:
        answer = {"ok": reply.is_good, "status": reply.status, "message": reply.text}
        session.answer({**answer, "operation": number})
    if not reply.is_good:
        raise PgherdError(reply.text)
    if not session.as_json:
        took = "" if reply.status == 202 else f" ({duration(time.monotonic() - begun)})"
        click.echo(click.style(reply.text, fg="green") + took)
        if reply.status == 200:
            _settle(session)
        click.echo(render(seen(session)[0]))


def _settle(session: Session) -> None:
    """Give the others a moment to follow, so that what is shown is how it stays."""
    from pgherd.commands.waits import Wanted, await_wanted

    with contextlib.suppress(PgherdError):
        await_wanted(session, Wanted(healthy=True), SETTLE_SECONDS)


def _operations(session: Session) -> list[dict[str, Any]]:
    """Return what is remembered of operations, nothing when nobody tells."""
    try:
        reply = session.read("/operations")
        if reply.status == 200 and isinstance(reply.json(), list):
            return list(reply.json())
    except NobodyAnswersError:
        pass
    try:
        cluster = session.keys(lambda store: store.load())
    except PgherdError:
        return []
    return [entry.published() for entry in cluster.ledger]


def _outcome(session: Session, kind: str, before: list[dict[str, Any]]) -> Reply:
    """Return how the operation ended whose request was cut off.

    :raises PgherdError: no such operation was begun.
    """
    old = {entry["id"] for entry in before}
    new = [
        entry
        for entry in _operations(session)
        if entry["id"] not in old and entry.get("kind") == kind
    ]
    if not new:
        raise PgherdError(f"the {kind} was not begun")
    return _followed(session, str(new[-1]["id"]))


def _followed(session: Session, number: str) -> Reply:
    from pgherd.commands.waits import await_operation

    entry = await_operation(session, number, FOLLOW_SECONDS)
    status = 200 if entry["state"] == "done" else 503
    return Reply(status, str(entry["result"]), {OPERATION: number})
