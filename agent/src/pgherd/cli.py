# SPDX-License-Identifier: GPL-3.0-or-later
"""The `pgherd` command: its commands by subject, and what its exit codes mean.

A command's module is imported when the command is run, so `--help` and the quick ones stay quick.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from pgherd import __version__
from pgherd.commands.drawing import has_colours
from pgherd.errors import ConfigError, NobodyAnswersError, PgherdError, TooLateError

if TYPE_CHECKING:
    from collections.abc import Sequence

# What `pgherd` ends with. 1 is also the answer "no" at a prompt; 130 is Ctrl-C, as in a shell.
DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOBODY_ANSWERS: Final = 3
TOO_LATE: Final = 4
INTERRUPTED: Final = 130

EPILOG: Final = """\
\b
Exit codes: 0 done; 1 refused or failed, standard error says why; 2 wrong command line;
3 nobody answers; 4 time ran out. `pgherd COMMAND --help` tells more of each command.
"""


class Entry(NamedTuple):
    """One command: where it is, and its line in the help."""

    module: str
    help: str


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "Look": {
        "list": Entry("look", "Show the members: role, state, lag."),
        "topology": Entry("look", "Show who streams from whom."),
        "history": Entry("look", "Show past failovers and switchovers."),
        "doctor": Entry("diagnose", "Examine this host and say what to do."),
        "wait": Entry("waits", "Wait until a state holds, for scripts."),
        "version": Entry("look", "Show versions, of members too."),
    },
    "Change who leads": {
        "switchover": Entry("lead", "Hand the lead over to a standby."),
        "failover": Entry("lead", "Make a member leader where there is none."),
        "pause": Entry("maintain", "Switch automatic failover off."),
        "resume": Entry("maintain", "Switch automatic failover on again."),
    },
    "Members": {
        "restart": Entry("members", "Restart PostgreSQL, now or later, one by one."),
        "reload": Entry("members", "Have members read their files again."),
        "reinit": Entry("members", "Copy a standby anew from the leader."),
        "flush": Entry("members", "Cancel scheduled restarts or the switchover."),
    },
    "Configuration": {
        "show-config": Entry("dynamic", "Show the cluster's configuration."),
        "edit-config": Entry("dynamic", "Change the cluster's configuration."),
        "check-config": Entry("local", "Check this host's files."),
    },
    "Connect": {
        "dsn": Entry("connect", "Print how to connect."),
        "query": Entry("connect", "Run SQL on a member."),
    },
    "Whole clusters": {
        "demote-cluster": Entry("clusters", "Have the cluster follow another one."),
        "promote-cluster": Entry("clusters", "Have it stand on its own again."),
        "remove": Entry("clusters", "Delete what etcd holds of a cluster."),
    },
    "This program": {
        "agent": Entry("local", "Run the agent of this host (systemd does that)."),
        "guard": Entry("local", "Run the guard of this host (systemd does that)."),
        "completion": Entry("program", "Print the shell's completion script."),
        "man": Entry("program", "Print the man page."),
    },
}
COMMANDS: Final = {name: entry for each in SECTIONS.values() for name, entry in each.items()}


class Commands(click.Group):
    """The group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"pgherd.commands.{entry.module}")
        command = getattr(module, cmd_name.replace("-", "_") + "_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                rows = [(name.ljust(15), entry.help) for name, entry in commands.items()]
                formatter.write_dl(rows)


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-c",
    "--config",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration file.",
)
@click.version_option(__version__, message="pgherd %(version)s")
@click.pass_context
def cli(context: click.Context, path: Path | None) -> None:
    """Look after the PostgreSQL cluster of this host, or of the one a client's file names.

    CLUSTER, its name, may be left out; names of members come after it.
    """
    context.color = has_colours()


def _complain(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        click.echo(f"pgherd: {sentence}", err=True)


def main() -> None:
    """Run the command line; turn our errors into sentences and exit codes."""
    try:
        cli.main(prog_name="pgherd", standalone_mode=True)
    except ConfigError as error:
        _complain(error.problems)
        sys.exit(FAILED)
    except NobodyAnswersError as error:
        _complain([str(error)])
        sys.exit(NOBODY_ANSWERS)
    except TooLateError as error:
        _complain([str(error)])
        sys.exit(TOO_LATE)
    except PgherdError as error:
        _complain([str(error)])
        sys.exit(FAILED)
    except ModuleNotFoundError as error:
        package = f"python3-{(error.name or '').partition('.')[0]}"
        _complain([f"this needs the Python module {error.name}: apt install {package}"])
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
