# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader, or a standby, does in its steady state."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import StoreError
from pgherd.slot_keeper import SlotKeeper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import Config
    from pgherd.effects import Clock
    from pgherd.history import Branch
    from pgherd.model import Cluster, Instance, LeaderKey
    from pgherd.postgres import Postgres
    from pgherd.store import Store
    from pgherd.view import View

log = logging.getLogger(__name__)

# How often the leader looks where etcd's raft leader sits, seconds.
RAFT_CHECK_SECONDS: Final = 5.0
# What a leader writes anew into /status, or takes out of it.
REWRITTEN: Final = frozenset({"optime", "released", "heir", "slots", "retain_slots"})


class Upkeep:
    """Keeps status, history, configuration and slots as they should be (see `slot_keeper`)."""

    def __init__(self, config: Config, store: Store, postgres: Postgres, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._postgres = postgres
        self._clock = clock
        self._raft_checked = 0.0
        self.slots = SlotKeeper(postgres)
        self._branches: tuple[int, tuple[Branch, ...]] = (1, ())
        self.failsafe_written: Mapping[str, str] = {}

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    async def lead(self, view: View) -> None:
        """Do a leader's round; what etcd or PostgreSQL refuse now is tried in the next one."""
        cluster, leader = view.cluster, view.leader
        if cluster is None or leader is None or not view.store_answers:
            return
        try:
            await self._write_keys(cluster, leader, view)
            await self._keep_raft_leader_away()
        except StoreError as error:
            log.warning("the leader's keys could not be written: %s", error)
        await self.slots.keep(view)

    async def _write_keys(self, cluster: Cluster, leader: LeaderKey, view: View) -> None:
        instance = view.instance
        if not cluster.initialize and instance.system_id:
            await self._store.adopt_initialize(leader, instance.system_id)
        values: dict[str, Any] = {}
        status = {key: cluster.status[key] for key in cluster.status if key not in REWRITTEN}
        status |= self.slots.status(view)
        before = {key: value for key, value in cluster.status.items() if key != "optime"}
        # The leader of a standby cluster tells what it has received.
        position = instance.location if instance.is_primary else instance.position
        if position and (position != cluster.optime or status != before):
            values["status"] = {"optime": position, **status}
        if cluster.config_lost or not cluster.config:
            log.warning("the dynamic configuration is missing in etcd: writing it again")
            values["config"] = dict(cluster.config or self._config.bootstrap_config)
        urls = {name: member.api_url for name, member in cluster.members.items()}
        if cluster.settings.failsafe_mode and urls != cluster.failsafe:
            values["failsafe"] = self.failsafe_written = urls
        history = self._history(cluster, instance)
        if history is not None:
            values["history"] = history
        if values and not await self._store.write_as_leader(leader, values):
            log.warning("the leader key is not ours any more")

    def _history(self, cluster: Cluster, instance: Instance) -> list[list[Any]] | None:
        """Return the history key's new value, None when the stored one is complete (R45)."""
        timeline = instance.timeline or 1
        if timeline == 1:
            return None
        if self._branches[0] != timeline or not self._branches[1]:
            self._branches = (timeline, self._postgres.local_history(timeline))
        branches = self._branches[1]
        if not branches or (cluster.history and cluster.history[-1][0] == branches[-1].timeline):
            return None
        known = {row[0]: list(row) for row in cluster.history}
        rows: list[list[Any]] = []
        for branch in branches:
            fresh = [branch.timeline, branch.end, branch.reason]
            if branch is branches[-1] and instance.is_primary:
                fresh += [datetime.now(UTC).isoformat(), self._config.name]
            rows.append(known.get(branch.timeline, fresh))
        # 0 keeps all of them: a slice from -0 on is the whole.
        return rows[-cluster.settings.max_timelines_history :] or None

    async def _keep_raft_leader_away(self) -> None:
        """Have etcd's raft leadership move off this host while PostgreSQL leads here.

        A new raft leader restarts the clock of every lease, so losing both with one host would
        add etcd's election to the outage, and a whole lease on top.
        """
        now = self._clock()
        etcd = self._store.etcd
        own = f"//{self._config.connect_address.rpartition(':')[0]}:"
        local = [endpoint for endpoint in etcd.endpoints if own in endpoint]
        if not local or len(etcd.endpoints) < 3 or now - self._raft_checked < RAFT_CHECK_SECONDS:
            return
        self._raft_checked = now
        status = await etcd.member_status(local[0])
        if status.member_id != status.leader_id:
            return
        members = await etcd.member_ids()
        for member, urls in sorted(members.items()):
            if member == status.member_id or not urls:
                continue
            try:
                await etcd.member_status(urls[0])
            except StoreError:
                continue
            log.info("asking etcd to move its raft leader from this host to %s", urls[0])
            await etcd.transfer_leadership(local[0], member)
            return
