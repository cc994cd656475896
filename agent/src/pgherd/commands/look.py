# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that show the cluster and change nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd import PATRONI_VERSION, __version__
from pgherd.commands.listing import render, with_lag
from pgherd.commands.session import leader_of, pick, session_command
from pgherd.errors import NobodyAnswersError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.commands.session import Session


# A leader that is lost must not keep a person waiting who wants to see just that, seconds.
LEADER_SECONDS: Final = 0.5


def _watchable(function: Callable[..., None]) -> Callable[..., None]:
    verbose = click.option(
        "-v", "--verbose", is_flag=True, help="What each is doing: the rule it follows."
    )
    every = click.option(
        "--every",
        default=1.0,
        metavar="SECONDS",
        show_default=True,
        help="Between two looks, with -w.",
    )
    watch = click.option("-w", "--watch", is_flag=True, help="Show again until Ctrl-C.")
    return watch(every(verbose(function)))


def nodes_of(session: Session, members: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Ask all *members* at once for `GET /patroni`."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=max(1, min(len(members), 32))) as pool:
        answers = pool.map(session.node, members)
        return {str(row["name"]): body for row, body in zip(members, answers, strict=True)}


def seen(
    session: Session, *, verbose: bool = False
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the cluster as the leader sees it at this moment, and its members' own words.

    :raises NobodyAnswersError: nobody answers.
    """
    body = session.cluster()
    leader = leader_of(body)
    if verbose:
        nodes = nodes_of(session, body["members"])
        return with_lag(body, nodes.get(str(leader["name"]), {}) if leader else {}), nodes
    return with_lag(body, session.node(leader, LEADER_SECONDS) if leader else {}), None


def _show(session: Session, draw: Callable[[], str], *, watch: bool, every: float) -> None:
    """Print what *draw* returns, again and again if wanted, in one place on a terminal."""
    if not watch:
        click.echo(draw())
        return
    on_terminal = sys.stdout.isatty()
    height = 0
    while True:
        try:
            text = draw()
        except NobodyAnswersError as error:
            text = f"{error}"
        if on_terminal and not session.as_json:
            # Back to where it began; what remains of lines that were longer is wiped out.
            back = f"\x1b[{height}A\r" if height else ""
            click.echo(back + "".join(f"{line}\x1b[K\n" for line in text.splitlines()), nl=False)
            click.echo("\x1b[J", nl=False)
            height = len(text.splitlines())
        else:
            click.echo(text)
        time.sleep(max(every, 0.1))


def _table(session: Session, *, verbose: bool, tree: bool) -> str:
    import json

    body, nodes = seen(session, verbose=verbose)
    if session.as_json:
        if nodes is not None:
            body["members"] = [
                {**row, "patroni": nodes.get(str(row["name"]))} for row in body["members"]
            ]
        return json.dumps(body)
    return render(body, nodes, tree=tree)


@click.command("list")
@session_command()
@_watchable
def list_command(session: Session, *, watch: bool, every: float, verbose: bool) -> None:
    """Show the members: role, state, lag.

    Lag is the WAL a standby has not applied yet, Delay the age of the oldest of it: so much of the
    leader's newest writes is not to be seen there. A member with * waits for a restart.

    With --json the body of GET /cluster, with that age under pgherd.lag_seconds of each standby.
    """
    _show(session, lambda: _table(session, verbose=verbose, tree=False), watch=watch, every=every)


@click.command("topology")
@session_command()
@_watchable
def topology_command(session: Session, *, watch: bool, every: float, verbose: bool) -> None:
    """Show who streams from whom.

    Each standby stands below the member it streams from at this moment. Where that is not the one
    it shall stream from (whom the tag replicatefrom names, else the leader), Upstream tells both.

    With --json it is pgherd.upstream of each member.
    """
    _show(session, lambda: _table(session, verbose=verbose, tree=True), watch=watch, every=every)


@click.command("history")
@session_command()
def history_command(session: Session) -> None:
    """Show past failovers and switchovers: each timeline, where and why it ended, who led next."""
    from pgherd.commands.drawing import Cell, Column, table

    rows = _history(session)
    if session.as_json:
        session.answer(rows)
        return
    heads = ("TL", "LSN", "Reason", "Timestamp", "New leader")
    columns = [Column(head, right=head in ("TL", "LSN")) for head in heads]
    padded = [[*row, *[""] * (len(heads) - len(row))][: len(heads)] for row in rows]
    if rows:
        cells = [[Cell(str(value)) for value in [row[0], _lsn(row[1]), *row[2:]]] for row in padded]
        click.echo(table(columns, cells))
    else:
        click.echo("The cluster is on its first timeline: nobody has taken over yet.")


def _lsn(value: Any) -> str:
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}" if isinstance(value, int) else str(value)


def _history(session: Session) -> list[list[Any]]:
    try:
        reply = session.read("/history")
        rows = reply.json() if reply.status == 200 else None
    except NobodyAnswersError:
        rows = None
    if isinstance(rows, list):
        return rows
    return [list(row) for row in session.keys(lambda store: store.load()).history]


@click.command("version")
@session_command(members=True)
def version_command(session: Session) -> None:
    """Show versions, of members too.

    Without a name only that of this program; with the cluster's name those of all members, with
    names of members theirs.
    """
    own = {"pgherd": __version__, "patroni": PATRONI_VERSION}
    text = f"pgherd {__version__} (speaks Patroni {PATRONI_VERSION})"
    if not session.names:
        _tell_version(session, text, own)
        return
    members = pick(session.cluster(), session.members)
    nodes = nodes_of(session, members)
    told = {name: _versions(body) for name, body in nodes.items()}
    lines = [f"{name}: {_spoken(versions)}" for name, versions in told.items()]
    _tell_version(session, "\n".join([text, *lines]), {**own, "members": told})
    silent = [name for name, versions in told.items() if not versions]
    if silent:
        raise NobodyAnswersError(f"no answer from {', '.join(silent)}")


def _tell_version(session: Session, text: str, value: Mapping[str, Any]) -> None:
    if session.as_json:
        session.answer(value)
    else:
        click.echo(text)


def _versions(body: Mapping[str, Any]) -> dict[str, Any]:
    if "patroni" not in body:
        return {}
    return {
        "pgherd": (body.get("pgherd") or {}).get("version"),
        "patroni": body["patroni"].get("version"),
        "postgresql": postgresql_version(body.get("server_version")),
    }


def postgresql_version(number: Any) -> str | None:
    """Return `17.4` for 170004, None when PostgreSQL does not say."""
    return f"{number // 10000}.{number % 10000}" if isinstance(number, int) else None


def _spoken(versions: Mapping[str, Any]) -> str:
    if not versions:
        return "no answer"
    agent = (
        f"pgherd {versions['pgherd']}" if versions["pgherd"] else f"Patroni {versions['patroni']}"
    )
    server = versions["postgresql"]
    return f"{agent}, PostgreSQL {server}" if server else f"{agent}, PostgreSQL does not answer"
