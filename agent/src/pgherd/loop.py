# SPDX-License-Identifier: GPL-3.0-or-later
"""observe -> decide -> act, woken by events; the only place that waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pgherd.acting import Actor
from pgherd.actions import Bootstrap, Promote, StartPrimary
from pgherd.callbacks import Callbacks
from pgherd.decide import Decision, decide
from pgherd.descent import Descent
from pgherd.dynamic import Dynamic
from pgherd.errors import StoreError
from pgherd.failsafe import Failsafe
from pgherd.lag import Progress
from pgherd.leadership import Leadership
from pgherd.methods import leaderless_methods
from pgherd.model import Cluster, Instance, Process
from pgherd.operations import Operations
from pgherd.pauses import PauseNote
from pgherd.pooling import Pooling
from pgherd.published import member_key
from pgherd.rolling import find_roll
from pgherd.slots import shared_positions
from pgherd.switchover import Switchover
from pgherd.tracking import Tracker
from pgherd.upkeep import Upkeep
from pgherd.view import Peer, View
from pgherd.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgherd.config import Config
    from pgherd.effects import Clock, Guard, Health, Peers, Systemd
    from pgherd.lease import LeaseKeeper
    from pgherd.postgres import Postgres
    from pgherd.store import Store

log = logging.getLogger(__name__)

# Rules in which nothing is expected to happen soon; in all others the loop looks more often.
STEADY = frozenset({"lead", "stream", "lead_standbys"})
BUSY_INTERVAL_SECONDS = 0.3
# The peers cast their votes within milliseconds of each other: who lacks some asks again soon.
VOTING_INTERVAL_SECONDS = 0.05
VOTING = frozenset({"votes_missing", "stop_receiving"})
# Operations at whose end PostgreSQL is a primary.
BECOMING = frozenset({"promote", "start primary", "restart primary", "bootstrap"})
BEGINNING = (Promote, StartPrimary, Bootstrap)
# Keys whose change matters to every member at once.
URGENT_KEYS = frozenset({"leader", "initialize", "config", "failover", "operations", "sync"})


def stall_seconds(config: Config) -> float:
    """Return after how many seconds a standby that does not move is not waited for any more."""
    return max(1.0, config.timing.lease_ttl / 2)


@dataclass(frozen=True)
class Effects:
    """Everything the loop acts through."""

    store: Store
    keeper: LeaseKeeper
    postgres: Postgres
    peers: Peers
    guard: Guard
    health: Health
    systemd: Systemd
    clock: Clock


class Loop:
    """One agent's loop; `view` and `decision` are the last ones, for the REST API.

    `config` is what is in force: the files' with the dynamic configuration laid on it. Whatever
    else lives by it is told of a change through `on_config`.
    """

    def __init__(self, config: Config, effects: Effects, wake: asyncio.Event) -> None:
        self.config = config
        self.effects = effects
        self.wake = wake
        self.on_config: list[Callable[[Config], None]] = []
        self.dynamic = Dynamic(config, effects.postgres)
        self.callbacks = Callbacks(config)
        self.pooling = Pooling(config, effects.clock)
        self.view = View(now=effects.clock(), me=config.name, tags=config.tags, instance=Instance())
        self.decision: Decision | None = None
        self.decisions = 0
        self.dcs_last_seen = 0
        self.rounds = 0
        self.stopping = False
        self.finished = asyncio.Event()
        self.failure: Exception | None = None
        self.operations = Operations(effects.clock, wake.set)
        self.wanted = Wanted(config.runtime_dir / f"{config.scope}.restart")
        self._pause = PauseNote(config.runtime_dir / f"{config.scope}.paused")
        # Reads the configuration file again; returns what is wrong with it.
        self.reread: Callable[[], Sequence[str]] = list
        # How PostgreSQL's archiver is, for the REST API; empty where there is none.
        self.archiver: Callable[[], Mapping[str, Any]] = dict
        self.upkeep = Upkeep(config, effects.store, effects.postgres, effects.clock)
        self.descent = Descent(effects.postgres)
        self.tracker = Tracker(stall_seconds(config))
        self.failsafe = Failsafe(config, effects.peers, effects.clock, self._extend_promise)
        self.leadership = Leadership(config, effects, self.tracker, self.failsafe, wake.set)
        self.actor = Actor(self)
        self.switchover = Switchover(self)
        self.progress = Progress()
        self._applied: object = None
        self._config_revision = 0
        self._rounded = asyncio.Condition()
        self._store_answered = True
        self._guarding = False
        effects.keeper.on_renewal(self._extend_guard)

    async def run(self) -> None:
        """Go round until the agent is told to end."""
        works = (self._watch(), self.failsafe.run(), self.callbacks.run(), self.pooling.run())
        beside = [asyncio.create_task(work) for work in works]
        try:
            while not self.finished.is_set():
                for task in beside:
                    if task.done():
                        task.result()
                self.wake.clear()
                await self.round()
                self.effects.systemd.alive(self._status())
                await self._rest()
        finally:
            if self.finished.is_set():
                await self.callbacks.end(stopped=self.stopping)
            for task in beside:
                task.cancel()
            await self.pooling.end()

    async def round(self) -> None:
        """Observe, decide, act, publish; once."""
        self.rounds += 1
        was_primary = self.view.instance.is_primary
        view = self.view = await self.observe()
        decision = decide(view)
        self._note(decision, view)
        # Clients wait for that: it comes before whatever else has to be done.
        self.pooling.look(view)
        if view.instance.is_primary and not was_primary:
            await self._publish(view)
        if any(isinstance(action, BEGINNING) for action in decision.actions):
            # Before it begins: an agent that is frozen just after that has no other round.
            self._set_guard(view, becomes=True)
        for action in decision.actions:
            try:
                await self.actor.act(action, view)
            except OSError as error:
                # A full disk, say. The lease is renewed on, and the next round tries again.
                log.error("rule %s could not be carried out: %s", decision.rule.name, error)
        self.callbacks.look(view)
        await self._publish(view)
        async with self._rounded:
            self._rounded.notify_all()

    async def changed(self, wanted: Callable[[View], bool], within: float) -> bool:
        """Wait until *wanted* holds of the view of some round; tell whether it came to that.

        :param within: seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._rounded:
                await self._rounded.wait_for(lambda: wanted(self.view))
                return True
        return wanted(self.view)

    async def _rest(self) -> None:
        interval = self.config.timing.loop_interval
        pause = interval if self._is_steady() else min(interval, BUSY_INTERVAL_SECONDS)
        view = self.view
        if self.decision is not None and self.decision.rule.name in VOTING and view.peers:
            pause = VOTING_INTERVAL_SECONDS
        if view.instance.may_write and view.has_lease and view.lease is not None:
            # Be there when the lease ends, not a loop later; once it has ended that is decided.
            pause = min(pause, max(0.0, view.lease.valid_until - self.effects.clock()))
        request = view.handover
        if request is not None and request.at is not None:
            pause = min(pause, max(0.05, request.at - time.time()))
        scheduled = self.wanted.scheduled
        ahead = scheduled.at - time.time() if scheduled is not None else 0.0
        if ahead > 0:
            pause = min(pause, ahead)
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
        if operation is None:
            self.wanted.look(instance)
        instance = replace(
            instance,
            disk=self.effects.health.disk(),
            is_told_to_stop=await self.effects.health.is_told_to_stop(),
        )
        self.tracker.look(cluster, instance, now, answers=answers, operation=operation)
        if instance.is_running:
            self.effects.postgres.adopt(instance)
        self.progress.look(instance, now)
        if cluster is not None and answers:
            await self._apply_dynamic(cluster, instance)
            self.wanted.recall(cluster, self.config.name)
            self._pause.update(cluster.settings.pause)
        peers, reach = await self._ask_peers(cluster, instance, answers=answers)
        alone = cluster if instance.may_write and not answers else None
        known = replace(self.view, cluster=alone, instance=instance)
        slots = shared_positions(known) if alone is not None else {}
        self.failsafe.attend(alone, self.upkeep.failsafe_written, slots)
        view = View(
            now=self.effects.clock(),
            me=self.config.name,
            tags=self.config.tags,
            instance=instance,
            cluster=cluster,
            store_answers=answers,
            lease=self.effects.keeper.lease,
            peers=peers,
            operation=operation,
            stopping=self.stopping,
            silent_seconds=self.effects.health.silent_seconds(),
            hang_timeout=self.config.timing.hang_timeout,
            failsafe_until=self.failsafe.until,
            promised_to=self.failsafe.promised_to(now),
            promised=self.failsafe.promised_leader(now),
            watchdog_missing=self._watchdog_missing(),
            guarded=self.effects.guard.state.connected,
            reach=reach,
            wall=time.time(),
            handover_failure=self.switchover.failure(cluster),
            was_paused=self._pause.is_paused,
            restart=self.wanted.restart,
            scheduled_restart=self.wanted.scheduled,
            reinitialize=self.wanted.reinitialize,
            config_revision=self._config_revision,
            names_asked=self.effects.postgres.names_asked,
            config_problems=self.dynamic.problems,
            phase=self.operations.phase,
            restores=bool(leaderless_methods(self.config)),
            fruitless=self.tracker.fruitless(now),
            told=self.failsafe.told(now),
            copied_slots=self.effects.postgres.copies.ready,
            slots_to_copy=self.effects.postgres.copies.due,
        )
        self.effects.postgres.copies.note(view)
        view = replace(view, diverged=await self._judge(view))
        self.descent.note(view)
        stuck = self.descent.is_stuck(view)
        view = self.tracker.complete(replace(view, terms=self.descent.terms, stuck=stuck))
        self._set_guard(view)
        return view

    async def _judge(self, view: View) -> bool | None:
        if (
            view.reach is not None
            and view.leader is not None
            and view.leader.name not in view.reach
        ):
            # It asks whom we reach, and waits: no time to try it once more.
            return None
        return await self.descent.judge(view, 2 * self.config.timing.peer_timeout)

    async def _ask_peers(
        self, cluster: Cluster | None, instance: Instance, *, answers: bool
    ) -> tuple[dict[str, Peer], frozenset[str] | None]:
        """Ask the peers when an election is on, or when the leader asks whom we reach."""
        if cluster is None or not answers:
            return {}, None
        others = {name: m for name, m in cluster.members.items() if name != self.config.name}
        within = self.config.timing.peer_timeout
        if cluster.leader is None:
            # Whoever still receives votes first and counts votes afterwards.
            asks = instance.is_running and not (cluster.sync and instance.receives)
            return (await self.effects.peers.ask(others, within) if asks else {}), None
        if cluster.sync is None or not cluster.sync.isolated or instance.may_write:
            return {}, None
        return {}, frozenset(await self.effects.peers.ask(others, within))

    def _watchdog_missing(self) -> bool:
        wanted = self.config.watchdog.mode == "required"
        return wanted and not self.effects.guard.state.has_watchdog

    async def _load(self) -> Cluster | None:
        try:
            cluster = self.dynamic.complete(await self.effects.store.load())
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

    def _recovery_parameters(self, cluster: Cluster) -> Mapping[str, Any]:
        """Return the settings with which the leader of a standby cluster gets WAL."""
        leads = cluster.leader is not None and cluster.leader.name == self.config.name
        return cluster.remote.recovery_parameters if cluster.remote and leads else {}

    async def _apply_dynamic(self, cluster: Cluster, instance: Instance) -> None:
        raw, may_wait = cluster.config or {}, cluster.settings.synchronous_mode != "off"
        recovery = self._recovery_parameters(cluster)
        wanted = (raw, may_wait, instance.is_running, recovery)
        if self._applied == wanted:
            if self.effects.postgres.knows_pending_restart:
                self._config_revision = cluster.config_revision
            return
        config = self.dynamic.look(raw)
        if config != self.config:
            self._use(config)
        if instance.process is Process.STARTING:
            # What it has in force is not known, so its files cannot be written without losing it.
            return
        is_foreign = cluster.initialize and instance.system_id not in (None, cluster.initialize)
        if is_foreign or self.operations.current is not None:
            return
        files, settings = self.effects.postgres.files, cluster.settings
        files.use_slots = settings.use_slots
        files.copies_slots = any(slot.is_logical for slot in settings.permanent_slots)
        try:
            parameters = {**await self.dynamic.heeded_parameters(), **recovery}
            postgres = self.effects.postgres
            if await postgres.configure(self.config, parameters, may_wait=may_wait):
                self.callbacks.note("on_reload")
            self.dynamic.keep()
        except OSError as error:
            log.error("PostgreSQL's configuration could not be written: %s", error)
        else:
            self._applied = wanted

    def _set_guard(self, view: View, *, becomes: bool = False) -> None:
        becomes = becomes or view.operation in BECOMING
        if view.settings.pause or not (view.instance.may_write or becomes):
            self.effects.guard.disarm()
            self._guarding = False
            return
        # Without the key on our lease the deadline of the last one stands.
        self._guarding = view.holds_key or becomes
        if self._guarding and view.lease is not None:
            self._arm_guard(view.lease.valid_until)
        elif view.leads_by_promise:
            self._arm_guard(view.failsafe_until)

    def _extend_guard(self, deadline: float) -> None:
        if self._guarding:
            self._arm_guard(deadline)

    def _extend_promise(self, deadline: float) -> None:
        if self.view.leads_by_promise or self._guarding:
            self._arm_guard(deadline)
        self.wake.set()

    def _arm_guard(self, deadline: float) -> None:
        """Have PostgreSQL killed at *deadline*, or when the last promise ends, if that is later."""
        until = max(deadline, self.failsafe.until)
        # The loop gets the first go at the deadline: it stops PostgreSQL, the guard kills it.
        self.effects.guard.arm(until + self.config.timing.margin / 2)

    # Publishing

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
                has_ended = reading.done()
            finally:
                reading.cancel()
                moving.cancel()
            self.wake.set()
            if has_ended:
                await asyncio.sleep(BUSY_INTERVAL_SECONDS)

    async def _read_changes(self) -> None:
        revision = self.view.cluster.revision if self.view.cluster else 0
        try:
            async for changed in self.effects.store.changes(revision):
                if self._is_urgent(changed) or not self._is_steady():
                    self.wake.set()
        except StoreError as error:
            if self._store_answered:
                log.info("%s", error)

    def _is_urgent(self, changed: set[str]) -> bool:
        """Tell whether keys changed that matter at once.

        Also that of a standby we stream from, and any member's while clients wait for a leader.
        """
        named = f"members/{self.config.tags.replicatefrom}"
        if not changed.isdisjoint(URGENT_KEYS | {named}):
            return True
        return self.pooling.awaits_leader and any(key.startswith("members/") for key in changed)

    def _is_steady(self) -> bool:
        """Whether nothing is expected to happen soon."""
        if self.decision is None or self.decision.rule.name not in STEADY:
            return False
        if self.view.instance.is_running and not self.effects.postgres.knows_pending_restart:
            return False
        roll = find_roll(self.view)
        if roll is not None and roll.state == "running":
            return False
        instance, leader = self.view.instance, self.view.other_leader
        if leader is None:
            # The last step towards what is asked for waits for the setting to settle.
            return self.view.settled or self.view.settings.synchronous_mode == "off"
        if self.view.upstream is None:
            return True
        # A standby that is on its way to the leader's timeline or position tells when it is there.
        optime = self.view.cluster.optime if self.view.cluster else 0
        lags = optime - instance.position > self.view.settings.maximum_lag_on_failover
        return instance.is_streaming and not lags and leader.timeline in (None, instance.timeline)

    def reconfigure(self, given: Config) -> None:
        """Apply files read anew; the next round writes what PostgreSQL reads."""
        self._use(self.dynamic.reconfigure(given))

    def _use(self, config: Config) -> None:
        if config.timing != self.config.timing:
            log.info("timings: %s", config.timing)
        self.config = config
        self.upkeep.reconfigure(config)
        self.effects.keeper.retime(config.timing)
        self.effects.store.etcd.reconfigure(
            config.etcd_endpoints,
            timeout=config.timing.etcd_timeout,
            hedge_delay=config.timing.hedge_delay,
        )
        self.failsafe.reconfigure(config)
        self.callbacks.reconfigure(config)
        self.pooling.reconfigure(config)
        self.leadership.reconfigure(config)
        self.tracker.stall_seconds = stall_seconds(config)
        for tell in self.on_config:
            tell(config)
        self._applied = None
        self._config_revision = 0
        self.wake.set()
