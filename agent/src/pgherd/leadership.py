# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking the lead, keeping it, giving it up: what the loop does with the leader key."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgherd.errors import CommandError, StoreError
from pgherd.fence import FenceError, fence
from pgherd.hooks import run_command
from pgherd.model import SyncKey
from pgherd.published import member_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgherd.config import Config
    from pgherd.failsafe import Failsafe
    from pgherd.loop import Effects
    from pgherd.tracking import Tracker
    from pgherd.view import View

log = logging.getLogger(__name__)

PROMOTE_SECONDS: Final = 60.0
# Who gave the key up for a fault of its own lets the others go first for so many leases.
HOLD_BACK_LEASES: Final = 2


class Leadership:
    """One member's part in the lead.

    :param wake: called when the next round should come at once.
    """

    def __init__(
        self,
        config: Config,
        effects: Effects,
        tracker: Tracker,
        failsafe: Failsafe,
        wake: Callable[[], None],
    ) -> None:
        self._config = config
        self._failsafe = failsafe
        self._effects = effects
        self._tracker = tracker
        self._wake = wake
        self._fenced = 0

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    async def take_key(self, view: View, sync: SyncKey | None) -> None:
        """Try for the leader key; *sync* becomes `/sync` in the same transaction."""
        lease = self._effects.keeper.lease
        if lease is None or view.cluster is None:
            return
        if view.settings.failsafe_mode and not await self._failsafe.stand(view.cluster):
            log.info("a majority does not promise us to wait for us")
            return
        # The lead is left to an heir once: whoever leads next may have commits it lacks.
        status = None
        if view.cluster.heir is not None:
            status = {key: value for key, value in view.cluster.status.items() if key != "heir"}
        revision = view.cluster.sync_revision
        try:
            if await self._effects.store.take_leader(lease.id, revision, sync, status):
                log.info("the leader key is ours")
        except StoreError as error:
            log.warning("the leader key could not be taken: %s", error)
        self._wake()

    async def promote(self, view: View, names: str, timeline: int = 0) -> None:
        """Promote PostgreSQL, the former leader being fenced if the configuration says so.

        :param names: `synchronous_standby_names` from the first commit on.
        :param timeline: the number of its timeline; if it is used another one is reserved first.
        :raises PgherdError: fencing is required and failed, or PostgreSQL was not promoted.
        """
        await self._fence(view)
        if not await self._may_promote(view) or not self.has_lease():
            return
        postgres = self._effects.postgres
        if not await postgres.reserve_timeline(view.instance.timeline or 1, timeline):
            log.info("timeline %s was begun before and came to nothing", timeline)
            sync = view.sync if view.sync is not None else SyncKey("")
            await self.write_sync(view, replace(sync, timeline=timeline + 1))
            return
        await postgres.copies.before_promotion(view)
        await postgres.promote(names, PROMOTE_SECONDS, self.has_lease)
        log.info("promoted; timeline %s ended", view.instance.timeline)

    async def _may_promote(self, view: View) -> bool:
        """Run `pre_promote`; the key is given up, and others elect, if it says no (R4)."""
        command = self._config.postgres.pre_promote
        if not command:
            return True
        try:
            await run_command(command, within=PROMOTE_SECONDS)
        except CommandError as error:
            log.error("pre_promote: %s", error)
            await self.release_key(view)
            return False
        return True

    def has_lease(self) -> bool:
        """Whether our lease is good at this moment."""
        lease = self._effects.keeper.lease
        return lease is not None and self._effects.clock() < lease.valid_until

    async def _fence(self, view: View) -> None:
        fencing, former = self._config.fencing, self._tracker.former_leader
        released = view.cluster.status.get("released") if view.cluster else None
        if fencing.mode == "off" or former is None or former.name == released:
            return
        if former.create_revision == self._fenced:
            return
        log.warning("fencing %s, whose lease has run out", former.name)
        try:
            await fence(fencing, former.name, fencing.timeout)
        except FenceError as error:
            if fencing.mode == "required":
                raise
            log.error("going on although %s could not be fenced: %s", former.name, error)
        self._fenced = former.create_revision

    async def release_key(self, view: View) -> None:
        """Give the leader key up and let the others elect without us for a while."""
        if view.leader is not None and view.holds_key:
            status = view.cluster.status if view.cluster else {}
            try:
                if await self._effects.store.release_leader(view.leader, status):
                    log.warning("the leader key was given up")
                    pause = HOLD_BACK_LEASES * self._config.timing.lease_ttl
                    self._tracker.held_back_until = self._effects.clock() + pause
            except StoreError as error:
                # The request may still be under way, and delete the key we are about to use.
                log.warning("whether the leader key is given up is not known: %s", error)
                self._effects.keeper.abandon()
        self._wake()

    async def write_sync(self, view: View, sync: SyncKey | None) -> None:
        """Write `/sync`, or delete it for None, if nothing has changed since *view*."""
        if view.leader is None or view.cluster is None:
            return
        store, revision = self._effects.store, view.cluster.sync_revision
        try:
            if await store.write_sync(view.leader, sync, revision):
                log.info("sync: %s", sync.published() if sync else "none")
        except StoreError as error:
            log.warning("the sync key could not be written: %s", error)
        self._wake()

    async def renew_ttl(self, view: View) -> None:
        """Move to a lease of the configured length after the configuration has changed."""
        keeper, store = self._effects.keeper, self._effects.store
        if not keeper.needs_other_ttl or not view.store_answers:
            return
        try:
            new = await keeper.grant_other()
            held = view.leader if view.holds_key else None
            if held is not None and not await store.move_leader(held, new.id):
                return
            old = keeper.switch(new)
            await store.publish(member_key(self._config, view), new.id)
            if old is not None:
                await store.etcd.lease_revoke(old.id)
        except StoreError as error:
            log.warning("the lease could not be exchanged: %s", error)
        self._wake()
