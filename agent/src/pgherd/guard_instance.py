# SPDX-License-Identifier: GPL-3.0-or-later
"""Killing every process of an instance, and seeing that none is left.

It imports little: the guard process stays small.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")


class DoomedInstance:
    """The processes of the PostgreSQL instance on *data_dir*.

    :param cage: the cgroup it runs in, empty where it has none.
    """

    def __init__(self, data_dir: str, cage: str) -> None:
        self._data_dir = data_dir
        self._cage = Path(cage) if cage else None

    def kill(self) -> None:
        """Kill all of them at once."""
        if self._cage is not None:
            with contextlib.suppress(OSError):
                (self._cage / "cgroup.kill").write_text("1")
        # An instance that somebody started by hand is in no cage.
        for pid in self._outside():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> set[int]:
        """Return the pids of those that are there; a zombie is not."""
        return self._caged() | self._outside()

    def _caged(self) -> set[int]:
        if self._cage is None:
            return set()
        try:
            return {int(pid) for pid in (self._cage / "cgroup.procs").read_text().split()}
        except OSError:
            return set()

    def _outside(self) -> set[int]:
        """Return what works in the data directory as PostgreSQL, and all that it has started.

        Every process of an instance has the data directory as its working directory. A shell that
        somebody left there is none of them, hence the look at the program.
        """
        parents = dict(_parents())
        found = {pid for pid in parents if self._is_ours(pid)}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return found
            found |= more

    def _is_ours(self, pid: int) -> bool:
        try:
            program = (_PROC / str(pid) / "exe").readlink()
            # After an upgrade of the package it is "/path/postgres (deleted)".
            name = program.name.removesuffix(" (deleted)")
            return name == "postgres" and (_PROC / str(pid) / "cwd").samefile(self._data_dir)
        except OSError:
            return False


def _parents() -> Iterator[tuple[int, int]]:
    """Yield the pid of every living process and that of its parent."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            # proc(5): state and parent follow the command in parentheses, which may hold anything.
            state, parent = status.rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(entry.name), int(parent)
