# SPDX-License-Identifier: GPL-3.0-or-later
"""Running PostgreSQL's own programs, and reading what pg_controldata prints."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError
from pgherd.model import Control, parse_lsn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

# pg_controldata's name of a setting that a standby must not have lower than its primary had.
SENSITIVE_PARAMETERS: Final = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}


class Programs:
    """The programs in one `bin` directory.

    :param environment: variables every program gets on top of the agent's own.
    """

    def __init__(self, bin_dir: Path, environment: Mapping[str, str]) -> None:
        self._bin_dir = bin_dir
        self._environment = dict(environment)

    def path(self, program: str) -> str:
        return str(self._bin_dir / program)

    async def run(self, program: str, *arguments: str, report: bool = False) -> str:
        """Run *program* to its end and return its standard output.

        A cancelled caller takes the program with it.

        :param report: log what it wrote to standard error, where it tells what it does.
        :raises CommandError: it ended with another exit code than 0, or could not be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                # A killed agent takes its programs along: two of them must not share a directory.
                "setpriv",
                "--pdeathsig=KILL",
                self.path(program),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C", **self._environment},
            )
        except OSError as error:
            raise CommandError(program, 127, f"cannot be started: {error}") from error
        try:
            output, problems = await process.communicate()
        except asyncio.CancelledError:
            if process.returncode is None:
                process.kill()
            raise
        if process.returncode != 0:
            raise CommandError(program, process.returncode or 1, problems.decode(errors="replace"))
        for line in problems.decode(errors="replace").splitlines() if report else ():
            log.info("%s", line)
        return output.decode(errors="replace")

    async def control(self, data_dir: Path) -> Control:
        """Read the control file of *data_dir*.

        :raises CommandError: there is none, or it is damaged.
        """
        return parse_control(await self.run("pg_controldata", str(data_dir)))


def parse_control(output: str) -> Control:
    """Read pg_controldata's output (C locale).

    :raises CommandError: an expected line is missing.
    """
    pairs = (line.partition(":") for line in output.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    try:
        return Control(
            system_id=fields["Database system identifier"],
            state=fields["Database cluster state"],
            timeline=int(fields["Latest checkpoint's TimeLineID"]),
            checkpoint=parse_lsn(fields["Latest checkpoint location"]),
            limits={name: int(fields[label]) for name, label in SENSITIVE_PARAMETERS.items()},
        )
    except (KeyError, ValueError) as error:
        raise CommandError("pg_controldata", 0, f"unexpected output: {error}") from error
