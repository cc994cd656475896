# SPDX-License-Identifier: GPL-3.0-or-later
"""What people asked the cluster to do and what came of it: the key `operations`.

Patroni answers "status unknown" when a switchover takes longer than the request that asked for it
(its issue 743). Here every such request is an operation with an id. Whoever carries it out writes
its outcome, in the transaction that ends it, so that any member can tell it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

# Older ones are forgotten; etcd is read as a whole, so the key is kept small.
KEPT: Final = 10
UNFINISHED: Final = ("scheduled", "running")


@dataclass(frozen=True)
class Entry:
    """One operation.

    :param kind: ``switchover``, ``failover`` or ``rolling_restart``.
    :param state: ``scheduled``, ``running``, ``done``, ``failed`` or ``cancelled``.
    :param result: one sentence on how it ended, empty until then.
    :param scheduled_at: ISO timestamp, like the others; None for at once.
    :param details: what only this kind needs.
    """

    id: str
    kind: str
    state: str = "running"
    leader: str | None = None
    candidate: str | None = None
    requested_at: str = ""
    scheduled_at: str | None = None
    result: str = ""
    finished_at: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Entry:
        """Read one element of the key; what is not known is left out.

        :raises TypeError: id or kind is missing.
        """
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in known})

    def published(self) -> dict[str, Any]:
        """Return the element of the key."""
        return asdict(self)

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED

    def ended(self, state: str, result: str, at: str) -> Entry:
        """Return the entry as it is once it has ended *at* an ISO timestamp."""
        return replace(self, state=state, result=result, finished_at=at)


def parse_ledger(raw: Any) -> tuple[Entry, ...]:
    """Read the key's value; what is damaged is left out."""
    rows = raw if isinstance(raw, list) else []
    good = (row for row in rows if isinstance(row, Mapping) and {"id", "kind"} <= set(row))
    return tuple(Entry.parse(row) for row in good)


def with_entry(ledger: Iterable[Entry], entry: Entry) -> tuple[Entry, ...]:
    """Return *ledger* with *entry* in place of the one of the same id, or added."""
    known = tuple(ledger)
    if any(each.id == entry.id for each in known):
        return tuple(entry if each.id == entry.id else each for each in known)
    return (*known, entry)[-KEPT:]


def find(ledger: Iterable[Entry], number: str) -> Entry | None:
    """Return the operation with the id *number*, None when it is not (or no longer) known."""
    return next((entry for entry in ledger if entry.id == number), None)
