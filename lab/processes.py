# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a host, by the part they play: freeze, let go on, kill, keep from coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lab.errors import LabError
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Lab

POSTMASTER: Final = "postmaster"
UNITS: Final = {
    "agent": "pgherd.service",
    "guard": "pgherd-guard.service",
    "patroni": "patroni.service",
    "etcd": "etcd.service",
    "pooler": "pgbouncer-rw.service",
    "haproxy": "haproxy.service",
    "keepalived": "keepalived.service",
}
PID_FILES: Final = "/var/lib/postgresql/*/*/postmaster.pid"
# The last of all drop-ins by its name, so that it wins over those that ask for a restart.
DROP_IN: Final = "/run/systemd/system/{unit}.d/zz-lab.conf"
BACK_SECONDS_MAX: Final = 20.0


def pid(lab: Lab, host: str, name: str) -> int:
    """Return the process that plays *name* in *host* (`postmaster` or one of UNITS), 0 for none."""
    if name == POSTMASTER:
        text = lab.exec(host, ["sh", "-c", f"head -qn 1 {PID_FILES}"], check=False)[1]
    else:
        unit = UNITS[name]
        text = lab.exec(host, ["systemctl", "show", "--value", "-p", "MainPID", unit])[1]
    return int(text.strip()) if text.strip().isdigit() else 0


def signal(lab: Lab, host: str, name: str, word: str) -> int:
    """Send signal *word* (KILL, STOP, CONT) to *name* in *host* and return its process.

    Raises LabError when no such process runs.
    """
    process = pid(lab, host, name)
    if process == 0:
        raise LabError(f"{host} runs no {name}: it cannot get the signal {word}.")
    lab.exec(host, ["kill", f"-{word}", str(process)])
    lab.progress.line(host, f"{name} got SIG{word}")
    return process


def thaw(lab: Lab, host: str, process: int) -> None:
    """Let a frozen *process* go on, if it is still there."""
    lab.exec(host, ["kill", "-CONT", str(process)], check=False)


def has(lab: Lab, host: str, name: str) -> bool:
    """Whether *host* has a unit for *name*, running or not."""
    return lab.exec(host, ["systemctl", "cat", UNITS[name]], check=False)[0] == 0


def await_back(lab: Lab, host: str, name: str, before: int) -> None:
    """Wait until systemd has started *name* anew after process *before*; raises LabError."""
    is_active = ["systemctl", "is-active", "--quiet", UNITS[name]]
    until(
        lambda: pid(lab, host, name) if lab.exec(host, is_active, check=False)[0] == 0 else 0,
        BACK_SECONDS_MAX,
        f"{host}'s {name} is back",
        holds=lambda process: process not in (0, before),
    )


def keep_down(lab: Lab, host: str, names: Sequence[str]) -> None:
    """Kill *names* in *host*, all at once and for good: systemd does not start them again."""
    found = [name for name in names if has(lab, host, name)]
    for name in found:
        path = DROP_IN.format(unit=UNITS[name])
        command = 'mkdir -p "${1%/*}"; printf "[Service]\\nRestart=no\\n" > "$1"'
        lab.exec(host, ["sh", "-c", command, "sh", path])
    lab.exec(host, ["systemctl", "daemon-reload"])
    units = [UNITS[name] for name in found]
    lab.exec(host, ["systemctl", "kill", "--kill-whom=main", "-s", "KILL", *units])
    lab.progress.line(host, f"{' and '.join(found)} killed for good")


def bring_back(lab: Lab, host: str, names: Sequence[str]) -> None:
    """Undo keep_down()."""
    found = [name for name in names if has(lab, host, name)]
    for name in found:
        lab.exec(host, ["rm", "-f", DROP_IN.format(unit=UNITS[name])])
    lab.exec(host, ["systemctl", "daemon-reload"])
    lab.exec(host, ["systemctl", "reset-failed"])
    lab.exec(host, ["systemctl", "start", *(UNITS[name] for name in found)])
    lab.progress.line(host, f"{' and '.join(found)} started")
