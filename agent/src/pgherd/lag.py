# SPDX-License-Identifier: GPL-3.0-or-later
"""How old the WAL is that a standby has not applied yet, as its leader knows it.

A standby cannot tell: the time of the last commit it applied is no lag while nobody writes. And
PostgreSQL's `replay_lag` stands still where a standby does. So the leader remembers when it had
written how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pgherd.model import Cluster, Instance

# With more of them every second one is forgotten, so the past is remembered ever more coarsely.
MOST_MARKS: Final = 256


@dataclass
class Mark:
    """A position of the leader's WAL, bytes, and when it was first and last seen there, seconds."""

    position: int
    first: float
    last: float


class Progress:
    """What this leader had written when."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def look(self, instance: Instance, now: float) -> None:
        """Remember what *instance* shows at *now* (seconds); forget all when it is no primary."""
        if instance.is_primary and instance.location is not None:
            self.note(instance.location, now)
        elif instance.is_standby:
            self._marks.clear()

    def note(self, position: int, now: float) -> None:
        """Remember that the leader's WAL ends at *position* (bytes) at *now* (seconds)."""
        if self._marks and position <= self._marks[-1].position:
            self._marks[-1].last = max(self._marks[-1].last, now)
            return
        self._marks.append(Mark(position, now, now))
        if len(self._marks) > MOST_MARKS:
            # The two that are newest are what a standby that keeps up is measured by.
            self._marks = [*self._marks[:-2:2], *self._marks[-2:]]

    def age(self, position: int, now: float) -> float:
        """Return how long ago, in seconds, the first byte after *position* was written.

        0 when there is none. Between two marks writing is taken to have been even. What is older
        than our memory is as old as that at least.
        """
        before: Mark | None = None
        for mark in reversed(self._marks):
            if mark.position <= position:
                before = mark
                break
        if before is None:
            return max(0.0, now - self._marks[0].first) if self._marks else 0.0
        after = next((mark for mark in self._marks if mark.position > position), None)
        if after is None:
            return 0.0
        share = (position - before.position) / (after.position - before.position)
        written = before.last + share * (after.first - before.last)
        return max(0.0, now - written)

    def behind(self, instance: Instance, cluster: Cluster | None, now: float) -> dict[str, Any]:
        """Return `lag` (bytes) and `lag_seconds` of every standby whose position is known.

        Empty for whoever is no primary. Of those that stream from us PostgreSQL knows more than
        their member keys say.

        :param instance: ours, seen at *now* or a little before.
        """
        if not instance.is_primary or instance.location is None or cluster is None:
            return {}
        self.note(instance.location, now)
        rows = {str(row.get("application_name")): row.get("replay") for row in instance.replication}
        behind = {}
        for name, member in cluster.members.items():
            position = rows.get(name)
            if position is None:
                position = member.replayed
            if position is not None:
                lag = max(0, instance.location - position)
                age = self.age(position, now)
                behind[name] = {"lag": lag, "lag_seconds": round(age, 3)}
        return behind
