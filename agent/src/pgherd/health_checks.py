# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni's health checks: which path is answered with 200 by which member."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pgherd.published import replication_state, standby_role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.model import Instance
    from pgherd.view import View

UNITS: Final = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}


def parse_bytes(text: str) -> int | None:
    """Return bytes for `1048576`, `16kB`, `10MB`; None for anything else, as Patroni does."""
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    unit = UNITS.get(match[2].lower()) if match else None
    return int(match[1]) * unit if match and unit else None


class Health:
    """Patroni's health conditions over one view."""

    def __init__(self, view: View, now: float, query: Mapping[str, str]) -> None:
        self._view = view
        self._now = now
        self._query = query
        self._instance: Instance = view.instance

    @property
    def leads(self) -> bool:
        """The key is ours, its lease is good at this moment, and PostgreSQL accepts writes.

        Patroni answers 200 as soon as it holds the key, while PostgreSQL may still be starting
        (its issue 2756); we say so only when a write can succeed.
        """
        view, lease = self._view, self._view.lease
        good = lease is not None and self._now < lease.valid_until and view.holds_key
        promised = self._now < view.failsafe_until and view.leads_by_promise
        return (good or promised) and self._instance.is_primary

    @property
    def leads_standbys(self) -> bool:
        """The key of a standby cluster is ours, its lease is good, and PostgreSQL answers."""
        view, lease = self._view, self._view.lease
        good = lease is not None and self._now < lease.valid_until and view.holds_key
        return good and view.remote is not None and self._instance.is_standby

    @property
    def serves_first(self) -> bool:
        """The member to be asked first: the leader, of whichever kind of cluster."""
        return self.leads or self.leads_standbys

    @property
    def is_replica(self) -> bool:
        instance, view = self._instance, self._view
        # Who holds the key is about to be promoted, or is being so.
        serves = instance.is_standby and not view.holds_key and not view.tags.noloadbalance
        return serves and self._lag_is_fine() and self._streams() and self._tags_match()

    @property
    def role(self) -> str:
        """Which kind of standby this is: replica, sync_standby or quorum_standby."""
        cluster = self._view.cluster
        return standby_role(cluster, self._view.me) if cluster else "replica"

    @property
    def is_sync(self) -> bool:
        return self.is_replica and self.role == "sync_standby"

    @property
    def is_quorum(self) -> bool:
        return self.is_replica and self.role == "quorum_standby"

    def _streams(self) -> bool:
        """Whether its WAL comes the way that `?replication_state=` wants (Patroni after 4.1)."""
        wanted = self._query.get("replication_state")
        return wanted is None or wanted == replication_state(self._instance)

    def _lag_is_fine(self) -> bool:
        limit = parse_bytes(self._query["lag"]) if "lag" in self._query else None
        if limit is None:
            return True
        return self._behind(self._instance.replayed) <= limit

    def _behind(self, position: int | None) -> int:
        optime = self._view.cluster.optime if self._view.cluster else 0
        return max(optime, self._instance.latest_end or 0) - (position or 0)

    def _tags_match(self) -> bool:
        tags = self._view.tags.published()
        for key, wanted in self._query.items():
            if key.startswith("tag_"):
                value = tags.get(key.removeprefix("tag_"))
                shown = value if isinstance(value, str) else str(value).lower()
                if value is None or shown != wanted:
                    return False
        return True

    @property
    def is_ready(self) -> bool:
        """What `/readiness` asks: the leader, or a standby that streams and keeps up."""
        if self.serves_first:
            return True
        limit = parse_bytes(self._query.get("lag", ""))
        limit = self._view.settings.maximum_lag_on_failover if limit is None else limit
        instance = self._instance
        applies = self._query.get("mode", "apply") == "apply"
        position = instance.replayed if applies else instance.received
        return instance.is_streaming and self._behind(position) <= limit


# Checked in this order, by substring, as Patroni does; the first that is in the path decides.
CHECKS: Final[tuple[tuple[str, Callable[[Health], bool]], ...]] = (
    ("standby_leader", lambda health: health.leads_standbys),
    ("standby-leader", lambda health: health.leads_standbys),
    ("leader", lambda health: health.serves_first),
    ("master", lambda health: health.leads),
    ("primary", lambda health: health.leads),
    ("read-write", lambda health: health.leads),
    ("replica", lambda health: health.is_replica),
    ("read-only-sync", lambda health: health.serves_first or health.is_sync),
    ("read-only-quorum", lambda health: health.serves_first or health.is_quorum),
    ("read-only", lambda health: health.serves_first or health.is_replica),
    ("health", lambda health: health._instance.is_running),
    ("async", lambda health: health.is_replica and health.role == "replica"),
    ("sync", lambda health: health.is_sync),
    ("quorum", lambda health: health.is_quorum),
)


def find_check(path: str) -> Callable[[Health], bool] | None:
    """Return the health check a path stands for, None for a path that is none."""
    if path.strip("/") == "":
        return lambda health: health.leads
    return next((check for word, check in CHECKS if word in path), None)
