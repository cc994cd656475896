# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's keys in etcd, in Patroni's layout, and the writes that only a leader may make.

Layout: `/<namespace>/<scope>/` + initialize, leader, members/<name>, config, failover, history,
status, sync. Every leader-only write is one transaction on the *create revision* of the leader key
we hold, never on its name: a deposed leader's late write then fails whoever leads now.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pgherd.errors import StoreError, StoreUnavailableError
from pgherd.etcd import Compare, Delete, Etcd, KeyValue, Put
from pgherd.handover import Handover
from pgherd.ledger import Entry, parse_ledger, with_entry
from pgherd.model import Cluster, LeaderKey, Member, SyncKey, number_in
from pgherd.timestamps import ScheduleError, parse_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


def _json(value: str) -> Any:
    """Parse *value*, None when it is not JSON: a damaged key must not stop the agent."""
    try:
        return json.loads(value)
    except ValueError:
        return None


def _mapping(keys: Mapping[str, KeyValue], name: str) -> dict[str, Any] | None:
    value = _json(keys[name].value) if name in keys else None
    return value if isinstance(value, dict) else None


def _rows(history: Any) -> tuple[tuple[Any, ...], ...]:
    rows = history if isinstance(history, list) else []
    # Rows begin with the timeline that ended; the rules count on that.
    return tuple(tuple(row) for row in rows if isinstance(row, list) and _is_ended(row))


def _is_ended(row: list[Any]) -> bool:
    return bool(row) and isinstance(row[0], int)


def dump(value: Any) -> str:
    """Return *value* as the compact JSON that Patroni writes."""
    return json.dumps(value, separators=(",", ":"))


def _handover(keys: Mapping[str, KeyValue]) -> Handover | None:
    raw = _mapping(keys, "failover")
    if raw is None:
        return None
    try:
        at = parse_time(str(raw["scheduled_at"])) if raw.get("scheduled_at") else None
    except ScheduleError:
        at = None
    return Handover.parse(raw, keys["failover"].mod_revision, at)


def parse_cluster(revision: int, keys: Mapping[str, KeyValue]) -> Cluster:
    """Build the cluster from its keys, named relative to the base path."""
    leader = keys.get("leader")
    status = _mapping(keys, "status") or {}
    optime = status.get("optime")
    if optime is None and "optime/leader" in keys:
        optime = _json(keys["optime/leader"].value)
    sync_revision = keys["sync"].mod_revision if "sync" in keys else 0
    sync = _mapping(keys, "sync") or {}
    history = _json(keys["history"].value) if "history" in keys else None
    members = {
        name.removeprefix("members/"): Member(name.removeprefix("members/"), data)
        for name in keys
        if name.startswith("members/") and (data := _mapping(keys, name)) is not None
    }
    return Cluster(
        revision=revision,
        initialize=keys["initialize"].value if "initialize" in keys else None,
        leader=LeaderKey(leader.value, leader.lease, leader.create_revision) if leader else None,
        members=members,
        config=_mapping(keys, "config"),
        handover=_handover(keys),
        failover_revision=keys["failover"].mod_revision if "failover" in keys else 0,
        ledger=parse_ledger(_json(keys["operations"].value) if "operations" in keys else None),
        ledger_revision=keys["operations"].mod_revision if "operations" in keys else 0,
        config_revision=keys["config"].mod_revision if "config" in keys else 0,
        history=_rows(history),
        optime=optime if isinstance(optime, int) else 0,
        status=status,
        sync=SyncKey.parse(sync, sync_revision),
        sync_revision=sync_revision,
        numbered=number_in(sync),
        failsafe={name: str(url) for name, url in (_mapping(keys, "failsafe") or {}).items()},
    )


