# SPDX-License-Identifier: GPL-3.0-or-later
"""The man page, made of the commands themselves, so it cannot say anything else than they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pgherd import __version__
from pgherd.cli import SECTIONS, cli
from pgherd.commands.session import CONFIG, OWN_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator

CODES: Final = (
    ("0", "done"),
    ("1", "refused or failed, or somebody said no at a prompt; standard error says why"),
    ("2", "the command line was wrong, or there was no terminal to ask at"),
    ("3", "nobody answers: neither the agent of this host nor etcd, or none of the members meant"),
    ("4", "what was waited for did not come to hold in time"),
    ("78", "agent only: the configuration or the data directory needs a human"),
    ("130", "interrupted"),
)
ENVIRONMENT: Final = (
    ("PGHERD_CONFIG", "the configuration file, instead of the first of FILES that can be read"),
    ("NO_COLOR", "when it is not empty there are no colours"),
    ("FORCE_COLOR", "when it is not empty there are colours and boxes, wherever the output goes"),
    ("EDITOR", "what edit-config runs"),
)
FILES: Final = (
    (CONFIG, "the configuration of this host, with conf.d/*.yml beside it"),
    (f"~/.config/{OWN_CONFIG}", "that of a machine that is no host of a cluster"),
)


def escaped(text: str) -> str:
    """Return *text* so that roff takes nothing in it for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def page() -> str:
    """Return the page, in roff with the macros of man(7)."""
    lines = [
        f'.TH PGHERD 1 "" "pgherd {__version__}" "PostgreSQL clusters"',
        ".SH NAME",
        "pgherd \\- look after a PostgreSQL cluster that heals itself",
        ".SH SYNOPSIS",
        ".B pgherd",
        "[\\fB\\-c\\fR \\fIFILE\\fR] \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fICLUSTER\\fR] …",
        ".SH DESCRIPTION",
        escaped(
            "It asks the agent of this host and, where that one does not answer, etcd. On a "
            "machine that is no host of the cluster it asks etcd, or the agents that its file "
            "names. The name of the cluster may be given, as with patronictl, and need not be. "
            "Every command has --json. Colours and boxes are for terminals; what is piped is plain."
        ),
    ]
    for section, commands in SECTIONS.items():
        lines.append(f".SH {section.upper()}")
        for name in commands:
            lines += _command(name)
    lines += _table("EXIT CODES", CODES)
    lines += _table("ENVIRONMENT", ENVIRONMENT)
    lines += _table("FILES", FILES)
    return "\n".join(lines) + "\n"


def _table(head: str, rows: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [f".SH {head}"]
    for name, text in rows:
        lines += [".TP", f".B {escaped(name)}", escaped(text)]
    return lines


def _command(name: str) -> Iterator[str]:
    context = click.Context(cli, info_name="pgherd")
    command = cli.get_command(context, name)
    assert command is not None
    below = click.Context(command, info_name=name, parent=context)
    usage = " ".join(command.collect_usage_pieces(below))
    yield f".SS pgherd {escaped(name)} {escaped(usage)}"
    paragraphs = (command.help or "").replace("\b", "").split("\n\n")
    for index, paragraph in enumerate(paragraphs):
        if index:
            yield ".PP"
        yield escaped(" ".join(paragraph.split()))
    for parameter in command.get_params(below):
        record = parameter.get_help_record(below)
        if isinstance(parameter, click.Option) and record and "--help" not in parameter.opts:
            yield ".TP"
            yield f".B {escaped(record[0])}"
            yield escaped(" ".join(record[1].split()))
