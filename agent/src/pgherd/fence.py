# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting another member's host off before its place is taken, with a ClusterLabs fence agent.

A fence agent reads `name=value` lines from standard input and ends with exit code 0 when the host
is off, and with another one when it is not or nobody can tell (FenceAgentAPI.md of ClusterLabs).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import Fencing

log = logging.getLogger(__name__)

# Fence agents are for root as a rule, and an agent of ours runs with a user's short path.
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
# A killed program is gone after this long, as a rule, seconds.
REAP_SECONDS: Final = 1.0
SECRET: Final = re.compile(r"pass|secret|token|key|cred", re.IGNORECASE)


class FenceError(PgherdError):
    """The host is not known to be off."""


def find_agent(name: str) -> str | None:
    """Return the path of the fence agent *name*, None when there is no such program."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")


async def fence(fencing: Fencing, member: str, within: float) -> None:
    """Have the host of *member* switched off, or restarted.

    Only a fence agent that says so proves it: one that takes too long has failed.

    :param within: seconds; the fence agent is killed then.
    :raises FenceError: *member* is not known to be off.
    """
    host = fencing.hosts.get(member)
    if host is None:
        raise FenceError(f"{member} cannot be fenced: fencing.hosts does not name it")
    program = find_agent(fencing.agent)
    if program is None:
        raise FenceError(f"{member} cannot be fenced: there is no program {fencing.agent}")
    options = {**fencing.options, **host, "action": fencing.action, "nodename": member}
    log.warning("fencing %s: %s, action %s", member, program, fencing.action)
    code, said = await _run(program, _lines(options), member, within)
    if code != 0:
        reason = _without_secrets(_last_word(said), options)
        raise FenceError(f"{program} could not fence {member} (exit code {code}): {reason}")
    log.warning("fencing %s: done", member)


def _lines(options: Mapping[str, Any]) -> str:
    return "".join(
        f"{name}={int(value) if isinstance(value, bool) else value}\n"
        for name, value in options.items()
    )


async def _run(program: str, text: str, member: str, within: float) -> tuple[int, str]:
    """Run *program* with *text* on its standard input; return its exit code and its stderr."""
    try:
        process = await asyncio.create_subprocess_exec(
            # A killed agent takes it along: its successor decides anew.
            "setpriv",
            "--pdeathsig=KILL",
            program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            # It may have children of its own (ssh, ipmitool), which go with it.
            start_new_session=True,
        )
    except OSError as error:
        raise FenceError(f"{program} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(within):
            _, problems = await process.communicate(text.encode())
    except TimeoutError as error:
        raise FenceError(f"{program} did not fence {member} within {within:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # Not for ever: the kernel may hold it.
            await asyncio.wait({asyncio.create_task(process.wait())}, timeout=REAP_SECONDS)
    return process.returncode or 0, problems.decode(errors="replace")


def _last_word(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR" in line] or lines
    return telling[-1] if telling else "it left no message"


def _without_secrets(text: str, options: Mapping[str, Any]) -> str:
    # Fence agents repeat an option that they do not know, its value included.
    for name, value in options.items():
        if SECRET.search(name) and str(value):
            text = text.replace(str(value), "***")
    return text
