# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look at the world cannot tell: since when something is so, and how often it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pgherd.model import LeaderKey, Process
from pgherd.rules.sync import standbys

if TYPE_CHECKING:
    from pgherd.model import Cluster, Instance
    from pgherd.view import View


# A standby we are told to stream from is given up after so long without anything from it, and tried
# again after so long, seconds.
FRUITLESS_SECONDS: Final = 3.0
TRY_AGAIN_SECONDS: Final = 30.0
# Operations in which PostgreSQL ends and does not come back.
STOPPING: Final = frozenset({"demote", "stop", "switchover"})


@dataclass
class _Setting:
    """How far `synchronous_standby_names` has come since it was first seen in force."""

    server: str | None
    timeline: int | None
    names: str
    was_idle: bool = False
    position: int | None = None
    settled: bool = False


class Tracker:
    """Remembers from view to view.

    :param stall_seconds: a standby that does not move for this long, though there is WAL to send,
        does not count.
    """

    def __init__(self, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self.start_failures = 0
        self.held_back_until = 0.0
        self.former_leader: LeaderKey | None = None
        self._unlocked_since: float | None = None
        self._starting_since: float | None = None
        self._had_started = False
        self._promoted_at: float | None = None
        self._alone_since: float | None = None
        self._setting = _Setting(None, None, "")
        self._behind: dict[str, tuple[int, float]] = {}
        self._waiting_since: float | None = None
        self._fruitless: tuple[str, float] | None = None

    def fruitless(self, now: float) -> str | None:
        """Return the standby that we had nothing from lately although we were to stream from it."""
        known = self._fruitless
        return known[0] if known is not None and now < known[1] else None

    def _note_fruitless(self, view: View) -> None:
        upstream, instance = view.upstream, view.instance
        is_relay = upstream is not None and upstream.name == view.tags.replicatefrom
        points = upstream is not None and instance.upstream == upstream.address
        if not (is_relay and points and instance.is_standby) or instance.is_streaming:
            self._waiting_since = None
            return
        since = self._waiting_since = self._waiting_since or view.now
        if upstream is not None and view.now - since > FRUITLESS_SECONDS:
            self._fruitless = (upstream.name, view.now + TRY_AGAIN_SECONDS)

    def look(
        self,
        cluster: Cluster | None,
        instance: Instance,
        now: float,
        *,
        answers: bool,
        operation: str | None = None,
    ) -> None:
        """Take in one observation.

        :param answers: etcd answered for it.
        :param operation: what is under way, so that what PostgreSQL does is being waited for.
        """
        unlocked = answers and cluster is not None and cluster.leader is None
        self._unlocked_since = (self._unlocked_since or now) if unlocked else None
        was_starting = self._starting_since is not None
        # One that is being stopped does not answer either, and has not failed to start.
        is_starting = instance.process is Process.STARTING and operation not in STOPPING
        self._starting_since = (self._starting_since or now) if is_starting else None
        if instance.is_running or (cluster is not None and cluster.settings.pause):
            # What happens in maintenance mode is not held against anybody.
            self.start_failures = 0
        elif was_starting and not is_starting and operation is None and not self._had_started:
            self.start_failures += 1
        if instance.process is not Process.STARTING:
            # One that ends falls silent first, as one that hangs does: neither has failed to start.
            self._had_started = instance.is_running

    def complete(self, view: View) -> View:
        """Return *view* with what only the views before it can tell."""
        is_primary = view.instance.is_primary
        self._promoted_at = (self._promoted_at or view.now) if is_primary else None
        if view.store_answers and view.other_leader is not None:
            # Somebody has gone first.
            self.held_back_until = 0.0
        view = replace(
            view,
            unlocked_since=self._unlocked_since,
            starting_since=self._starting_since,
            start_failures=self.start_failures,
            promoted_at=self._promoted_at,
            held_back_until=self.held_back_until,
            stalled=self._stalled(view),
            settled=self._is_settled(view.instance),
        )
        self._remember_leader(view)
        self._note_fruitless(view)
        alone = is_primary and not standbys(view)
        since = self._alone_since
        self._alone_since = (view.now if since is None else since) if alone else None
        return replace(view, alone_since=self._alone_since)

    def _remember_leader(self, view: View) -> None:
        """Keep who led before us; after a restart of the agent etcd knows it."""
        if view.remote is not None:
            # Whoever led here was no primary: nobody to be fenced.
            self.former_leader = None
        elif view.leader is not None and view.leader.name != view.me:
            self.former_leader = view.leader
        elif self.former_leader is None and view.sync is not None and view.sync.leader != view.me:
            self.former_leader = LeaderKey(view.sync.leader, 0, view.sync.revision)
        elif self.former_leader is None and view.cluster is not None and view.cluster.history:
            last = view.cluster.history[-1]
            if len(last) > 4 and last[4] != view.me:
                self.former_leader = LeaderKey(str(last[4]), 0, -int(last[0]))

    def _stalled(self, view: View) -> frozenset[str]:
        """Return the standbys that were seen behind and have stood still ever since."""
        behind: dict[str, tuple[int, float]] = {}
        for row in view.instance.replication:
            name, flush = str(row.get("application_name")), row.get("flush") or 0
            if flush >= (view.instance.location or 0):
                continue
            before = self._behind.get(name)
            stands = before is not None and before[0] == flush
            behind[name] = before if stands and before is not None else (flush, view.now)
        self._behind = behind
        return frozenset(
            name for name, (_, since) in behind.items() if view.now - since > self.stall_seconds
        )

    def _is_settled(self, instance: Instance) -> bool:
        """Tell whether the acknowledgement setting in force is settled (see `pgherd.quorum`).

        A walsender reads its configuration before it takes in a reply, a backend before its next
        statement; the checkpointer, which tells backends whether to wait at all, only between two
        pieces of work. So the position that counts is taken in the round after one, itself after
        the setting was first seen, in which the checkpointer was idle
        (SyncRepUpdateSyncStandbysDefined in PostgreSQL's syncrep.c).
        """
        setting = self._setting
        now = (instance.started_at, instance.timeline, instance.sync_names)
        if not instance.is_primary:
            self._setting = _Setting(None, None, "")
            return False
        if (setting.server, setting.timeline, setting.names) != now:
            self._setting = _Setting(*now)
            return False
        if setting.position is None:
            if setting.was_idle:
                setting.position = instance.location
            setting.was_idle = setting.was_idle or instance.checkpointer_idle
            return False
        if not setting.settled:
            wanted = instance.acknowledging
            have = [
                row
                for row in instance.replication
                if row.get("application_name") in wanted.standbys
                and (row.get("flush") or 0) >= setting.position
            ]
            setting.settled = len(have) >= wanted.count
        return setting.settled
