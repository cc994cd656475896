# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to members, one after the other: restart, reload, reinit, flush."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.drawing import duration
from pgherd.commands.rest import Reply
from pgherd.commands.schedule import parse_schedule, scheduled_option
from pgherd.commands.session import LEADING, by_use, pick, session_command
from pgherd.errors import NobodyAnswersError, PgherdError, TooLateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgherd.commands.session import Session
    from pgherd.ledger import Entry

ROLES: Final = ("leader", "primary", "standby_leader", "replica", "standby", "any")
# What `restart_order` says of settings that standbys must not have below their primary's.
LOWERED: Final = "primary first"
# How long a rolling restart is followed, and a copy: big ones take hours. Seconds.
ROLLING_SECONDS: Final = 3600.0
COPY_SECONDS: Final = 24 * 3600.0
# How long members may take to know what a change of the configuration means for them, seconds.
INFORM_SECONDS: Final = 15.0
# How soon a member has begun the copy that it was asked for, seconds.
BEGIN_SECONDS: Final = 15.0

role_option = click.option(
    "-r",
    "--role",
    metavar="ROLE",
    type=click.Choice(ROLES),
    default="any",
    help=f"Only these: {', '.join(ROLES)}.",
)


def chosen(session: Session, role: str, *, informed: bool = False) -> list[dict[str, Any]]:
    """Return the members that were named, all of them for none, of *role*; the leader last.

    :param informed: what is pending on them matters.
    :raises PgherdError: there is none.
    """
    rows = pick(_cluster(session, informed=informed), session.members)
    rows = [row for row in rows if _is(row, role)]
    if not rows:
        raise PgherdError(f"no member is a {role}")
    return sorted(rows, key=lambda row: row.get("role") in LEADING)


def _cluster(session: Session, *, informed: bool) -> dict[str, Any]:
    if not informed:
        return session.cluster()
    from pgherd.commands.waits import informed_cluster

    return informed_cluster(session, INFORM_SECONDS)


def _is(row: Mapping[str, Any], role: str) -> bool:
    actual = str(row.get("role"))
    if role == "any":
        return True
    if role in ("replica", "standby"):
        return actual not in LEADING
    return actual in (LEADING if role == "leader" else (role.replace("primary", "leader"),))


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(row["name"]) for row in rows)


