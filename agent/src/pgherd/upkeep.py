# SPDX-License-Identifier: GPL-3.0-or-later
"""What a leader, or a standby, does in its steady state."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError, StoreError
from pgherd.pgfiles import slot_name

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
# How often a standby lets its unused slots go of old WAL, seconds.
SLOT_ADVANCE_SECONDS: Final = 10.0


class Upkeep:
    """Keeps status, history, configuration and slots as they should be."""

    def __init__(self, config: Config, store: Store, postgres: Postgres, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._postgres = postgres
        self._clock = clock
        self._raft_checked = 0.0
        self._advanced = 0.0
        self._absent_since: dict[str, float] = {}
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
            await self._write_keys(cluster, leader, view.instance)
            await self._keep_raft_leader_away()
        except StoreError as error:
            log.warning("the leader's keys could not be written: %s", error)
        try:
            await self._keep_member_slots(cluster, view)
        except PostgresError as error:
            log.warning("slots could not be kept: %s", error)

    async def _write_keys(self, cluster: Cluster, leader: LeaderKey, instance: Instance) -> None:
        if not cluster.initialize and instance.system_id:
            await self._store.adopt_initialize(leader, instance.system_id)
        values: dict[str, Any] = {}
        farewell = ("released", "heir")
        status = {key: value for key, value in cluster.status.items() if key not in farewell}
        # The leader of a standby cluster tells what it has received.
        position = instance.location if instance.is_primary else instance.position
        if position and (position != cluster.optime or status != cluster.status):
            values["status"] = {**status, "optime": position}
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
        return rows or None

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

    async def _keep_member_slots(self, cluster: Cluster, view: View) -> None:
        """Have a slot for every member; drop those of members absent for `member_slots_ttl`."""
        if not cluster.settings.use_slots:
            return
        have = view.instance.slots
        others = [name for name in cluster.members if name != view.me]
        await self._postgres.ensure_slots(others, have)
        wanted = {slot_name(name) for name in others}
        now = self._clock()
        for name, slot in have.items():
            is_orphan = slot["type"] == "physical" and not slot["active"] and name not in wanted
            if not is_orphan or slot.get("temporary"):
                self._absent_since.pop(name, None)
                continue
            since = self._absent_since.setdefault(name, now)
            if now - since > cluster.settings.member_slots_ttl:
                log.warning("dropping slot %s: its member has been absent for too long", name)
                await self._postgres.drop_slot(name)

    async def keep_standby_slots(self, view: View) -> None:
        """Have every member's slot here too, holding no WAL that this member does not need (R35).

        So whoever is promoted can be streamed from at once, with the WAL the others still need.
        """
        cluster = view.cluster
        if cluster is None or not cluster.settings.use_slots:
            return
        have = view.instance.slots
        others = {slot_name(name): name for name in cluster.members if name != view.me}
        try:
            await self._postgres.ensure_slots(list(others.values()), have)
            if self._clock() - self._advanced > SLOT_ADVANCE_SECONDS:
                self._advanced = self._clock()
                await self._advance(cluster, others, have, view.instance.replayed or 0)
        except PostgresError as error:
            log.warning("slots could not be kept: %s", error)

    async def _advance(
        self,
        cluster: Cluster,
        others: Mapping[str, str],
        have: Mapping[str, Mapping[str, Any]],
        replayed: int,
    ) -> None:
        for name, slot in have.items():
            if slot["type"] != "physical" or slot["active"] or slot["restart"] is None:
                continue
            member = cluster.members.get(others.get(name, ""))
            position = member.position if member else None
            target = min(replayed, position) if position else replayed
            if target > slot["restart"]:
                await self._postgres.advance_slot(name, target)
