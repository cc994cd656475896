# SPDX-License-Identifier: GPL-3.0-or-later
"""How replicas and clusters are made, and what is run on events: the checks of these keys.

They may stand in a member's file and, but for `bootstrap`, in the dynamic configuration.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

CALLBACKS: Final = ("on_start", "on_stop", "on_restart", "on_reload", "on_role_change")
# What pg_basebackup is told by the agent, or what would make its copy no data directory (Patroni).
NOT_FOR_BASEBACKUP: Final = frozenset(
    {
        "pgdata", "format", "wal-method", "xlog-method", "gzip", "version", "compress",
        "dbname", "host", "port", "username", "password",
    }
)  # fmt: skip
# The same of pg_rewind.
NOT_FOR_REWIND: Final = frozenset(
    {
        "target-pgdata", "source-pgdata", "source-server", "write-recovery-conf", "dry-run",
        "restore-target-wal", "config-file", "no-ensure-shutdown", "version", "help",
    }
)  # fmt: skip
# What the agent itself decides of initdb.
NOT_FOR_INITDB: Final = frozenset({"pgdata", "username", "pwfile", "pwprompt"})


def is_command(value: Any) -> str | None:
    """Tell what is wrong with a command line: words as a shell would split them."""
    try:
        good = isinstance(value, str) and bool(shlex.split(value))
    except ValueError:
        good = False
    return None if good else "must be a command line"


def is_plain_mapping(value: Any) -> str | None:
    """Tell what is wrong with a mapping of names to plain values."""
    good = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(given, str | int | float | None)
        for name, given in value.items()
    )
    return None if good else "must be a mapping of parameters to plain values"


def is_methods(value: Any) -> str | None:
    """Tell what is wrong with the list of replica methods."""
    names = [value] if isinstance(value, str) else value
    good = isinstance(names, list) and bool(names) and all(isinstance(each, str) for each in names)
    return None if good else "must be a list of methods, such as basebackup"


def program_options(value: Any) -> dict[str, Any]:
    """Return the long options of a program, given as a mapping or as Patroni's list of them.

    :raises ValueError: it is neither.
    """
    if isinstance(value, Mapping):
        return dict(value)
    options: dict[str, Any] = {}
    if not isinstance(value, list):
        raise ValueError("neither a mapping nor a list")
    for each in value:
        if isinstance(each, str):
            name, equals, given = each.removeprefix("--").partition("=")
            options[name] = given if equals else True
        elif isinstance(each, Mapping):
            options |= each
        else:
            raise ValueError("an option is a word, or a mapping of one")
    return options


def is_options_without(refused: frozenset[str]) -> Any:
    """Return the check of a program's options, those in *refused* being the agent's own."""

    def problem(value: Any) -> str | None:
        try:
            taken = sorted(refused & set(program_options(value)))
        except ValueError:
            return "must be a mapping, or a list, of long options without their dashes"
        return f"must not give {', '.join(taken)}: the agent does" if taken else None

    return problem


def sections(raw: Mapping[str, Any], known: Mapping[str, Any], names: Any) -> Mapping[str, Any]:
    """Return those sections of *raw* that describe a method.

    :param known: keys that mean something else.
    :param names: the methods that are named, a word or a list.
    """
    listed = names if isinstance(names, list) else [names]
    named = {name for name in listed if isinstance(name, str)}
    named |= {
        key for key, value in raw.items() if isinstance(value, Mapping) and "command" in value
    }
    return {key: value for key, value in raw.items() if key in named and key not in known}


def is_method(value: Any) -> str | None:
    """Tell what is wrong with the section of a method."""
    if isinstance(value, Mapping) and is_command(value.get("command")) is None:
        return None
    return "must be a mapping with `command`"
