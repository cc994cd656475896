# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop needs from the world, as small Protocols: each has one real implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pgherd.guard import GuardState
    from pgherd.model import Member
    from pgherd.view import Peer

Clock = Callable[[], float]


class Peers(Protocol):
    """Asks other members over their REST API."""

    async def ask(self, members: Mapping[str, Member], within: float) -> dict[str, Peer]:
        """Return the answers that came within *within* seconds, by member name."""

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        """Return who promised within *within* seconds to elect nobody else (`POST /failsafe`).

        With the position that each has (bytes), 0 where it is not told.
        """

    async def tell_poolers(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, str]:
        """Have the poolers of *members* do what *body* says (`POST /pooler`).

        :param within: seconds for their answers.
        :return: what went wrong, by member; empty for nothing.
        """


class Health(Protocol):
    """Knows how the instance and its disk are, without being asked to wait."""

    def disk(self) -> str:
        """Return what is wrong with the data disk, empty when nothing is."""

    async def is_told_to_stop(self) -> bool:
        """Return whether somebody has told PostgreSQL to stop, and it has not come to that yet."""

    def silent_seconds(self) -> float:
        """Return for how long PostgreSQL has owed an answer to a new connection."""


class Guard(Protocol):
    """Kills PostgreSQL when the lease's deadline passes while it is a primary."""

    def arm(self, deadline: float) -> None:
        """PostgreSQL may be a primary until *deadline* (CLOCK_BOOTTIME seconds), not longer."""

    def disarm(self) -> None:
        """PostgreSQL is no primary; there is nothing to guard."""

    @property
    def state(self) -> GuardState:
        """What is known of the guard process and its watchdog device."""


class Systemd(Protocol):
    """Tells the service manager how the agent is."""

    def ready(self, status: str) -> None:
        """The agent serves its REST API."""

    def alive(self, status: str) -> None:
        """The loop has just made a round; *status* is one line for `systemctl status`."""
