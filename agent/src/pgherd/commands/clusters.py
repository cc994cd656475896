# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to a whole cluster: follow another one, stand on its own, be forgotten."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from pgherd.commands.changes import change_config, read_config
from pgherd.commands.listing import render
from pgherd.commands.look import seen
from pgherd.commands.session import leader_of, session_command
from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from pgherd.commands.session import Session

_within = click.option(
    "--within", default=300.0, show_default=True, metavar="SECONDS", help="How long it may take."
)


@click.command("demote-cluster")
@session_command(force=True)
@click.option(
    "--host", metavar="HOST", help="Where the other one's leader is; several with commas."
)
@click.option("--port", type=int, metavar="PORT", help="Its port.")
@click.option("--restore-command", metavar="COMMAND", help="Fetches WAL from its archive.")
@click.option("--primary-slot-name", metavar="NAME", help="A slot that it keeps for us.")
@_within
def demote_cluster_command(session: Session, *, within: float, **given: Any) -> None:
    """Have the cluster follow another one: its leader takes no writes any more.

    It ends when the leader follows as standby leader.
    """
    source = {name: value for name, value in given.items() if value is not None}
    if not {"host", "restore_command"} & set(source):
        raise click.UsageError("say whom to follow: --host, --restore-command or both")
    leader = leader_of(session.cluster())
    if leader is None:
        raise PgherdError("there is no leader to demote")
    if leader["role"] == "standby_leader":
        raise PgherdError("the cluster follows another one already")
    session.tell(render(seen(session)[0]))
    session.confirm(f"Demote cluster {session.known.scope}? It takes no writes then.")
    change_config(session, {"standby_cluster": source})
    _finish(session, "standby_leader", within, "demoted: it follows the other one")


@click.command("promote-cluster")
@session_command(force=True)
@_within
def promote_cluster_command(session: Session, *, within: float) -> None:
    """Have it stand on its own again: the standby leader is promoted and takes writes.

    Make sure that the other cluster takes none any more.
    """
    if "standby_cluster" not in read_config(session):
        raise PgherdError("the cluster follows no other one")
    session.tell(render(seen(session)[0]))
    session.confirm(f"Promote cluster {session.known.scope}?")
    change_config(session, {"standby_cluster": None})
    _finish(session, "primary", within, "promoted: it takes writes")


def _finish(session: Session, role: str, within: float, text: str) -> None:
    """Wait until the leader plays *role*, and say so.

    :raises TooLateError: it does not.
    """
    from pgherd.commands.waits import await_cluster

    def judge(cluster: Any) -> list[str]:
        member = cluster.leader_member
        if member is None:
            return ["there is no leader"]
        plays = member.data.get("role")
        is_there = plays == role and member.is_running
        return [] if is_there else [f"{member.name} is {plays}, {member.state}"]

    cluster = await_cluster(session, judge, within)
    if session.as_json:
        session.answer({"ok": True, "leader": cluster.leader.name if cluster.leader else None})
    else:
        click.echo(click.style(f"Cluster {session.known.scope} is {text}", fg="green"))
        click.echo(render(seen(session)[0]))


@click.command("remove")
@session_command(force=True)
def remove_command(session: Session) -> None:
    """Delete what etcd holds of a cluster whose agents are all stopped.

    The data of PostgreSQL stay where they are. While an agent runs it is refused: stop them first
    (systemctl stop pgherd). Without a terminal --force is needed.
    """
    from pgherd.etcd import Compare, Delete

    scope = session.known.scope
    base = f"/{session.known.namespace}/{scope}/"

    async def read(store: Any) -> list[Any]:
        _, found = await store.etcd.range(base)
        return list(found)

    found = session.keys(read)
    if not found:
        raise PgherdError(f"etcd holds nothing of cluster {scope}")
    alive = [key for key in found if key.lease]
    if alive:
        members = [
            key.key.removeprefix(base + "members/") for key in alive if "/members/" in key.key
        ]
        names = ", ".join(sorted(members)) or "one"
        raise PgherdError(f"agents are running: {names}; stop them first (systemctl stop pgherd)")
    for key in found:
        session.tell(f"  {key.key}")
    if not session.force:
        _confirm_name(scope)

    async def delete(store: Any) -> bool:
        # Not if an agent was started meanwhile and has written anything.
        same = [Compare(key.key, "mod_revision", key.mod_revision) for key in found]
        return bool(await store.etcd.txn(same, [Delete(key.key) for key in found]))

    if not session.keys(delete):
        raise PgherdError("the keys have just changed: is an agent running?")
    if session.as_json:
        session.answer({"ok": True, "deleted": [key.key for key in found]})
    else:
        click.echo(f"etcd has forgotten cluster {scope}")


def _confirm_name(scope: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: say --force to go ahead")
    typed = click.prompt("Type the cluster's name to delete these keys", err=True)
    if typed != scope:
        raise PgherdError(f"{typed!r} is not {scope!r}: nothing was deleted")