class Told:
    """The answers of members, shown as they come, and all together for a script."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._silent: list[str] = []
        self.results: list[dict[str, Any]] = []

    def ask(self, row: Mapping[str, Any], method: str, path: str, body: Any = None) -> Reply:
        """Have the member *row* do something; one that does not answer answers 503."""
        try:
            return self._session.act([row], method, path, body)
        except NobodyAnswersError as error:
            self._silent.append(str(row["name"]))
            return Reply(503, str(error))

    def note(self, name: str, reply: Reply, took: float | None = None) -> None:
        """Show what the member *name* answered.

        :param took: seconds, to be shown where it tells something.
        """
        self.results.append({"member": name, "status": reply.status, "message": reply.text})
        if not self._session.as_json:
            spent = f" ({duration(took)})" if took is not None and reply.status == 200 else ""
            colour = "green" if reply.is_good else "red"
            click.echo(f"{name}: {click.style(reply.text, fg=colour)}{spent}")

    def finish(self) -> None:
        """Print it for a script.

        :raises NobodyAnswersError: none of the members answered.
        :raises PgherdError: a member refused or failed.
        """
        failed = [each["member"] for each in self.results if each["status"] not in (200, 202)]
        if self._session.as_json:
            self._session.answer({"ok": not failed, "results": self.results})
        if failed:
            nobody = len(self._silent) == len(self.results)
            error = NobodyAnswersError if nobody else PgherdError
            raise error(f"not done on {', '.join(failed)}")


def ask_each(
    session: Session,
    rows: Sequence[Mapping[str, Any]],
    method: str,
    path: str,
    body: Any = None,
    *,
    fine: Sequence[int] = (),
    stops: bool = False,
    timed: bool = False,
) -> None:
    """Ask every member in turn and show the answers.

    :param fine: codes that mean there was nothing to do.
    :param stops: what failed on one is not tried on the next.
    :param timed: it takes long enough to say how long.
    :raises PgherdError: one refused or failed, or does not answer.
    """
    told = Told(session)
    for row in rows:
        begun = time.monotonic()
        reply = told.ask(row, method, path, body)
        if reply.status in fine:
            reply = Reply(200, reply.text)
        told.note(str(row["name"]), reply, time.monotonic() - begun if timed else None)
        if stops and not reply.is_good:
            break
    told.finish()


@click.command("restart")
@session_command(members=True, force=True)
@role_option
@click.option("--any", "any_one", is_flag=True, help="Only one of them, whichever.")
@scheduled_option
@click.option("--pg-version", metavar="VERSION", help="Only where PostgreSQL is older than this.")
@click.option("--pending", is_flag=True, help="Only members that wait for a restart.")
@click.option(
    "--timeout", "start_timeout", metavar="SECONDS", help="Give up on a start that takes longer."
)
@click.option(
    "--rolling", is_flag=True, help="By the agents: standbys, a switchover, the old leader."
)
def restart_command(
    session: Session, *, role: str, any_one: bool, rolling: bool, pending: bool, **given: Any
) -> None:
    """Restart PostgreSQL, now or later, one by one: standbys first, the leader last.

    The leader comes first where a setting is lowered that standbys must not have below the leader's
    (max_connections, say). What fails on one member is not tried on the next.

    A leader that is restarted takes no writes for that long. With --rolling a standby that was
    restarted leads meanwhile, and clients wait for one switchover only. A rolling restart goes on
    without this command, which only follows it; `pgherd flush rolling` ends it.
    """
    at = parse_schedule(given["scheduled"])
    if rolling:
        _roll(session, pending=pending, at=at)
        return
    rows = chosen(session, role, informed=pending)
    rows = [random.choice(rows)] if any_one else rows
    idle = [row for row in rows if pending and not row.get("pending_restart")]
    rows = [row for row in rows if row not in idle]
    if idle:
        session.tell(f"nothing is pending on {_names(idle)}")
    if not rows:
        if session.as_json:
            session.answer({"ok": True, "results": []})
        return
    body = {
        "schedule": at,
        "restart_pending": True if pending else None,
        "postgres_version": given["pg_version"],
        "timeout": given["start_timeout"],
    }
    rows = _in_order(rows)
    moment = f" at {at}" if at else ""
    session.confirm(f"Restart PostgreSQL on {_names(rows)}{moment}?")
    if at and session.force:
        # As patronictl: what was planned before makes way.
        for row in rows:
            if row.get("scheduled_restart"):
                session.act([row], "DELETE", "/restart")
    known = {name: value for name, value in body.items() if value is not None}
    ask_each(session, rows, "POST", "/restart", known, stops=not at, timed=True)


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return *rows*, the leader in front where its settings must be lowered first."""
    from pgherd.server_settings import restart_order

    leader = next((row for row in rows if row.get("role") in LEADING), None)
    if leader is None or restart_order(leader.get("pending_restart_reason") or {}) != LOWERED:
        return rows
    return [leader, *(row for row in rows if row is not leader)]


def _roll(session: Session, *, pending: bool, at: str | None) -> None:
    """Have the agents restart everybody, and follow them.

    :raises PgherdError: it was refused or failed.
    """
    cluster = _cluster(session, informed=pending)
    waiting = [row for row in cluster["members"] if row.get("pending_restart")]
    rows = waiting if pending else cluster["members"]
    if not rows:
        session.tell("nothing is pending on any member")
        if session.as_json:
            session.answer({"ok": True, "operation": None})
        return
    session.confirm(f"Restart PostgreSQL on {_names(rows)}, one after the other?")
    body: dict[str, Any] = {"pending": pending}
    reply = session.act(
        by_use(cluster), "POST", "/rolling_restart", {**body, "scheduled_at": at} if at else body
    )
    if not reply.is_good:
        raise PgherdError(reply.text)
    number = reply.headers.get("x-pgherd-operation") or reply.mapping().get("id")
    session.tell(reply.text if not reply.mapping() else f"rolling restart {number} has begun")
    entry: dict[str, Any] = {"id": number}
    if number and not at:
        from pgherd.commands.waits import await_operation

        entry = await_operation(session, str(number), ROLLING_SECONDS, turns(session))
    ok = entry.get("state") in (None, "done")
    if session.as_json:
        session.answer({"ok": ok, "operation": entry})
    if not ok:
        raise PgherdError(str(entry["result"]))
    if entry.get("result"):
        session.tell(click.style(str(entry["result"]), fg="green"))


