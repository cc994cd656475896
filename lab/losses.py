# SPDX-License-Identifier: GPL-3.0-or-later
"""What is lost on the host that has the address that moves; each returns what mends it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lab import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.hosts import Lab

    Mend = Callable[[], object]
    Loss = Callable[[Lab, str], Mend]


def host_lost(lab: Lab, host: str) -> Mend:
    """Take *host* away as a power cut does."""
    lab.kill(host)
    return partial(lab.start, host)


def keepalived_killed(lab: Lab, host: str) -> Mend:
    """Kill Keepalived, both processes at once: with one alone the other still says good-bye."""
    before = processes.pid(lab, host, "keepalived")
    unit = processes.UNITS["keepalived"]
    lab.exec(host, ["systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit])
    return partial(processes.await_back, lab, host, "keepalived", before)


def killed(name: str) -> Loss:
    """Return what kills *name*, which systemd starts again."""

    def lose(lab: Lab, host: str) -> Mend:
        before = processes.signal(lab, host, name, "KILL")
        return partial(processes.await_back, lab, host, name, before)

    return lose


def dead(name: str) -> Loss:
    """Return what kills *name* for good."""

    def lose(lab: Lab, host: str) -> Mend:
        processes.keep_down(lab, host, [name])
        return partial(processes.bring_back, lab, host, [name])

    return lose


def hung(name: str) -> Loss:
    """Return what freezes *name*: the kernel goes on taking its connections."""

    def lose(lab: Lab, host: str) -> Mend:
        return partial(processes.thaw, lab, host, processes.signal(lab, host, name, "STOP"))

    return lose


def of_the_address(door: str) -> dict[str, Loss]:
    """Return all that takes the address to another host, by name.

    door: who answers at the address, `haproxy` or `pooler`.
    """
    name = {"haproxy": "HAProxy", "pooler": "PgBouncer"}[door]
    return {
        "host lost": host_lost,
        "Keepalived killed": keepalived_killed,
        f"{name} dead": dead(door),
        f"{name} hung": hung(door),
    }
