# SPDX-License-Identifier: GPL-3.0-or-later
"""What the key `failover` says: a switchover or a failover that somebody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ScheduleError(ValueError):
    """A time that is none, or that leaves open which time it is.

    :ivar is_ambiguous: the time zone is missing.
    """

    def __init__(self, text: str, *, is_ambiguous: bool) -> None:
        super().__init__(text)
        self.is_ambiguous = is_ambiguous


def parse_time(text: str) -> float:
    """Return the seconds since the epoch that the ISO timestamp *text* stands for.

    :raises ScheduleError: it is none, or has no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ScheduleError(text, is_ambiguous=False) from error
    if moment.tzinfo is None:
        raise ScheduleError(text, is_ambiguous=True)
    return moment.timestamp()


@dataclass(frozen=True)
class Handover:
    """One request that the lead change hands.

    :param leader: who leads when it is made; None for a failover, which goes by the candidate only.
    :param candidate: who shall lead; None for the best.
    :param at: when, seconds since the epoch; None for at once.
    :param id: names it in the ledger.
    :param revision: etcd's mod revision of the key.
    """

    leader: str | None
    candidate: str | None
    at: float | None = None
    id: str = ""
    revision: int = 0

    @classmethod
    def parse(cls, raw: Mapping[str, Any], revision: int) -> Handover | None:
        """Read the key's mapping, ours or Patroni's; None when it asks for nothing."""
        leader, candidate = raw.get("leader") or None, raw.get("member") or None
        if not (leader or candidate):
            return None
        at = raw.get("scheduled_at")
        try:
            when = parse_time(str(at)) if at else None
        except ScheduleError:
            when = None
        return cls(
            str(leader) if leader else None,
            str(candidate) if candidate else None,
            when,
            str(raw.get("id") or revision),
            revision,
        )

    @property
    def kind(self) -> str:
        return "switchover" if self.leader else "failover"

    @property
    def verb(self) -> str:
        return "switch" if self.leader else "fail"

    def outcome(self, winner: str) -> str:
        """Return Patroni's sentence for *winner* having come to lead."""
        past = {"switch": "switched", "fail": "failed"}[self.verb]
        if self.candidate in (None, winner):
            return f'Successfully {past} over to "{winner}"'
        return f'{past.capitalize()} over to "{winner}" instead of "{self.candidate}"'
