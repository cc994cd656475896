# SPDX-License-Identifier: GPL-3.0-or-later
"""Running an operator's commands: bounded, heard into the log, never with a shell between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

# So much of what a command tells is kept for its error, lines.
KEPT_LINES: Final = 20
# The pipe of a command that has ended is empty after this long, seconds.
LAST_WORDS_SECONDS: Final = 1.0
# A stop waits for `before_stop` so long, seconds.
BEFORE_STOP_SECONDS: Final = 30.0


async def run_command(
    command: str,
    *arguments: str,
    within: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run the words of *command* with *arguments* to its end; what it tells is logged.

    Whoever cancels this takes the command along, and its children.

    :param within: seconds until it is killed; None for as long as it takes.
    :raises CommandError: it cannot be started, is killed, or ends with another code than 0.
    """
    words = [*shlex.split(command), *arguments]
    program = words[0].rpartition("/")[2]
    # A pipe of our own: asyncio's would keep us waiting for what the command leaves running.
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb")
    )
    heard: list[str] = []
    hearing = asyncio.create_task(_hear(reader, program, heard))
    try:
        process = await _start(words, theirs, environment or {})
        try:
            async with asyncio.timeout(within):
                await process.wait()
            await asyncio.wait({hearing}, timeout=LAST_WORDS_SECONDS)
        except TimeoutError:
            _kill(process)
            raise CommandError(program, 124, f"killed after {within:g} s") from None
        except asyncio.CancelledError:
            _kill(process)
            raise
    except OSError as error:
        raise CommandError(program, 127, f"cannot be started: {error}") from error
    finally:
        hearing.cancel()
        transport.close()
    if process.returncode != 0:
        raise CommandError(program, process.returncode or 1, "\n".join(heard))


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the whole family: a child may hold a data directory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _start(
    words: list[str], output: int, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            # A killed agent takes its programs along: two of them must not share a directory.
            *("setpriv", "--pdeathsig=KILL", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    finally:
        os.close(output)


async def _hear(reader: asyncio.StreamReader, program: str, heard: list[str]) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            # Longer than the reader's limit: what is there of it is dropped.
            continue
        if not line:
            return
        heard.append(line.decode(errors="replace").rstrip())
        del heard[:-KEPT_LINES]
        log.info("%s: %s", program, heard[-1])


async def before_stop(command: str) -> None:
    """Run what an operator wants done before PostgreSQL stops; its failure changes nothing."""
    if not command:
        return
    try:
        await run_command(command, within=BEFORE_STOP_SECONDS)
    except CommandError as error:
        log.error("before_stop: %s", error)
