# SPDX-License-Identifier: GPL-3.0-or-later
"""What concerns this program itself: the shell's completion and the man page."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from pgherd.commands.session import json_option

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), default="bash")
@json_option
def completion_command(shell: str, as_json: bool) -> None:
    """Print the shell's completion script.

    For one session: source <(pgherd completion bash). For every session write it to a file where
    the shell looks for such; hosts of a cluster have that for bash.
    """
    from pgherd.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "pgherd", "_PGHERD_COMPLETE").source()
    click.echo(json.dumps({"shell": shell, "script": script}) if as_json else script)


@click.command("man")
@json_option
def man_command(as_json: bool) -> None:
    """Print the man page, in roff: pgherd man | man -l -"""
    from pgherd.commands.manpage import page

    click.echo(json.dumps({"page": page()}) if as_json else page(), nl=as_json)