class Store:
    """What the agent reads and writes in etcd for one cluster."""

    def __init__(self, etcd: Etcd, namespace: str, scope: str, name: str) -> None:
        self._etcd = etcd
        self._base = f"/{namespace.strip('/')}/{scope}/"
        self._name = name
        self._published: tuple[int, str] | None = None

    @property
    def etcd(self) -> Etcd:
        return self._etcd

    async def load(self) -> Cluster:
        """Read the whole cluster, linearizably.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        revision, kvs = await self._etcd.range(self._base)
        return parse_cluster(revision, {kv.key.removeprefix(self._base): kv for kv in kvs})

    async def changes(self, revision: int) -> AsyncIterator[set[str]]:
        """Yield the names of changed keys, relative to the base path, after *revision*.

        :raises StoreError: the connection failed.
        """
        async for keys in self._etcd.watch(self._base, revision + 1):
            yield {key.removeprefix(self._base) for key in keys}

    async def take_leader(
        self,
        lease: int,
        sync_revision: int = 0,
        sync: SyncKey | None = None,
        status: Mapping[str, Any] | None = None,
    ) -> bool:
        """Create the leader key on *lease*; tell whether it is ours.

        The election was decided on the ``sync`` key as of *sync_revision* (0: there was none), so
        one that has changed since ends the attempt; *sync*, its successor with us as leader, is
        written in the same transaction, and so is *status*, if given. A lost answer is not a lost
        race: the key is read back and its lease compared.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "leader"
        free = [Compare(key, "create_revision", 0), self._sync_is(sync_revision)]
        puts: list[Put] = [Put(key, self._name, lease)]
        if sync is not None:
            puts.append(Put(self._base + "sync", dump(sync.published())))
        if status is not None:
            puts.append(Put(self._base + "status", dump(status)))
        try:
            if await self._etcd.txn(free, puts):
                return True
        except StoreUnavailableError:
            pass  # It may have been done; the read below tells.
        cluster = await self.load()
        return cluster.leader is not None and cluster.leader.lease == lease

    async def move_leader(self, leader: LeaderKey, lease: int) -> bool:
        """Bind the leader key we hold to another lease of ours; tell whether it is so now.

        As in `take_leader`, a lost answer is looked up.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "leader"
        try:
            return await self._etcd.txn([self._ours(leader)], [Put(key, self._name, lease)])
        except StoreUnavailableError:
            cluster = await self.load()
        return cluster.leader is not None and cluster.leader.lease == lease

    async def release_leader(self, leader: LeaderKey, status: Mapping[str, Any]) -> bool:
        """Delete the leader key we hold; tell whether it was still ours.

        :param status: the ``status`` key's mapping; that we have let go on our own is added to it,
            so the successor knows that nobody needs to be fenced.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        farewell = dump({**status, "released": self._name})
        operations: list[Put | Delete] = [
            Delete(self._base + "leader"),
            Put(self._base + "status", farewell),
        ]
        return await self._etcd.txn([self._ours(leader)], operations)

    async def write_sync(self, leader: LeaderKey, sync: SyncKey | None, revision: int) -> bool:
        """Write the ``sync`` key as leader, delete it for None; tell whether it was done.

        :param revision: the key's mod revision the change was decided on, 0 for no key.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "sync"
        change = Delete(key) if sync is None else Put(key, dump(sync.published()))
        return await self._etcd.txn([self._ours(leader), self._sync_is(revision)], [change])

    async def write_as_leader(self, leader: LeaderKey, values: Mapping[str, Any]) -> bool:
        """Write JSON *values* by key name if the leader key is still ours; tell whether it was.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        puts = [Put(self._base + name, dump(value)) for name, value in values.items()]
        return await self._etcd.txn([self._ours(leader)], puts)

    async def hand_over(
        self, leader: LeaderKey, status: Mapping[str, Any], sync: SyncKey | None, revision: int
    ) -> bool:
        """Delete the leader key we hold in favour of an heir; tell whether it was still ours.

        :param status: the ``status`` key's mapping, the heir in it.
        :param sync: what ``sync`` becomes in the same transaction, None leaves it alone.
        :param revision: the mod revision of ``sync`` this was decided on, 0 for no key.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        operations: list[Put | Delete] = [
            Delete(self._base + "leader"),
            Put(self._base + "status", dump({**status, "released": self._name})),
        ]
        if sync is not None:
            operations.append(Put(self._base + "sync", dump(sync.published())))
        return await self._etcd.txn([self._ours(leader), self._sync_is(revision)], operations)

    async def ask_handover(
        self, cluster: Cluster, request: Mapping[str, Any] | None, *entries: Entry
    ) -> bool:
        """Write the ``failover`` key, delete it for None, and *entries* into the ledger.

        :return: whether it was done; not if either key has changed since *cluster* was read.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "failover"
        change = Delete(key) if request is None else Put(key, dump(request))
        return await self._etcd.txn(
            [Compare(key, "mod_revision", cluster.failover_revision), self._ledger_is(cluster)],
            [change, self._ledger(cluster, *entries)],
        )

    async def end_handover(self, leader: LeaderKey, cluster: Cluster, entry: Entry) -> bool:
        """Delete the ``failover`` key as leader and write the outcome; tell whether it was done.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "failover"
        same = Compare(key, "mod_revision", cluster.failover_revision)
        return await self._etcd.txn(
            [self._ours(leader), same, self._ledger_is(cluster)],
            [Delete(key), self._ledger(cluster, entry)],
        )

    async def note(self, cluster: Cluster, entry: Entry) -> bool:
        """Write *entry* into the ledger if that has not changed since *cluster* was read.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        return await self._etcd.txn([self._ledger_is(cluster)], [self._ledger(cluster, entry)])

    def _ledger(self, cluster: Cluster, *entries: Entry) -> Put:
        ledger = cluster.ledger
        for entry in entries:
            ledger = with_entry(ledger, entry)
        return Put(self._base + "operations", dump([entry.published() for entry in ledger]))

    def _ledger_is(self, cluster: Cluster) -> Compare:
        return Compare(self._base + "operations", "mod_revision", cluster.ledger_revision)

    async def write_config(self, config: Mapping[str, Any], revision: int | None) -> bool:
        """Write the dynamic configuration; tell whether it was done.

        :param revision: the key's mod revision the change was made from; None for whatever it is.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "config"
        unchanged = [] if revision is None else [Compare(key, "mod_revision", revision)]
        return await self._etcd.txn(unchanged, [Put(key, dump(config))])

    async def publish(self, data: Mapping[str, Any], lease: int) -> None:
        """Write our member key, if it or its lease has changed.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        value = dump(data)
        if self._published == (lease, value):
            return
        self._published = None
        await self._etcd.txn([], [Put(f"{self._base}members/{self._name}", value, lease)])
        self._published = (lease, value)

    def forget_published(self) -> None:
        """Have the next `publish` write even what seems to be there."""
        self._published = None

    async def claim_initialize(self, lease: int) -> bool:
        """Win or lose the race to create the cluster.

        The empty key that says "somebody is at it" hangs on the lease, so that a member which
        dies half-way does not block the others for good.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        key = self._base + "initialize"
        if await self._etcd.txn([Compare(key, "create_revision", 0)], [Put(key, "", lease)]):
            return True
        # A hedged request may be carried out twice, and the answer to the second one come first.
        _, found = await self._etcd.range(key)
        return any((each.key, each.lease) == (key, lease) for each in found)

    async def complete_initialize(
        self, system_id: str, config: Mapping[str, Any], lease: int
    ) -> bool:
        """Publish the new cluster: system identifier, configuration, ourselves as leader.

        One transaction, so nobody sees half a cluster; tell whether the claim was still ours.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        initialize, leader = self._base + "initialize", self._base + "leader"
        is_done = await self._etcd.txn(
            [Compare(initialize, "lease", lease), Compare(leader, "create_revision", 0)],
            [
                Put(initialize, system_id),
                Put(self._base + "config", dump(config)),
                Put(leader, self._name, lease),
            ],
        )
        # Done twice, as above, only the first one finds the claim.
        return is_done or (await self.load()).initialize == system_id

    async def adopt_initialize(self, leader: LeaderKey, system_id: str) -> bool:
        """Repair a missing or empty initialize key as leader; tell whether we still lead.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        put = Put(self._base + "initialize", system_id)
        return await self._etcd.txn([self._ours(leader)], [put])

    async def abandon_initialize(self, lease: int) -> None:
        """Give up a claim that failed; etcd does it for us when it does not answer now."""
        key = self._base + "initialize"
        try:
            await self._etcd.txn([Compare(key, "lease", lease)], [Delete(key)])
        except StoreError:
            return

    def _sync_is(self, revision: int) -> Compare:
        """Return the condition that the ``sync`` key has not changed since *revision*."""
        return Compare(self._base + "sync", "mod_revision", revision)

    def _ours(self, leader: LeaderKey) -> Compare:
        return Compare(self._base + "leader", "create_revision", leader.create_revision)
