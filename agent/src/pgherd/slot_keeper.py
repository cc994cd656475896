# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping this node's replication slots as `pgherd.slots` says, round by round."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError
from pgherd.pgfiles import slot_name
from pgherd.slot_settings import is_ignored
from pgherd.slots import (
    Advance,
    Create,
    Drop,
    candidates,
    electable,
    in_the_way,
    is_busy,
    leads,
    may_be_dropped,
    needs,
    plan,
    published_positions,
    retained,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from pgherd.postgres import Postgres
    from pgherd.slots import Need, Step
    from pgherd.view import View

log = logging.getLogger(__name__)

# How often unused slots let old WAL go, seconds.
ADVANCE_SECONDS: Final = 10.0
# A logical slot is ready when the transactions that were open before have ended, seconds.
LOGICAL_SECONDS: Final = 600.0
LEFT_BEHIND: Final = (
    "it was on the leader before, and is not on this one: its subscriber has missed changes and "
    "must begin anew; then make the slot by hand, or take it out of `slots` and put it back"
)


class Absences:
    """Remembers which slots were a member's or permanent, and since when nobody needs them.

    :ivar seen: slots that were here under this leader.

    What was ours also stands in ``/status``, so that a new agent knows. A new leader counts anew.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._ours: set[str] = set()
        self._since: dict[str, float] = {}
        self._led = False
        self._expired: frozenset[str] = frozenset()

    def look(self, view: View, needed: Mapping[str, Need]) -> None:
        """Take in one view."""
        if leads(view) != self._led:
            self._led = leads(view)
            self._since.clear()
            self.seen.clear()
        self.seen |= view.instance.slots.keys()
        self._ours |= {*needed, *published_positions(view), *retained(view)}
        ttl = view.settings.member_slots_ttl
        self._since = {
            name: self._since.get(name, view.now) for name in self._unneeded(view, needed)
        }
        self._expired = frozenset(
            name
            for name, since in self._since.items()
            if ttl == 0
            or view.now - since > ttl
            or self._was_waited_for(view, name)
            or self._was_given_up(view, name)
        )

    def _was_waited_for(self, view: View, name: str) -> bool:
        """Tell whether a standby's leader has waited already before it stopped naming the slot."""
        names_them = view.cluster is not None and "retain_slots" in view.cluster.status
        return not self._led and names_them and name in self._ours and name != slot_name(view.me)

    def _was_given_up(self, view: View, name: str) -> bool:
        """Tell whether somebody has dropped an absent member's slot on this leader."""
        knows = self._led and view.instance.is_running
        return knows and name in self.seen and name not in view.instance.slots

    def _unneeded(self, view: View, needed: Mapping[str, Need]) -> set[str]:
        """Return the slots that nobody uses or needs, whether they are here or are to be kept."""
        have, ignored = view.instance.slots, view.settings.ignore_slots
        own, waits = slot_name(view.me), view.instance.subscribers_wait_for or frozenset()
        found = {name for name in retained(view) - {own} if name not in have}
        for name, slot in have.items():
            may_go = may_be_dropped(view, slot, was_ours=name in self._ours)
            if may_go and not (is_busy(slot) or is_ignored(ignored, name, slot) or name in waits):
                found.add(name)
        return found - needed.keys()

    def unneeded(self, view: View) -> set[str]:
        """Return the slots here that are to be dropped."""
        have, ignored = view.instance.slots, view.settings.ignore_slots
        blocking = {
            name
            for name, slot in have.items()
            if in_the_way(view, name, slot)
            and not is_busy(slot)
            and not is_ignored(ignored, name, slot)
        }
        return blocking.union(self._expired & have.keys())

    def kept(self, view: View) -> set[str]:
        """Return the physical slots of ours that a leader keeps although nobody needs them now."""
        have = view.instance.slots
        here = {name for name in have if have[name].get("type") == "physical"} & self._ours
        return here.union(retained(view)) - self._expired - {slot_name(view.me)}


class SlotKeeper:
    """Keeps slots as they should be."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._absences = Absences()
        self._advanced = float("-inf")
        self._complaints: dict[str, str] = {}
        # What is done with slots beside the loop.
        self._beside: dict[str, asyncio.Task[None]] = {}

    def status(self, view: View) -> dict[str, Any]:
        """Return what a leader writes about slots into ``/status``."""
        needed = needs(view)
        self._absences.look(view, needed)
        return status(view, needed, self._absences.kept(view))

    async def keep(self, view: View) -> None:
        """Create, drop and advance slots; what PostgreSQL refuses now is tried again later.

        Without a fresh view of the cluster nothing is changed (R38).
        """
        if view.cluster is None or not view.settings.use_slots:
            return
        may_advance = view.now - self._advanced > ADVANCE_SECONDS
        if may_advance:
            self._advanced = view.now
        needed = needs(view)
        if not view.store_answers:
            # In failsafe mode those who tell each other where they are let WAL go all the same.
            moves = [move for move in plan(view, needed, ()) if isinstance(move, Advance)]
            for move in moves if may_advance and view.told else ():
                await self._take(move)
            return
        self._absences.look(view, needed)
        for step in plan(view, needed, self._absences.unneeded(view)):
            if may_advance or not isinstance(step, Advance):
                await self._take(step)
        if view.instance.is_primary:
            await self._postgres.copies.drop_left()
        self._postgres.copies.look(view)
        await self._keep_failover_slots(view)

    async def _take(self, step: Step) -> None:
        name = step.need.name if isinstance(step, Create) else step.name
        slots = self._postgres.slots
        if isinstance(step, Create) and step.need.is_logical:
            self._create_logical(step.need)
            return
        if isinstance(step, Advance) and step.database is not None:
            self._begin(name, self._advance(name, step.database, step.position))
            return
        try:
            match step:
                case Create():
                    await slots.create_physical(name)
                    log.info("slot %s is made", name)
                case Drop(_, why):
                    await slots.drop(name)
                    log.warning("slot %s is dropped: %s", name, why)
                case Advance(_, position):
                    await slots.advance(name, position)
        except PostgresError as error:
            self._complain(name, error)
        else:
            self._complaints.pop(name, None)

    def _create_logical(self, need: Need) -> None:
        """Create it beside the loop: it waits for transactions that are open.

        Not where one that was in use has been left behind by the lead: over a new one its
        subscriber would go on without what was written in between, and nobody would notice.
        """
        is_new = need.position is not None and need.name not in self._absences.seen
        if is_new or need.name in self._postgres.copies.left:
            self._complain(need.name, LEFT_BEHIND)
        else:
            self._begin(need.name, self._create(need))

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Do *work* on a slot beside the loop, unless something is being done with it."""
        if name in self._beside:
            work.close()
            return
        task = asyncio.create_task(work)
        self._beside[name] = task
        task.add_done_callback(lambda _: self._beside.pop(name, None))

    async def _advance(self, name: str, database: str, position: int) -> None:
        try:
            await self._postgres.slots.advance_logical(name, database, position, LOGICAL_SECONDS)
        except PostgresError as error:
            self._complain(name, error)
        else:
            self._complaints.pop(name, None)

    async def _create(self, need: Need) -> None:
        assert need.database is not None
        assert need.plugin is not None
        try:
            await self._postgres.slots.create_logical(
                need.name, need.database, need.plugin, LOGICAL_SECONDS
            )
        except PostgresError as error:
            self._complain(need.name, error)
        else:
            log.info("slot %s is made", need.name)
            self._complaints.pop(need.name, None)

    def _complain(self, name: str, error: PostgresError | str) -> None:
        """Say once what is wrong, not in every round."""
        if self._complaints.get(name) != str(error):
            self._complaints[name] = str(error)
            log.warning("slot %s could not be kept: %s", name, error)

    async def _keep_failover_slots(self, view: View) -> None:
        """Pace a primary's subscribers; have a standby copy its leader's slots (PostgreSQL 17)."""
        postgres, instance, leader = self._postgres, view.instance, view.other_leader
        if instance.subscribers_wait_for is None:
            return
        streaming = candidates(view) if instance.is_primary else []
        anybody = electable(view, streaming) if view.sync is None else []
        has_changed = await postgres.pacing.see(streaming, anybody)
        if leader is not None and instance.is_standby:
            # Slots cannot be copied from another standby.
            syncs = instance.upstream == f"{leader.host}:{leader.port}"
            has_changed |= postgres.files.syncs_slots != syncs
            postgres.files.syncs_slots = syncs
        if has_changed:
            await postgres.rewrite()
        elif instance.is_primary and postgres.files.paced_by not in (
            None,
            instance.subscribers_wait_for,
        ):
            # ALTER SYSTEM has been used, or the reload is under way, or it was lost.
            await postgres.rewrite()
            await postgres.reload()
