# SPDX-License-Identifier: GPL-3.0-or-later
"""observe -> decide -> act, woken by events; the only place that waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgherd.actions import (
    Action,
    Bootstrap,
    Clone,
    Demote,
    Follow,
    KeepSlots,
    Lead,
    Promote,
    Refuse,
    Rejoin,
    ReleaseKey,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    TakeKey,
)
from pgherd.births import bootstrap, clone
from pgherd.decide import Decision, decide
from pgherd.errors import ForeignDataError, PostgresError, StoreError
from pgherd.model import Cluster, Instance, Member, Peer, Process, View
from pgherd.operations import Operations
from pgherd.published import member_key
from pgherd.rejoin import is_diverged, rejoin
from pgherd.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgherd.config import Config
    from pgherd.effects import Clock, Guard, Peers, Systemd
    from pgherd.lease import LeaseKeeper
    from pgherd.postgres import Postgres
    from pgherd.store import Store

log = logging.getLogger(__name__)

# Rules in which nothing is expected to happen soon; in all others the loop looks more often.
STEADY = frozenset({"lead", "stream"})
BUSY_INTERVAL_SECONDS = 0.3
# Keys whose change matters to every member at once.
URGENT_KEYS = frozenset({"leader", "initialize", "config", "failover", "sync"})
# Below the unit's TimeoutStopSec (300 s), so that an immediate stop still has its turn.
STOP_SECONDS = 240.0
PROMOTE_SECONDS = 60.0


@dataclass(frozen=True)
class Effects:
    """Everything the loop acts through."""

    store: Store
    keeper: LeaseKeeper
    postgres: Postgres
    peers: Peers
    guard: Guard
    systemd: Systemd
    clock: Clock


class Loop:
    """One agent's loop; `view` and `decision` are the last ones, for the REST API."""

    def __init__(self, config: Config, effects: Effects, wake: asyncio.Event) -> None:
        self.config = config
        self.effects = effects
        self.wake = wake
        self.view = View(now=effects.clock(), me=config.name, tags=config.tags, instance=Instance())
        self.decision: Decision | None = None
        self.decisions = 0
        self.dcs_last_seen = 0
        self.rounds = 0
        self.stopping = False
        self.finished = asyncio.Event()
        self.failure: Exception | None = None
        self.operations = Operations(effects.clock, wake.set)
        self.upkeep = Upkeep(config, effects.store, effects.postgres, effects.clock)
        self._dynamic: object = None
        self._store_answered = True
        self._guarding = False
        self._unlocked_since: float | None = None
        self._starting_since: float | None = None
        self._start_failures = 0
        self._checkpoint: asyncio.Task[None] | None = None
        effects.keeper.on_renewal(self._extend_guard)

    async def run(self) -> None:
        """Go round until the agent is told to end."""
        watcher = asyncio.create_task(self._watch())
        try:
            while not self.finished.is_set():
                self.wake.clear()
                await self.round()
                self.effects.systemd.alive(self._status())
                await self._rest()
        finally:
            watcher.cancel()

    async def round(self) -> None:
        """Observe, decide, act, publish; once."""
        self.rounds += 1
        view = self.view = await self.observe()
        decision = decide(view)
        self._note(decision, view)
        for action in decision.actions:
            try:
                await self.act(action, view)
            except OSError as error:
                # A full disk, say. The lease is renewed on, and the next round tries again.
                log.error("rule %s could not be carried out: %s", decision.rule.name, error)
        await self._publish(view)

    async def _rest(self) -> None:
        interval = self.config.timing.loop_interval
        pause = interval if self._is_steady() else min(interval, BUSY_INTERVAL_SECONDS)
        view = self.view
        if view.instance.may_write and view.has_lease and view.lease is not None:
            # Be there when the lease ends, not a loop later; once it has ended that is decided.
            pause = min(pause, max(0.0, view.lease.valid_until - self.effects.clock()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self.wake.wait()

    def _note(self, decision: Decision, view: View) -> None:
        if self.decision is None or self.decision.rule.name != decision.rule.name:
            self.decisions += 1
            log.info("rule %s: %s", decision.rule.name, decision.rule.why)
            leader = view.leader.name if view.leader else "nobody"
            position = f"timeline {view.instance.timeline} position {view.instance.position:X}"
            log.debug("leader %s, %s, peers %s", leader, position, view.peers)
        self.decision = decision

    def _status(self) -> str:
        rule = self.decision.rule if self.decision else None
        leader = self.view.leader.name if self.view.leader else "nobody"
        return f"{rule.name}: {rule.why}; leader is {leader}" if rule else "starting"

    # Observing

    async def observe(self) -> View:
        """Gather one view of the world."""
        # Taken first: what is seen while an operation runs is stale when it has ended meanwhile.
        operation = self.operations.current
        cluster, instance = await asyncio.gather(self._load(), self.effects.postgres.observe())
        answers = cluster is not None
        cluster = cluster or self.view.cluster
        now = self.effects.clock()
        self._track(cluster, answers, instance, now)
        if cluster is not None and answers:
            await self._apply_dynamic(cluster, instance)
        peers: dict[str, Peer] = {}
        if answers and cluster is not None and cluster.leader is None and instance.is_running:
            others = {name: m for name, m in cluster.members.items() if name != self.config.name}
            peers = await self.effects.peers.ask(others, self.config.timing.peer_timeout)
        view = View(
            now=self.effects.clock(),
            me=self.config.name,
            tags=self.config.tags,
            instance=instance,
            cluster=cluster,
            store_answers=answers,
            lease=self.effects.keeper.lease,
            peers=peers,
            unlocked_since=self._unlocked_since,
            operation=operation,
            starting_since=self._starting_since,
            start_failures=self._start_failures,
            diverged=await self._diverged(cluster, instance),
            stopping=self.stopping,
        )
        self._set_guard(view)
        return view

    async def _load(self) -> Cluster | None:
        try:
            cluster = await self.effects.store.load()
        except StoreError as error:
            if self._store_answered:
                log.warning("etcd does not answer: %s", error)
            self._store_answered = False
            return None
        if not self._store_answered:
            log.info("etcd answers")
        self._store_answered = True
        self.dcs_last_seen = int(time.time())
        return cluster

    def _track(
        self, cluster: Cluster | None, answers: bool, instance: Instance, now: float
    ) -> None:
        """Keep what one look cannot tell: since when, and how often."""
        unlocked = answers and cluster is not None and cluster.leader is None
        self._unlocked_since = (self._unlocked_since or now) if unlocked else None
        was_starting = self._starting_since is not None
        is_starting = instance.process is Process.STARTING
        self._starting_since = (self._starting_since or now) if is_starting else None
        if instance.is_running:
            self._start_failures = 0
            self.effects.postgres.adopt_upstream(instance.upstream)
        elif was_starting and not is_starting and self.operations.current is None:
            self._start_failures += 1

    async def _apply_dynamic(self, cluster: Cluster, instance: Instance) -> None:
        parameters = cluster.settings.parameters
        is_foreign = cluster.initialize and instance.system_id not in (None, cluster.initialize)
        if self._dynamic != parameters and not is_foreign and self.operations.current is None:
            try:
                await self.effects.postgres.configure(self.config, parameters)
            except OSError as error:
                log.error("PostgreSQL's configuration could not be written: %s", error)
            else:
                self._dynamic = parameters

    async def _diverged(self, cluster: Cluster | None, instance: Instance) -> bool:
        leader = cluster.leader_member if cluster else None
        if leader is None or leader.name == self.config.name or not instance.is_standby:
            return False
        behind = leader.is_settled_primary and leader.timeline != instance.timeline
        if instance.is_streaming or not behind:
            return False
        try:
            # Bounded: the leader may be dead without its key being gone yet.
            within = 2 * self.config.timing.peer_timeout
            return await is_diverged(self.effects.postgres, instance, leader, within)
        except PostgresError as error:
            log.info("the history of %s is not known yet: %s", leader.name, error)
            return False

    def _set_guard(self, view: View) -> None:
        becomes = view.operation in ("promote", "start primary", "bootstrap")
        if (view.instance.may_write or becomes) and not view.settings.pause:
            self._guarding = True
            # Without a lease the deadline of the last one stands.
            if view.lease is not None:
                self._extend_guard(view.lease.valid_until)
        else:
            self.effects.guard.disarm()
            self._guarding = False

    def _extend_guard(self, deadline: float) -> None:
        # The loop gets the first go at the deadline: it stops PostgreSQL, the guard kills it.
        if self._guarding:
            self.effects.guard.arm(deadline + self.config.timing.margin / 2)

    # Acting

    async def act(self, action: Action, view: View) -> None:
        """Carry out one action; long ones begin and go on beside the loop."""
        postgres, begin = self.effects.postgres, self.operations.begin
        match action:
            case TakeKey():
                await self._take_key()
            case Promote():
                begin("promote", self._promote(view))
            case Follow(leader):
                log.info("following %s", leader.name)
                await postgres.follow(leader)
            case Lead():
                self._settle_timeline(view)
                await self._renew_ttl(view)
                await self.upkeep.lead(view)
            case KeepSlots():
                await self._renew_ttl(view)
                await self.upkeep.keep_standby_slots(view)
            case Demote():
                await self.operations.cancel()
                await postgres.stop_now()
                self.wake.set()
            case StartPrimary():
                begin("start primary", self._start(postgres.start_primary()))
            case StartStandby():
                begin("start standby", self._start(postgres.start_standby(None)))
            case Rejoin(leader):
                begin("rejoin", self._rejoin(leader, view))
            case Clone(source):
                begin("clone", clone(postgres, source, view.other_leader))
            case Bootstrap():
                begin("bootstrap", bootstrap(self.config, self.effects.store,
                                             self.effects.keeper, postgres))  # fmt: skip
            case ReleaseKey():
                await self._release_key(view)
            case StopAndLeave():
                begin("stop", self._stop_and_leave())
            case Refuse(found, expected):
                data_dir = str(postgres.data_dir)
                self.failure = ForeignDataError(data_dir, found, expected, self.config.scope)
                self.finished.set()

    async def _take_key(self) -> None:
        lease = self.effects.keeper.lease
        if lease is None:
            return
        try:
            if await self.effects.store.take_leader(lease.id):
                log.info("the leader key is ours")
        except StoreError as error:
            log.warning("the leader key could not be taken: %s", error)
        self.wake.set()

    async def _start(self, starting: Coroutine[None, None, None]) -> None:
        try:
            await starting
        except PostgresError:
            self._start_failures += 1
            raise

    async def _promote(self, view: View) -> None:
        keeper = self.effects.keeper
        if keeper.lease is None or self.effects.clock() >= keeper.lease.valid_until:
            return
        await self.effects.postgres.promote(PROMOTE_SECONDS)
        log.info("promoted; timeline %s ended", view.instance.timeline)

    async def _rejoin(self, leader: Member, view: View) -> None:
        use_rewind = view.settings.use_pg_rewind
        await rejoin(self.effects.postgres, leader, use_rewind, STOP_SECONDS)

    async def _release_key(self, view: View) -> None:
        if view.leader is not None and view.holds_key:
            with contextlib.suppress(StoreError):
                await self.effects.store.release_leader(view.leader)
                log.warning("the leader key was given up")
        self.wake.set()

    async def _stop_and_leave(self) -> None:
        await self.effects.postgres.stop(STOP_SECONDS)
        try:
            await self.effects.keeper.revoke()
        except StoreError as error:
            log.warning("the lease could not be given back, it will expire: %s", error)
        self.finished.set()

    def _settle_timeline(self, view: View) -> None:
        """Write the checkpoint that pg_rewind on other members waits for (R5)."""
        if view.instance.owes_checkpoint and self._checkpoint is None:
            self._checkpoint = asyncio.create_task(self._write_checkpoint())

    async def _write_checkpoint(self) -> None:
        try:
            await self.effects.postgres.checkpoint()
        except PostgresError as error:
            log.warning("the checkpoint after the promotion failed: %s", error)
        finally:
            self._checkpoint = None
            self.wake.set()

    async def _renew_ttl(self, view: View) -> None:
        """Move to a lease of the configured length after the configuration has changed."""
        keeper, store = self.effects.keeper, self.effects.store
        if not keeper.needs_other_ttl or not view.store_answers:
            return
        try:
            new = await keeper.grant_other()
            held = view.leader if view.holds_key else None
            if held is not None and not await store.move_leader(held, new.id):
                return
            old = keeper.switch(new)
            await store.publish(member_key(self.config, view), new.id)
            if old is not None:
                await store.etcd.lease_revoke(old.id)
        except StoreError as error:
            log.warning("the lease could not be exchanged: %s", error)
        self.wake.set()

    async def _publish(self, view: View) -> None:
        lease = self.effects.keeper.lease
        if lease is None or not view.store_answers or self.finished.is_set():
            return
        if view.cluster is not None and view.me not in view.cluster.members:
            self.effects.store.forget_published()
        try:
            await self.effects.store.publish(member_key(self.config, view), lease.id)
        except StoreError as error:
            log.warning("the member key could not be written: %s", error)

    # Waking

    async def _watch(self) -> None:
        """Wake the loop when etcd says that something has changed."""
        while True:
            reading = asyncio.create_task(self._read_changes())
            moving = asyncio.create_task(self.effects.store.etcd.moved())
            try:
                await asyncio.wait({reading, moving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reading.cancel()
                moving.cancel()
            self.wake.set()
            await asyncio.sleep(BUSY_INTERVAL_SECONDS)

    async def _read_changes(self) -> None:
        revision = self.view.cluster.revision if self.view.cluster else 0
        try:
            async for changed in self.effects.store.changes(revision):
                if changed & URGENT_KEYS or not self._is_steady():
                    self.wake.set()
        except StoreError as error:
            log.info("%s", error)

    def _is_steady(self) -> bool:
        """Whether nothing is expected to happen soon."""
        if self.decision is None or self.decision.rule.name not in STEADY:
            return False
        instance, leader = self.view.instance, self.view.other_leader
        if leader is None:
            return True
        # A standby that is on its way to the leader's timeline or position tells when it is there.
        optime = self.view.cluster.optime if self.view.cluster else 0
        lags = optime - instance.position > self.view.settings.maximum_lag_on_failover
        return instance.is_streaming and not lags and leader.timeline in (None, instance.timeline)

    def reconfigure(self, config: Config) -> None:
        """Apply a configuration read anew; the next round writes the files."""
        self.config = config
        self.upkeep.reconfigure(config)
        self.effects.keeper.retime(config.timing)
        self.effects.store.etcd.reconfigure(
            config.etcd_endpoints,
            timeout=config.timing.etcd_timeout,
            hedge_delay=config.timing.hedge_delay,
        )
        self._dynamic = None
        self.wake.set()
