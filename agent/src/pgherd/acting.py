# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop does about a decision: each action carried out, long ones beside the loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pgherd.actions import (
    Action,
    BeginRestart,
    BeginScheduledRestart,
    Bootstrap,
    ClearData,
    Clone,
    Demote,
    DropScheduledRestart,
    EndHandover,
    FinishStop,
    Follow,
    HandOver,
    KeepSlots,
    Lead,
    MoveRoll,
    Promote,
    Refuse,
    Rejoin,
    ReleaseKey,
    RestartPrimary,
    RestartStandby,
    Retire,
    SetSyncNames,
    StartPrimary,
    StartStandby,
    StopAndLeave,
    StopReceiving,
    TakeKey,
    WriteSync,
)
from pgherd.births import bootstrap, clone
from pgherd.errors import ForeignDataError, PostgresError, StoreError
from pgherd.reinitialize import clear_data
from pgherd.rejoin import rejoin
from pgherd.restarts import restart_primary, restart_standby
from pgherd.rolls import move_roll
from pgherd.stopping import checkpoint_first
from pgherd.wishes import Restart

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgherd.loop import Loop
    from pgherd.model import Member
    from pgherd.view import View

log = logging.getLogger(__name__)

# A reload is in force after about this long.
RELOAD_SECONDS: Final = 0.02
# Below the unit's TimeoutStopSec (300 s), so that an immediate stop still has its turn.
STOP_SECONDS: Final = 240.0
# Before a leader stops, while clients go on, seconds.
CHECKPOINT_SECONDS: Final = 20.0
# What standbys lack is sent to those that are well within this time after a stop, seconds.
SEND_SECONDS: Final = 3.0


