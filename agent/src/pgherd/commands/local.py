# SPDX-License-Identifier: GPL-3.0-or-later
"""What concerns this host's processes and files alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from pgherd.commands.session import config_option, host_option, json_option
from pgherd.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@click.command("agent")
@host_option
def agent_command(path: Path) -> None:
    """Run the agent of this host (systemd does that).

    It ends with 78 when the configuration or the data directory needs a human.
    """
    # Imported here: the other commands need none of it and start faster without.
    from pgherd.start import main as run_agent

    sys.exit(run_agent(path))


@click.command("guard")
@host_option
def guard_command(path: Path) -> None:
    """Run the guard of this host (systemd does that).

    It kills PostgreSQL when the lease runs out, whatever the agent does.
    """
    from pgherd.guard_process import main as run_guard

    sys.exit(run_guard(path))


@click.command("check-config")
@config_option
@json_option
@click.option("--partial", is_flag=True, help="Judge FILE alone: other files may complete it.")
def check_config_command(path: Path, as_json: bool, partial: bool) -> None:
    """Check this host's files, pgherd.yml with the conf.d beside it, or a client's file.

    One line for each problem; 0 and silence when there is none.
    """
    from pgherd.config import read_yaml
    from pgherd.schema import check

    problems: tuple[str, ...] = ()
    try:
        problems = tuple(check(read_yaml(path), partial=True) if partial else _problems(path))
    except ConfigError as error:
        problems = error.problems
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": problems}))
    if problems:
        raise ConfigError(problems)


def _problems(path: Path) -> list[str]:
    """Return what is wrong with the certificates that the file and its fragments name.

    :raises ConfigError: there is more to it.
    """
    from pgherd.access_config import Access, certificate_problems
    from pgherd.client_config import build_client, is_client
    from pgherd.config import checked, read

    raw = read(path)
    if is_client(raw):
        return certificate_problems(Access(), build_client(raw, path.parent.absolute()).ctl)
    config = checked(raw)
    return certificate_problems(config.access, config.ctl)
