# SPDX-License-Identifier: GPL-3.0-or-later
"""Running PostgreSQL's own programs, and reading what pg_controldata prints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError
from pgherd.model import Control, parse_lsn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

# Stands for lines of a program that could not be read before it was given up.
UNHEARD: Final = "(what it told last is not known)"
# A killed program is gone, and its pipe empty, after this long, as a rule, seconds.
LAST_WORDS_SECONDS: Final = 1.0

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

    async def run(self, program: str, *arguments: str) -> str:
        """Run *program* to its end and return its standard output.

        A cancelled caller takes the program with it.

        :raises CommandError: it ended with another exit code than 0, or could not be started.
        """
        process = await self._start(program, self.path(program), *arguments)
        async with _taken_along(process):
            output, problems = await process.communicate()
        if process.returncode != 0:
            raise CommandError(program, process.returncode or 1, problems.decode(errors="replace"))
        return output.decode(errors="replace")

    async def watch(self, program: str, *arguments: str, heard: list[str]) -> None:
        """Run *program* to its end, and log what it tells on its standard error as it comes.

        A cancelled caller takes the program with it, and its children.

        :param heard: gets each line as well, and has all of them also when this raises; if that
            cannot be, its last line is `UNHEARD`.
        :raises CommandError: it ended with another exit code than 0, or could not be started.
        """
        process = await self._watched(program, *arguments, heard=heard)
        telling = asyncio.create_task(_hear(process, heard))
        try:
            await asyncio.shield(telling)
            await process.wait()
        except asyncio.CancelledError:
            await _given_up(process, telling, heard)
            raise
        if process.returncode != 0:
            raise CommandError(program, process.returncode or 1, "\n".join(heard))

    async def _watched(
        self, program: str, *arguments: str, heard: list[str]
    ) -> asyncio.subprocess.Process:
        """Start *program*; one that was started when the caller is cancelled is heard as well."""
        starting = asyncio.create_task(
            self._start(program, self.path(program), *arguments, alone=True)
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # It runs, and writes, before asyncio has told so.
            await asyncio.wait({starting})
            if starting.exception() is None:
                process = starting.result()
                await _given_up(process, asyncio.create_task(_hear(process, heard)), heard)
            raise

    async def last_line(self, program: str, *arguments: str) -> str:
        """Run *program* and return the last line it prints, whatever its exit code.

        :raises CommandError: it could not be started.
        """
        pipe = ["sh", "-c", '"$@" 2> /dev/null | tail -n 1', "sh", self.path(program), *arguments]
        process = await self._start(program, *pipe)
        async with _taken_along(process):
            output, _ = await process.communicate()
        return output.decode(errors="replace").rstrip("\n")

    async def shell(self, command: str, directory: Path) -> None:
        """Run the shell line *command* in *directory*, as the server does with archive_command.

        :raises CommandError: it ended with another exit code than 0, or could not be started.
        """
        process = await self._start("sh", "env", f"--chdir={directory}", "sh", "-c", command)
        async with _taken_along(process):
            _, problems = await process.communicate()
        if process.returncode != 0:
            raise CommandError("sh", process.returncode or 1, problems.decode(errors="replace"))

    async def _start(
        self, program: str, *command: str, alone: bool = False
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                # A killed agent takes its programs along: two of them must not share a directory.
                "setpriv",
                "--pdeathsig=KILL",
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C", **self._environment},
                start_new_session=alone,
            )
        except OSError as error:
            raise CommandError(program, 127, f"cannot be started: {error}") from error

    async def control(self, data_dir: Path) -> Control:
        """Read the control file of *data_dir*.

        :raises CommandError: there is none, or it is damaged.
        """
        return parse_control(await self.control_fields(data_dir))

    async def control_fields(self, data_dir: Path) -> dict[str, str]:
        """Return every line of *data_dir*'s control file, by pg_controldata's names.

        :raises CommandError: there is none, or it is damaged.
        """
        return parse_fields(await self.run("pg_controldata", str(data_dir)))


async def _hear(process: asyncio.subprocess.Process, heard: list[str]) -> None:
    """Read what *process* writes until it ends; of its standard output nothing is kept."""
    output, problems = process.stdout, process.stderr
    assert output is not None
    assert problems is not None

    async def lines() -> None:
        async for line in problems:
            heard.append(line.decode(errors="replace").rstrip())
            log.info("%s", heard[-1])

    await asyncio.gather(output.read(), lines())


async def _given_up(
    process: asyncio.subprocess.Process, telling: asyncio.Task[None], heard: list[str]
) -> None:
    """Kill *process* and its children, and hear what they told until then.

    :param telling: reads it into *heard*.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # What it did is known by what it told, and that may still be in the pipe.
    ended = asyncio.create_task(process.wait())
    await asyncio.wait({telling, ended}, timeout=LAST_WORDS_SECONDS)
    if not telling.done():
        telling.cancel()
        heard.append(UNHEARD)


@contextlib.asynccontextmanager
async def _taken_along(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Kill *process* when the caller is cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            # Not for ever: the kernel may hold it.
            ended = asyncio.create_task(process.communicate())
            await asyncio.wait({ended}, timeout=LAST_WORDS_SECONDS)
        raise


def parse_fields(output: str) -> dict[str, str]:
    """Read pg_controldata's output (C locale)."""
    pairs = (line.partition(":") for line in output.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_control(fields: Mapping[str, str]) -> Control:
    """Pick from pg_controldata's lines what we need always.

    :raises CommandError: an expected line is missing.
    """
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
