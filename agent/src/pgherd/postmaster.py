# SPDX-License-Identifier: GPL-3.0-or-later
"""The postmaster process: finding it, learning of its death at once, killing all of it.

PostgreSQL runs in a cgroup of its own below the agent's unit (`Delegate=yes`), so the agent can be
restarted without it, and every process of the instance can be killed in one write (cgroup.kill,
Linux 5.14, Control Group v2 documentation).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

# Killed processes are gone after this long unless the kernel waits for a dead disk, seconds.
LEFTOVER_SECONDS: Final = 10.0
LEFTOVER_POLL_SECONDS: Final = 0.01


class Postmaster:
    """A running postmaster of one data directory, held by a pidfd so its pid cannot be reused.

    :param on_death: called in the event loop as soon as the process is gone.
    """

    def __init__(self, pid: int, fd: int, on_death: Callable[[], None]) -> None:
        self.pid = pid
        self._fd = fd
        self._on_death = on_death
        self._died = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, self._notice)

    def _notice(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._died.set()
        self._on_death()

    @property
    def is_alive(self) -> bool:
        return not self._died.is_set()

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if it is still there."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    async def wait(self, within: float | None) -> bool:
        """Wait at most *within* seconds for the process to be gone; tell whether it is."""
        try:
            async with asyncio.timeout(within):
                await self._died.wait()
        except TimeoutError:
            return False
        return True


def find(data_dir: Path, on_death: Callable[[], None]) -> Postmaster | None:
    """Return the postmaster that runs on *data_dir*, None when there is none.

    A stale postmaster.pid is told from a live one by the process's working directory, which for a
    postmaster is its data directory.
    """
    try:
        pid = int((data_dir / "postmaster.pid").read_text().splitlines()[0])
        fd = os.pidfd_open(pid)
    except (OSError, OverflowError, ValueError, IndexError):
        return None
    try:
        if Path(f"/proc/{pid}/cwd").samefile(data_dir):
            return Postmaster(pid, fd, on_death)
    except OSError:
        pass
    os.close(fd)
    return None


class Cage:
    """The cgroup PostgreSQL lives in; `path` is None where the agent has no cgroup of its own."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def below_own(cls) -> Cage:
        """Make the cgroup `postgres` below the agent's own.

        Without delegation (no systemd, cgroup v1) there is none, and killing falls back to the
        postmaster alone.
        """
        try:
            own = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1]
            number, _, relative = own.split(":", 2)
            path = Path("/sys/fs/cgroup") / relative.lstrip("/") / "postgres"
            if number != "0" or relative == "/":
                return cls(None)
            path.mkdir(exist_ok=True)
        except (OSError, ValueError, IndexError):
            return cls(None)
        return cls(path)

    def wrap(self, command: list[str]) -> list[str]:
        """Return *command* changed so that it runs inside the cgroup."""
        if self.path is None:
            return command
        enter = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
        return ["/bin/sh", "-c", enter, str(self.path), *command]

    def kill(self) -> None:
        """Kill every process in the cgroup at once."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                (self.path / "cgroup.kill").write_text("1")

    @property
    def is_empty(self) -> bool:
        """Whether no process is left in the cgroup."""
        if self.path is None:
            return True
        try:
            return not (self.path / "cgroup.procs").read_text().strip()
        except OSError:
            return True


def is_told_to_stop(data_dir: Path) -> bool:
    """Tell whether the postmaster on *data_dir* is ending: the eighth line of its file says so."""
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()[7].strip() == "stopping"
    except (OSError, IndexError):
        return False


async def clear_leftovers(data_dir: Path, cage: Cage) -> None:
    """Make *data_dir*, which has no postmaster, fit to be started.

    Backends that outlived their postmaster hold its shared memory: they are killed. PostgreSQL
    refuses to start while the process that postmaster.pid names is there: a dead one is waited for
    until it has been reaped, and where the number now belongs to another process (after a reboot)
    the file is removed.

    :raises PostgresError: the old processes cannot be killed.
    """

    async def is_clear() -> bool:
        return cage.is_empty and not _is_zombie(_named_pid(data_dir))

    if not cage.is_empty:
        cage.kill()
    try:
        await until(is_clear, every=LEFTOVER_POLL_SECONDS, within=LEFTOVER_SECONDS)
    except TimeoutError as error:
        raise PostgresError("processes of the old postmaster cannot be killed") from error
    # Without a cgroup of its own nothing proves that no backend is left; then PostgreSQL decides.
    if cage.path is not None:
        _remove_stale_pid_file(data_dir)


def _remove_stale_pid_file(data_dir: Path) -> None:
    pid = _named_pid(data_dir)
    if pid is not None and Path(f"/proc/{pid}").exists():
        log.warning("removing postmaster.pid: process %d is no postmaster of %s", pid, data_dir)
        (data_dir / "postmaster.pid").unlink()


def _named_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_zombie(pid: int | None) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # proc(5): the state follows the command in parentheses, which may hold anything.
    return status.rpartition(")")[2].split()[0] == "Z"
