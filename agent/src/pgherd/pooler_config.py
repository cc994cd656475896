# SPDX-License-Identifier: GPL-3.0-or-later
"""Section `pgherd.pooler`: the PgBouncers of this host, and what the agent sees to there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# Other names cannot be written into PgBouncer's files; who asks for one is served as `*` says.
NAME: Final = re.compile(r"\*|[A-Za-z0-9_.-]{1,63}")
# What a line of PgBouncer's section [databases] says about the server is the agent's.
OWN_OPTIONS: Final = re.compile(r"(?:^|\s)(host|port)\s*=")


@dataclass(frozen=True)
class PoolerSocket:
    """Where one PgBouncer of this host is reached; its console asks our own user for no password.

    :param target_file: its section [databases], which is ours; None where others write it.
    """

    socket_directory: Path
    port: int
    target_file: Path | None = None


@dataclass(frozen=True)
class PoolerConfig:
    """Both PgBouncers of this host; each may be missing.

    :param rw: the one whose target is the leader.
    :param ro: the one whose target is the local server.
    :param databases: names that clients ask for, with what their lines say beyond the server.
    :param pause_limit: seconds after which a paused pooler is resumed, whatever has become of the
        operation that paused it.
    """

    rw: PoolerSocket | None = None
    ro: PoolerSocket | None = None
    databases: Mapping[str, str] = field(default_factory=lambda: {"*": ""})
    pause_limit: float = 10.0


def build_pooler(raw: Mapping[str, Any] | None) -> PoolerConfig | None:
    """Return what the section *raw* says, once it was found good; None when there is none."""
    if raw is None:
        return None
    given = {name: raw[name] for name in ("databases", "pause_limit") if name in raw}
    return PoolerConfig(rw=_socket(raw.get("rw")), ro=_socket(raw.get("ro")), **given)


def _socket(raw: Mapping[str, Any] | None) -> PoolerSocket | None:
    if raw is None:
        return None
    file = raw.get("target_file")
    return PoolerSocket(Path(raw["socket_directory"]), raw["port"], Path(file) if file else None)


def is_port(value: Any) -> str | None:
    """Return what is wrong with *value* as a port, None when nothing is."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
    return None if good else "must be a port"


def is_databases(value: Any) -> str | None:
    """Return what is wrong with *value* as the databases of a pooler, None when nothing is."""
    good = isinstance(value, Mapping) and value and all(
        isinstance(name, str)
        and NAME.fullmatch(name)
        and isinstance(options, str)
        and (options == "" or options.isprintable())
        and not OWN_OPTIONS.search(options)
        for name, options in value.items()
    )  # fmt: skip
    return None if good else (
        "must be a mapping of names of databases (`*` for all others) to further options of "
        "PgBouncer's line, without host and port, which the agent gives"
    )  # fmt: skip


def check_pooler(pooler: Mapping[str, Any]) -> list[str]:
    """Return one sentence for everything that a whole section ``pgherd.pooler`` lacks."""
    wanted = {"rw": ("socket_directory", "port", "target_file"), "ro": ("socket_directory", "port")}
    return [
        f"pgherd.pooler.{name}.{key}: is missing"
        for name, keys in wanted.items()
        if name in pooler
        for key in keys
        if key not in pooler[name]
    ]