class Actor:
    """Carries out what the decisions of *loop* ask for."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._checkpoint: asyncio.Task[None] | None = None

    async def act(self, action: Action, view: View) -> None:
        """Carry out one action; long ones begin and go on beside the loop."""
        loop = self._loop
        postgres, begin = loop.effects.postgres, loop.operations.begin
        match action:
            case TakeKey(sync):
                await loop.leadership.take_key(view, sync)
            case StopReceiving():
                await self._stop_receiving()
            case WriteSync(sync):
                await loop.leadership.write_sync(view, sync)
            case SetSyncNames(names):
                log.info("commits wait for: %s", names or "nobody")
                await postgres.set_sync_names(names)
                asyncio.get_running_loop().call_later(RELOAD_SECONDS, loop.wake.set)
            case Promote(names, timeline):
                begin("promote", loop.leadership.promote(view, names, timeline))
            case Follow(leader):
                log.info("following %s", leader.name)
                await postgres.follow(leader)
            case Lead():
                self._settle_timeline(view)
                await loop.leadership.renew_ttl(view)
                await loop.upkeep.lead(view)
            case KeepSlots():
                await loop.leadership.renew_ttl(view)
                await loop.upkeep.slots.keep(view)
            case Demote():
                await loop.operations.cancel()
                await postgres.stop_now()
                loop.wake.set()
            case HandOver(request, heir):
                begin("switchover", loop.switchover.run(request, heir))
            case EndHandover(request, state, result):
                await loop.switchover.end(view, request, state, result)
            case StartPrimary(names):
                begin("start primary", self._start(postgres.start_primary(names)))
            case StartStandby(upstream):
                begin("start standby", self._start(postgres.start_standby(upstream)))
            case Rejoin(leader):
                loop.descent.note_restart(view)
                begin("rejoin", self._rejoin(leader, view))
            case Clone(source):
                begin("clone", clone(postgres, source, view.upstream))
            case Bootstrap():
                begin("bootstrap", self._bootstrap())
            case RestartPrimary(names):
                begin("restart primary", restart_primary(loop, view, names))
            case RestartStandby(upstream):
                begin("restart", restart_standby(loop, view, upstream))
            case ClearData(leader):
                begin("reinitialize", clear_data(loop, leader))
            case BeginRestart():
                loop.wanted.ask_restart(Restart(loop.effects.clock()))
                loop.wake.set()
            case MoveRoll(step):
                await move_roll(loop, view, step)
            case BeginScheduledRestart() | DropScheduledRestart():
                self._end_schedule(action)
            case ReleaseKey():
                await loop.leadership.release_key(view)
            case Retire():
                begin("demote", self._retire())
            case FinishStop():
                begin("stop", postgres.stop(STOP_SECONDS))
            case StopAndLeave():
                begin("stop", self._stop_and_leave(view))
            case Refuse(found, expected):
                data_dir = str(postgres.data_dir)
                loop.failure = ForeignDataError(data_dir, found, expected, loop.config.scope)
                loop.finished.set()

    async def _stop_receiving(self) -> None:
        try:
            await self._loop.effects.postgres.stop_receiving(self._loop.config.timing.peer_timeout)
        except PostgresError as error:
            log.warning("this standby cannot vote yet: %s", error)
        else:
            self._loop.wake.set()

    async def _start(self, starting: Coroutine[None, None, None]) -> None:
        try:
            await starting
        except PostgresError:
            self._loop.tracker.start_failures += 1
            raise

    async def _rejoin(self, leader: Member, view: View) -> None:
        use_rewind = view.settings.use_pg_rewind
        postgres = self._loop.effects.postgres
        await rejoin(postgres, leader, view.upstream, use_rewind, STOP_SECONDS)

    async def _bootstrap(self) -> None:
        loop = self._loop
        store, keeper, postgres = loop.effects.store, loop.effects.keeper, loop.effects.postgres
        await bootstrap(loop.config, store, keeper, postgres, loop.operations.tell)

    async def _retire(self) -> None:
        log.warning("this is a standby cluster now: stopping its primary")
        postgres = self._loop.effects.postgres
        await postgres.checkpoint()
        await postgres.stop(STOP_SECONDS)

    async def _stop_and_leave(self, view: View) -> None:
        postgres = self._loop.effects.postgres
        if view.instance.is_primary and view.holds_key:
            await self._stop_leading(view)
        await postgres.stop(view.settings.stop_seconds(STOP_SECONDS))
        await self._loop.leadership.release_key(view)
        try:
            await self._loop.effects.keeper.revoke()
        except StoreError as error:
            log.warning("the lease could not be given back, it will expire: %s", error)
        self._loop.finished.set()

    async def _stop_leading(self, view: View) -> None:
        """Stop the leader, and let others lead while its archiver is still busy.

        The server sends what standbys lack after its shutdown checkpoint; those that stream have
        it at once.
        """
        postgres = self._loop.effects.postgres
        await checkpoint_first(postgres, CHECKPOINT_SECONDS)
        try:
            await postgres.shut_down(view.settings.stop_seconds(STOP_SECONDS))
        except PostgresError as error:
            log.warning("stopping PostgreSQL immediately: %s", error)
            await postgres.stop_now()
            return
        if not await postgres.ended(SEND_SECONDS):
            await self._loop.leadership.release_key(view)
            if not await postgres.ended(STOP_SECONDS):
                await postgres.stop_now()

    def _end_schedule(self, action: BeginScheduledRestart | DropScheduledRestart) -> None:
        wanted = self._loop.wanted
        scheduled = wanted.scheduled
        wanted.schedule(None)
        if isinstance(action, DropScheduledRestart):
            log.warning("the scheduled restart is not made: %s", action.why)
        elif scheduled is not None:
            wanted.ask_restart(Restart(self._loop.effects.clock(), scheduled.within))
        self._loop.wake.set()

    def _settle_timeline(self, view: View) -> None:
        """Write the checkpoint that pg_rewind on other members waits for (R5)."""
        if view.instance.owes_checkpoint and self._checkpoint is None:
            self._checkpoint = asyncio.create_task(self._write_checkpoint())

    async def _write_checkpoint(self) -> None:
        try:
            await self._loop.effects.postgres.checkpoint()
        except PostgresError as error:
            log.warning("the checkpoint after the promotion failed: %s", error)
        finally:
            self._checkpoint = None
            self._loop.wake.set()
