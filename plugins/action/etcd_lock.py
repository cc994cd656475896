# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of pgherd.cluster.etcd_lock: it knows which run asks, and which are gone."""

from __future__ import annotations

import getpass
import os
import socket
import time
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

PROC = Path("/proc")


def started_at(pid: int, proc: Path = PROC) -> str:
    """Return when the process *pid* began, in ticks since boot; '' if that cannot be told.

    Numbers of processes are used again; number and beginning together are not, until a boot.
    """
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name, in parentheses, may hold blanks and parentheses itself.
    return text.rpartition(")")[2].split()[19]


def is_gone(pid: int) -> bool:
    """Tell whether no process has the number *pid*."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def machine(proc: Path = PROC) -> str:
    """Return what tells this boot of this controller, and this space of processes, from others."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        space = (proc / "self/ns/pid").readlink().name
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{space}"


def token_of(pid: int) -> str:
    """Return what names the process *pid* of this controller and no other."""
    return f"{machine()} {pid} {started_at(pid)}"


def is_dead(lock: dict[str, Any]) -> bool:
    """Tell whether the holder was a process of this controller and is gone; false when unknown."""
    pid, token = int(lock.get("pid") or 0), str(lock.get("token") or "")
    if pid <= 0 or not token.startswith(f"{machine()} {pid} "):
        return False
    return is_gone(pid) or token != token_of(pid)


def user() -> str:
    """Return who runs the playbook, behind sudo too."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # an id without a name
        return str(os.getuid())


def identity() -> dict[str, Any]:
    """Return the options that say who asks: the process that started this worker."""
    pid, host = os.getppid(), socket.gethostname()
    named = context.CLIARGS.get("args") or ()
    playbooks = [named] if isinstance(named, str) else [str(name) for name in named]
    return {
        "holder": f"{user()}@{host}",
        "controller": host,
        "pid": pid,
        "playbook": " ".join(playbooks),
        "since": time.time(),
        "token": token_of(pid),
    }


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.etcd_lock."""

    _supports_check_mode = True
    _supports_diff = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module; again, if it is refused for the sake of a process that is gone."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = {**self._task.args, **identity()}
        answer = self._execute_module(module_args=args, task_vars=task_vars)
        lock = answer.get("lock")
        if answer.get("action") == "refuse" and lock and is_dead(lock):
            args["dead_token"] = lock["token"]
            answer = self._execute_module(module_args=args, task_vars=task_vars)
        result.update(answer)
        return result