def turns(session: Session) -> Callable[[Entry], None]:
    """Return what tells a person whose turn it is, once for each."""
    told: list[int] = []

    def notice(entry: Entry) -> None:
        plan, turn = entry.details.get("plan") or [], int(entry.details.get("turn") or 0)
        if not entry.is_finished and turn < len(plan) and turn not in told:
            told.append(turn)
            session.tell(f"{turn + 1} of {len(plan)}: {plan[turn]}")

    return notice


@click.command("reload")
@session_command(members=True, force=True)
@role_option
def reload_command(session: Session, *, role: str) -> None:
    """Have members read their files again, and PostgreSQL with them."""
    rows = chosen(session, role)
    session.confirm(f"Reload {_names(rows)}?")
    ask_each(session, rows, "POST", "/reload")


@click.command("reinit")
@session_command(members=True, force=True)
@click.option(
    "--from-leader", is_flag=True, help="Copy the leader, though a standby has the tag clonefrom."
)
@click.option("--cancel", is_flag=True, help="First end what the member is busy with.")
@click.option("--wait", "waits", is_flag=True, help="End only when it streams again.")
def reinit_command(session: Session, *, from_leader: bool, cancel: bool, waits: bool) -> None:
    """Copy a standby anew from the leader.

    What it has now is thrown away once the copy is there. --force goes ahead without asking, and
    cancels what the member is busy with.
    """
    cluster = session.cluster()
    names = session.members
    if not names:
        raise click.UsageError("say which: pgherd reinit MEMBER")
    rows = pick(cluster, names)
    session.confirm(f"Throw the data of {_names(rows)} away and copy anew?")
    body: dict[str, Any] = {"force": True} if cancel or session.force else {}
    if from_leader:
        body["from_leader"] = True
    told = Told(session)
    for row in rows:
        name = str(row["name"])
        begun = time.monotonic()
        reply = told.ask(row, "POST", "/reinitialize", body)
        if reply.is_good and waits:
            session.tell(f"{name}: {reply.text}")
            _await_copy(session, name)
            reply = Reply(200, "streams again")
        told.note(name, reply, time.monotonic() - begun if waits else None)
    told.finish()


def _await_copy(session: Session, name: str) -> None:
    """Wait until *name* has begun, and until it streams again.

    :raises TooLateError: it does not.
    """
    from pgherd.commands.waits import Wanted, await_cluster, await_wanted

    def judge(cluster: Any) -> list[str]:
        member = cluster.members.get(name)
        begun = member is None or not member.is_running
        return [] if begun else [f"{name} has not begun"]

    # A small copy may be over before etcd heard of it.
    with contextlib.suppress(TooLateError):
        await_cluster(session, judge, BEGIN_SECONDS)
    await_wanted(session, Wanted((name,), state="streaming"), COPY_SECONDS)


@click.command("flush")
@session_command(members=True, force=True, words="restart|switchover|rolling")
@role_option
def flush_command(session: Session, *, role: str) -> None:
    """Cancel scheduled restarts or the switchover, or a rolling restart that is under way.

    `restart` may be followed by the members it is about; a rolling restart ends with the member
    that is just being restarted.
    """
    words = ("restart", "switchover", "rolling")
    targets = [name for name in session.members if name in words]
    if len(targets) != 1:
        raise click.UsageError(f"say what is cancelled: one of {', '.join(words)}")
    target = targets[0]
    cluster = session.cluster()
    if target == "restart":
        rows = pick(cluster, [name for name in session.members if name != target])
        rows = [row for row in rows if _is(row, role)]
        session.confirm(f"Cancel the scheduled restarts of {_names(rows)}?")
        ask_each(session, rows, "DELETE", "/restart", fine=(404,))
        return
    session.confirm(f"Cancel the {'rolling restart' if target == 'rolling' else target}?")
    path = "/switchover" if target == "switchover" else "/rolling_restart"
    reply = session.act(by_use(cluster), "DELETE", path)
    if session.as_json:
        session.answer({"ok": reply.is_good, "status": reply.status, "message": reply.text})
    if not reply.is_good and reply.status != 404:
        raise PgherdError(reply.text)
    session.tell(reply.text)
