# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance mode: no automatic failover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgherd.commands.changes import change_config, read_config
from pgherd.commands.session import session_command

if TYPE_CHECKING:
    from pgherd.commands.session import Session

_wait = click.option("--wait", "waits", is_flag=True, help="End only when every member heeds it.")
_within = click.option(
    "--within", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait."
)


@click.command("pause")
@session_command()
@_wait
@_within
def pause_command(session: Session, *, waits: bool, within: float) -> None:
    """Switch automatic failover off: the agents leave PostgreSQL alone until `pgherd resume`."""
    _switch(session, paused=True, waits=waits, within=within)


@click.command("resume")
@session_command()
@_wait
@_within
def resume_command(session: Session, *, waits: bool, within: float) -> None:
    """Switch automatic failover on again."""
    _switch(session, paused=False, waits=waits, within=within)


def _switch(session: Session, *, paused: bool, waits: bool, within: float) -> None:
    changed = bool(read_config(session).get("pause")) != paused
    if changed:
        change_config(session, {"pause": True if paused else None})
    if waits:
        _await_members(session, paused=paused, within=within)
    if session.as_json:
        session.answer({"ok": True, "changed": changed, "pause": paused})
        return
    already = "" if changed else " already"
    if paused:
        click.echo(f"Maintenance mode is{already} on: no automatic failover")
    else:
        click.echo(f"Maintenance mode is{already} off: automatic failover works")


def _await_members(session: Session, *, paused: bool, within: float) -> None:
    """Wait until every member has published that it heeds it.

    :raises TooLateError: some have not.
    """
    from pgherd.commands.waits import await_cluster

    def judge(cluster: Any) -> list[str]:
        late = [
            name
            for name, member in cluster.members.items()
            if bool(member.data.get("pause")) != paused
        ]
        return [f"{', '.join(late)} has not heeded it"] if late else []

    await_cluster(session, judge, within)
