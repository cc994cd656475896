# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that look like PostgreSQL's to whoever has to kill them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FakePostgres:
    """Programs called `postgres` that do nothing in a data directory.

    :param directory: where the program and the data directory are made.
    """

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "data"
        self.data_dir.mkdir()
        self.program = directory / "postgres"
        shell = shutil.which("sh")
        assert shell is not None
        shutil.copy(os.path.realpath(shell), self.program)
        self._started: list[subprocess.Popen[bytes]] = []
        self._children: list[int] = []

    def start(
        self, program: Path | str | None = None, directory: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one and return when it runs; by default in the data directory."""
        process = subprocess.Popen(
            [program or self.program, "-c", "echo; read line"],
            cwd=directory or self.data_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def start_with_child(self) -> tuple[subprocess.Popen[bytes], int]:
        """Start one that has started another program; return it and the child's pid."""
        process = subprocess.Popen(
            [self.program, "-c", "tail -f /dev/null & echo $!; read line"],
            cwd=self.data_dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._started.append(process)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        self._children.append(child)
        return process, child

    def end(self) -> None:
        """End what is left."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for process in self._started:
            process.kill()
            process.communicate()
