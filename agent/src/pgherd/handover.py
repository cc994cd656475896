# SPDX-License-Identifier: GPL-3.0-or-later
"""What the key `failover` says: a switchover or a failover that somebody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


# What becomes of a transaction that is under way when a switchover is due: it is ended, waited for,
# or the switchover is called off.
TRANSACTIONS: Final = ("cancel", "wait", "call-off")


@dataclass(frozen=True)
class Handover:
    """One request that the lead change hands.

    :param leader: who leads when it is made; None for a failover, which goes by the candidate only.
    :param candidate: who shall lead; None for the best.
    :param at: when, seconds since the epoch; None for at once.
    :param id: names it in the ledger.
    :param revision: etcd's mod revision of the key.
    :param transactions: what becomes of long transactions, one of `TRANSACTIONS`.
    :param patience: for how many seconds they are waited for; None for the default.
    """

    leader: str | None
    candidate: str | None
    at: float | None = None
    id: str = ""
    revision: int = 0
    transactions: str = "cancel"
    patience: float | None = None

    @classmethod
    def parse(
        cls, raw: Mapping[str, Any], revision: int, at: float | None = None
    ) -> Handover | None:
        """Read the key's mapping, ours or Patroni's; None when it asks for nothing.

        :param at: its ``scheduled_at``, seconds since the epoch.
        """
        leader, candidate = raw.get("leader") or None, raw.get("member") or None
        if not (leader or candidate):
            return None
        word, given = raw.get("transactions"), raw.get("transaction_timeout")
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        patience = float(given or 0) if is_number else None
        return cls(
            str(leader) if leader else None,
            str(candidate) if candidate else None,
            at,
            str(raw.get("id") or revision),
            revision,
            word if word in TRANSACTIONS else "cancel",
            patience,
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
