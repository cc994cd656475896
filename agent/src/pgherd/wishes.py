# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask of one member, as frozen values: a restart now or later, a new copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgherd.timestamps import ScheduleError, parse_time

if TYPE_CHECKING:
    from pgherd.model import Instance

# Patroni's words for the parts a member can play.
ROLES: Final = ("primary", "standby_leader", "replica")
DURATION: Final = re.compile(r"(\d+)\s*(s|min|h|d)?")
UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def version_number(text: str) -> int | None:
    """Return ``9.6.3`` or ``17.2`` as PostgreSQL's `server_version_num`; None for anything else."""
    match = VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch = (int(part or 0) for part in match.groups())
    if major < 10:
        return (major * 100 + minor) * 100 + patch
    return None if match[3] else major * 10000 + minor


@dataclass(frozen=True)
class Conditions:
    """Which members a restart is for.

    :param role: Patroni's word for the member's part; None for any.
    :param below_version: only servers older than this `server_version_num`; None for any.
    :param pending: only those with settings that wait for a restart.
    """

    role: str | None = None
    below_version: int | None = None
    pending: bool = False

    def hold(self, instance: Instance, *, holds_key: bool) -> bool:
        """Tell whether they hold of *instance*."""
        role = "primary" if instance.is_primary else "standby_leader" if holds_key else "replica"
        if self.role not in (None, role):
            return False
        if self.below_version is not None and (instance.server_version or 0) >= self.below_version:
            return False
        return not self.pending or bool(instance.pending_restart)


@dataclass(frozen=True)
class Restart:
    """A restart that is to be made now.

    :param since: when it was asked for, CLOCK_BOOTTIME seconds.
    :param within: seconds the new start may take; None for the bound of every start.
    """

    since: float
    within: float | None = None


@dataclass(frozen=True)
class ScheduledRestart:
    """A restart that is to be made later.

    :param at: seconds since the epoch.
    :param raw: as the member key shows it (Patroni's `scheduled_restart`).
    """

    at: float
    raw: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any) -> ScheduledRestart | None:
        """Read what a member key holds; None for what is none."""
        if not isinstance(raw, Mapping):
            return None
        try:
            return cls(parse_time(str(raw.get("schedule"))), dict(raw))
        except ScheduleError:
            return None

    @property
    def conditions(self) -> Conditions:
        version = self.raw.get("postgres_version")
        return Conditions(
            role=self.raw.get("role"),
            below_version=version_number(str(version)) if version is not None else None,
            pending="restart_pending" in self.raw,
        )

    @property
    def server(self) -> str | None:
        """The start time of the postmaster it was meant for: another one needs no restart."""
        started = self.raw.get("postmaster_start_time")
        return str(started) if started else None

    @property
    def within(self) -> float | None:
        """Seconds the new start may take."""
        seconds = self.raw.get("timeout")
        return float(seconds) if isinstance(seconds, int | float) else None


def seconds(value: Any) -> int | None:
    """Return whole seconds for ``90``, ``"90"`` or ``"2min"``; None for anything else."""
    match = DURATION.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    return int(match[1]) * UNITS[match[2] or "s"] if match else None


@dataclass(frozen=True)
class Reinitialize:
    """A copy that is to replace the data directory.

    :param since: when it was asked for, CLOCK_BOOTTIME seconds.
    :param from_leader: copied from the leader, whoever else is tagged `clonefrom`.
    :param is_cleared: the old data is out of the way.
    """

    since: float
    from_leader: bool = False
    is_cleared: bool = False
