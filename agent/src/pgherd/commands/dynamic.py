# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's configuration in etcd: shown, and changed after the difference was shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.changes import (
    RESTART,
    as_yaml,
    change_config,
    coloured,
    diff_lines,
    difference,
    read_config,
)
from pgherd.commands.session import session_command
from pgherd.errors import PgherdError
from pgherd.merge_patch import merge_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgherd.commands.session import Session

PARAMETERS: Final = ("postgresql", "parameters")


@click.command("show-config")
@session_command()
def show_config_command(session: Session) -> None:
    """Show the cluster's configuration, which all members share (etcd has it)."""
    config = read_config(session)
    if session.as_json:
        session.answer(config)
    else:
        click.echo(as_yaml(config), nl=False)


@click.command("edit-config")
@session_command(force=True)
@click.option(
    "-s",
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="KEY may be a.b.c; null removes it.",
)
@click.option(
    "-p", "--pg", "pgs", multiple=True, metavar="NAME=VALUE", help="A PostgreSQL setting."
)
@click.option(
    "--apply", "apply_file", metavar="FILE", help="Merge a YAML file into it; - for stdin."
)
@click.option("--replace", "replace_file", metavar="FILE", help="Replace it by a YAML file.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show the difference.")
def edit_config_command(
    session: Session,
    *,
    sets: Sequence[str],
    pgs: Sequence[str],
    apply_file: str | None,
    replace_file: str | None,
    quiet: bool,
) -> None:
    """Change the cluster's configuration: in $EDITOR, or by the options below.

    The difference is shown and asked about. Only what differs is sent, so a change that somebody
    else makes meanwhile stays. The agent checks all of it before any of it is stored.
    """
    old = read_config(session)
    new = _edited(old, sets, pgs, apply_file, replace_file)
    if new is None:
        new = _in_editor(old)
    patch = difference(old, new)
    if not patch:
        session.tell("Not changed")
        if session.as_json:
            session.answer({"ok": True, "changed": False, "config": old})
        return
    lines = diff_lines(old, new)
    if not quiet:
        for line in lines:
            session.tell(coloured(line))
    session.confirm("Apply these changes?")
    reply = change_config(session, patch)
    waiting = [name for name in reply.headers.get(RESTART, "").replace(",", " ").split() if name]
    if session.as_json:
        session.answer({"ok": True, "changed": True, "config": reply.json(), "restart": waiting})
        return
    click.echo(click.style("Configuration changed", fg="green"))
    if waiting:
        click.echo(
            f"{', '.join(waiting)}: in force after a restart: pgherd restart --rolling --pending"
        )


def _edited(
    old: Mapping[str, Any],
    sets: Sequence[str],
    pgs: Sequence[str],
    apply_file: str | None,
    replace_file: str | None,
) -> dict[str, Any] | None:
    """Return what the options make of *old*, None when there are none."""
    if not (sets or pgs or apply_file or replace_file):
        return None
    new = _read(replace_file) if replace_file else dict(old)
    if apply_file:
        new = merge_patch(new, _read(apply_file))
    for text in sets:
        name, value = _assignment(text)
        new = merge_patch(new, nested(path_of(name), value))
    for text in pgs:
        name, value = _assignment(text)
        new = merge_patch(new, nested((*PARAMETERS, name), value))
    return new


def path_of(name: str) -> tuple[str, ...]:
    """Return the keys that *name* leads through; a PostgreSQL setting may have dots of its own."""
    parts = tuple(name.split("."))
    if parts[:2] == PARAMETERS and len(parts) > 2:
        return (*PARAMETERS, ".".join(parts[2:]))
    return parts


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return mappings within mappings, with *value* at the end of *path*."""
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise click.UsageError(f"{text!r} is no KEY=VALUE")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise click.UsageError(f"{text!r}: the value is no YAML") from error


def _read(name: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise PgherdError(f"{name}: cannot be read: {error.strerror}") from error
    return parse_mapping(text, name)


def parse_mapping(text: str, name: str) -> dict[str, Any]:
    """Return the mapping that the YAML *text* holds.

    :param name: where it comes from.
    :raises PgherdError: it is something else.
    """
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PgherdError(f"{name}: not YAML: {error}".replace("\n", " ")) from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise PgherdError(f"{name}: must hold a mapping, not a {type(value).__name__}")
    return value


def _in_editor(old: Mapping[str, Any]) -> dict[str, Any]:
    """Have a person edit *old*, again for as long as it is no YAML.

    :raises PgherdError: there is no editor, or no terminal.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal: say what to change with --set or --apply")
    text = as_yaml(old)
    while True:
        edited = click.edit(text, extension=".yml")
        if edited is None:
            return dict(old)
        try:
            return parse_mapping(edited, "the edited text")
        except PgherdError as error:
            click.echo(f"pgherd: {error}", err=True)
            click.confirm("Edit it again?", default=True, abort=True, err=True)
            text = edited
