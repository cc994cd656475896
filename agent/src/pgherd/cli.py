# SPDX-License-Identifier: GPL-3.0-or-later
"""The `pgherd` command.

Exit codes: 0 done; 1 it could not be done, one sentence on standard error says why; 2 the command
line was wrong; 78 (`agent` only) the configuration or the data directory needs a human.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from pgherd import PATRONI_VERSION, __version__
from pgherd.errors import ConfigError, PgherdError

CONFIG = "/etc/pgherd/pgherd.yml"

_config_option = click.option(
    "-c",
    "--config",
    "path",
    default=CONFIG,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The agent's configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Keep a PostgreSQL cluster alive, and look at it."""


@cli.command()
@_config_option
def agent(path: Path) -> None:
    """Run the agent of this host (systemd does that)."""
    # Imported here: the other commands need none of it and start faster without.
    from pgherd.start import main as run_agent

    sys.exit(run_agent(path))


@cli.command()
@_config_option
def guard(path: Path) -> None:
    """Kill PostgreSQL when the lease runs out, whatever the agent does (systemd runs this)."""
    from pgherd.guard_process import main as run_guard

    sys.exit(run_guard(path))


@cli.command("check-config")
@_config_option
@click.option("--partial", is_flag=True, help="Judge FILE alone: other files may complete it.")
def check_config(path: Path, partial: bool) -> None:
    """Check a configuration, with the conf.d beside it; print one line for each problem."""
    from pgherd.config import load, read_yaml
    from pgherd.schema import check

    if partial:
        problems = check(read_yaml(path), partial=True)
        if problems:
            raise ConfigError(problems)
    else:
        load(path)


@cli.command("list")
@_config_option
@click.option("-w", "--watch", is_flag=True, help="Show again every second until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the body of GET /cluster.")
@click.option("-v", "--verbose", is_flag=True, help="Ask every member which rule fired last.")
def list_members(path: Path, watch: bool, as_json: bool, verbose: bool) -> None:
    """Show the members of the cluster."""
    from rich.console import Console
    from rich.live import Live

    from pgherd.config import load
    from pgherd.listing import fetch, show

    config = load(path)
    if as_json:
        while True:
            click.echo(json.dumps(fetch(config)))
            if not watch:
                return
            time.sleep(1)
    console = Console()
    if not watch:
        console.print(show(console, config, verbose=verbose))
        return
    with Live(show(console, config, verbose=verbose), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(1)
            live.update(show(console, config, verbose=verbose), refresh=True)


@cli.command()
def version() -> None:
    """Print pgherd's version and the Patroni release it speaks."""
    click.echo(f"pgherd {__version__} (speaks Patroni {PATRONI_VERSION})")


def main() -> None:
    """Run the command line; turn our errors into one sentence and exit code 1."""
    try:
        cli.main(prog_name="pgherd", standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"pgherd: {problem}", err=True)
        sys.exit(1)
    except PgherdError as error:
        click.echo(f"pgherd: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
