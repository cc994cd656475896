# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor looks at on this host: files, services, disk, watchdog, certificates."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pgherd.commands.findings import (
    Finding,
    good,
    hint,
    judge_certificate,
    judge_room,
    problem,
    warning,
)
from pgherd.commands.rest import base_of
from pgherd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgherd.commands.patient import Patient

COMMAND_SECONDS: Final = 5.0
UNITS: Final = {
    "pgherd": "systemctl start pgherd; journalctl -u pgherd says why it ended",
    "pgherd-guard": "systemctl start pgherd-guard: without it a hung agent can cost data",
}


def said_by(*command: str) -> str | None:
    """Return what a program prints, None when it cannot be run or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def configuration(path: Path) -> Iterator[Finding]:
    """Look at the agent's files as `pgherd check-config` does, and at who may read them."""
    from pgherd.config import load

    area = "configuration"
    try:
        config = load(path)
    except ConfigError as error:
        for each in error.problems:
            yield problem(area, each, "correct it in the inventory and run site.yml")
        return
    open_files = [
        str(file)
        for file in (path, *sorted(path.parent.glob("conf.d/*.yml")))
        if stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH
    ]
    for file in open_files:
        remedy = f"chmod o-rwx {file}: it may hold passwords"
        yield warning(area, f"{file} can be read by everybody", remedy)
    if config.access.login is None:
        text = "restapi.authentication is not set: the agent takes no requests to change anything"
        yield warning(area, text, "run site.yml, which makes a password")
    if not open_files:
        yield good(area, f"{path} is well")


def services(patient: Patient) -> Iterator[Finding]:
    """Look whether agent and guard run, and what the agent says."""
    for unit, remedy in UNITS.items():
        state = said_by("systemctl", "show", "--property=ActiveState", "--value", unit)
        if state is None:
            yield hint("agent", f"systemd does not tell of {unit}", "run this on the host itself")
        elif state == "active":
            yield good("agent", f"{unit} is active")
        else:
            yield problem("agent", f"{unit} is {state}", remedy)
    ours = patient.node.get("pgherd")
    if ours is None:
        text = f"the agent does not answer on {base_of(patient.config.api_url)}"
        yield problem("agent", text, "systemctl status pgherd; ss -ltnp")
        return
    yield good("agent", f"rule {ours.get('rule')}: {ours.get('why')}")
    if not ours.get("guarded", True):
        remedy = "journalctl -u pgherd-guard; systemctl restart pgherd-guard"
        yield problem("guard", "the guard does not take the agent's orders", remedy)
    else:
        yield good("guard", "the guard takes the agent's orders")


def watchdog(patient: Patient) -> Iterator[Finding]:
    """Look whether there is the watchdog that the configuration wants."""
    wanted = patient.config.watchdog
    if wanted.mode == "off":
        yield good("watchdog", "switched off by the configuration")
        return
    if wanted.device.exists():
        yield good("watchdog", f"{wanted.device} is there")
        return
    text = f"there is no {wanted.device}"
    remedy = "load the hardware's module, or softdog; or say agent_watchdog_mode: off"
    if wanted.mode == "required":
        yield problem("watchdog", f"{text}, and it is required to lead", remedy)
    else:
        yield hint("watchdog", f"{text}: a hung kernel is not reset", remedy)


def disk(patient: Patient) -> Iterator[Finding]:
    """Look at the room under the data, and at what the agent's probe says."""
    ill = (patient.node.get("pgherd") or {}).get("disk", "well")
    if ill != "well":
        yield problem("disk", f"the agent says: {ill}", "see the chapter on the data disk")
    data = patient.config.postgres.data_dir
    seen: set[int] = set()
    for place in (data, data / "pg_wal"):
        try:
            device, figures = place.stat().st_dev, os.statvfs(place)
        except OSError as error:
            remedy = "run this as root or postgres; has PostgreSQL been set up here?"
            yield hint("disk", f"{place} cannot be looked at: {error.strerror}", remedy)
            return
        if device in seen:
            continue
        seen.add(device)
        if figures.f_flag & os.ST_RDONLY:
            yield problem("disk", f"{place} is read-only", "look at dmesg; mount it again")
        block = figures.f_frsize
        yield judge_room("disk", str(place), figures.f_bavail * block, figures.f_blocks * block)


def certificates(patient: Patient) -> Iterator[Finding]:
    """Look when the certificates expire that the configuration names."""
    config = patient.config
    named = {
        config.access.tls.certificate,
        config.access.tls.ca,
        config.ctl.certificate,
        config.ctl.ca,
        config.etcd_tls.certificate,
        config.etcd_tls.ca,
        config.postgres.tls.certificate,
        config.postgres.tls.ca,
    }
    paths = sorted(path for path in named if path)
    if not paths:
        remedy = "use a network you trust, or configure TLS"
        yield hint("certificates", "none: what the hosts say is not encrypted", remedy)
    for path in paths:
        # Python reads no certificate by itself.
        said = said_by("openssl", "x509", "-noout", "-enddate", "-in", path)
        if said is None:
            remedy = "is it there, a certificate, and openssl installed?"
            yield problem("certificates", f"{path} cannot be read", remedy)
            continue
        end = datetime.strptime(said.partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
        yield judge_certificate(path, (end - datetime.now(UTC)).total_seconds() / 86400)


def synchronised(patient: Patient) -> Iterator[Finding]:
    """Look whether this host's clock is kept by NTP."""
    said = said_by("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if said == "yes":
        yield good("clock", "this host's clock is kept by NTP")
    elif said == "no":
        yield hint("clock", "systemd sees no NTP keep this host's clock", "install chrony")
