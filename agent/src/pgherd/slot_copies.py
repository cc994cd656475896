# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a leader's permanent logical slots on a standby, before PostgreSQL 17 (R37).

Such a server cannot make a logical slot while it is a standby, but finds one when it starts. So the
leader's state file of the slot is put into the stopped standby, and the copy is moved as far as the
subscriber has come by `pg_replication_slot_advance` (see `pgherd.slots`).

A copy is *ready*, which means that a subscriber loses nothing when this standby is promoted, if

* the catalog rows it needs are there. The leader keeps them for this standby's slot once that has a
  catalog_xmin from `hot_standby_feedback`; what the leader's own slot needed after that moment, and
  what the standby's slot holds, both may not be later than what the copy needs;
* what was running where its decoding begins is known (`slot_state.knows_transactions`);
* it is not ahead of what this standby has replayed.

PostgreSQL 17 asks the same of the slots it copies. Patroni looks at the catalog rows only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import NotAnsweringError, PostgresError
from pgherd.pgfiles import FAILOVER_SLOTS, write_atomically
from pgherd.pgquery import READ_BINARY, Connection
from pgherd.slot_settings import is_ignored
from pgherd.slot_state import (
    SlotState,
    has_slot,
    has_wal,
    install,
    knows_transactions,
    restart_of,
    slot_count,
    snapshot_name,
)
from pgherd.slots import copied_here, published_positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.model import Instance, Member
    from pgherd.pgfiles import Upstream
    from pgherd.postgres import Postgres
    from pgherd.slot_settings import PermanentSlot
    from pgherd.view import View

log = logging.getLogger(__name__)

# For connecting to the leader, and for each of its answers; a start waits for no more. Seconds.
ASK_SECONDS: Final = 1.0
# How often the leader is asked while a copy is not ready, and afterwards, seconds.
LOOK_SECONDS: Final = 2.0
READY_LOOK_SECONDS: Final = 10.0

# What PostgreSQL and YAML have for a setting that is on, and we write.
ON: Final = frozenset({"on", "true", "yes", "1"})

OF_LEADER: Final = """
SELECT pg_postmaster_start_time()::text AS started,
       (SELECT catalog_xmin::text::bigint FROM pg_replication_slots
         WHERE slot_name = %(own)s) AS protected,
       (SELECT json_object_agg(slot_name, json_build_object(
                   'database', database, 'plugin', plugin,
                   'catalog_xmin', catalog_xmin::text::bigint,
                   'restart', pg_wal_lsn_diff(restart_lsn, '0/0')::bigint))
          FROM pg_replication_slots
         WHERE slot_name = ANY(%(names)s) AND slot_type = 'logical' AND NOT temporary
           AND wal_status <> 'lost') AS slots
 WHERE NOT pg_is_in_recovery()
"""
HERE: Final = """
SELECT current_setting('hot_standby_feedback')::boolean AS feedback,
       current_setting('wal_level') AS wal_level,
       current_setting('max_replication_slots')::int AS places,
       (SELECT pid FROM pg_stat_wal_receiver) AS receiver
"""


def precedes_or_equals(one: int, other: int) -> bool:
    """Tell whether the transaction *one* is not later than *other*; their numbers wrap around."""
    return (other - one) % (1 << 32) < 1 << 31


class SlotCopies:
    """One standby's copies.

    :ivar left: copies that were not ready when this member was promoted.
    """

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._wanted: Mapping[str, PermanentSlot] = {}
        self._leader: Member | None = None
        self._term = 0
        self._started: str | None = None
        self._leader_started = ""
        self._is_interrupted = False
        self._beginnings = 0
        self._is_recalled = False
        self._written = ""
        self._is_protected = False
        self._needed: dict[str, int] = {}
        self._ready: set[str] = set()
        self._gone: set[str] = set()
        self._absent: set[str] = set()
        self._tried: set[str] = set()
        self._next_look = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._complaint = ""
        self.left: set[str] = set()
        self._doomed: set[str] = set()

    @property
    def ready(self) -> frozenset[str]:
        """The copies with which this standby may be promoted."""
        return frozenset(self._ready)

    @property
    def due(self) -> tuple[str, ...]:
        """The leader's slots that a restart of this standby would give it."""
        return tuple(sorted(self._absent - self._tried))

    # What is known

    def note(self, view: View) -> None:
        """Take in one view."""
        leader, instance = view.other_leader, view.instance
        wanted = copied_here(view)
        self._wanted = wanted if wanted and self._server.files.major < FAILOVER_SLOTS else {}
        self._leader = leader if view.store_answers and leader and leader.host else None
        self.left.intersection_update(slot.name for slot in view.settings.permanent_slots)
        term = view.leader.create_revision if view.leader else 0
        if leader is not None and term != self._term:
            # Who leads now may have removed what its predecessor kept for us.
            self._term = term
            self._tried.clear()
            self.left.clear()
            self._doomed.clear()
            self._forget()
        if instance.is_standby and instance.started_at != self._started:
            self._started = instance.started_at
            self._forget()
        if instance.is_standby and leader is not None:
            # While it was away its slot may have been made anew, and kept nothing for a moment.
            # Not when it goes: it may be about to be promoted.
            if self._is_interrupted and instance.is_streaming:
                self._forget()
            self._is_interrupted = not instance.is_streaming
        self._ready &= instance.slots.keys() if instance.is_running else self._ready
        self._absent -= instance.slots.keys()
        self._absent &= self._wanted.keys()

    def _forget(self) -> None:
        self._beginnings += 1
        self._is_protected = False
        self._needed.clear()
        self._ready.clear()
        self._gone.clear()
        self._absent.clear()
        self._next_look = 0.0

    def look(self, view: View) -> None:
        """Have the leader asked, beside the loop, when it is time for that."""
        leader, instance = self._leader, view.instance
        if leader is None or not (self._wanted and instance.is_streaming):
            return
        if not leader.is_settled_primary:
            return
        is_asking = self._looking is not None and not self._looking.done()
        if is_asking or view.now < self._next_look or instance.upstream != leader.address:
            return
        are_ready = self._wanted.keys() <= self._ready
        self._next_look = view.now + (READY_LOOK_SECONDS if are_ready else LOOK_SECONDS)
        self._looking = asyncio.create_task(self._look(view, leader))

    async def _look(self, view: View, leader: Member) -> None:
        beginnings = self._beginnings
        try:
            told = await self._ask(leader, view.instance.upstream_slot)
            [here] = await self._server.query(HERE)
            if beginnings == self._beginnings:
                self._weigh(view.instance, told)
                if told["protected"] is not None:
                    self._remember(told["started"], here["receiver"])
                self._find_absent(view.instance, told["slots"] or {}, here)
                await self._drop_gone(view, told["slots"] or {})
        except (PostgresError, OSError) as error:
            self._complain(f"the leader's logical slots are not known: {error}")

    async def _ask(self, leader: Member, own: str) -> dict[str, Any]:
        connection = Connection(self._server.remote_conninfo(leader), ASK_SECONDS)
        try:
            rows = await connection.query(OF_LEADER, {"own": own, "names": list(self._wanted)})
        finally:
            await connection.close()
        if not rows:
            raise NotAnsweringError(f"{leader.name} is not a primary yet")
        return rows[0]

    def _weigh(self, instance: Instance, told: Mapping[str, Any]) -> None:
        """Find out which copies are ready.

        :param instance: as it was before the leader has told: copies only move forward.
        """
        protected, slots = told["protected"], told["slots"] or {}
        if told["started"] != self._leader_started or protected is None:
            # Whether it has kept anything for us all the time is not known.
            self._leader_started = told["started"]
            self._needed.clear()
            self._ready.clear()
            self._is_protected = False
        for name in self._wanted:
            if name not in slots:
                self._needed.pop(name, None)
                self._ready.discard(name)
            elif self._is_protected:
                # Told after it was seen to keep what we need: it cannot have removed more before.
                self._needed.setdefault(name, slots[name]["catalog_xmin"])
        self._is_protected = protected is not None
        for name in sorted(self._needed.keys() - self._ready):
            if self._is_ready(instance, name, protected):
                self._ready.add(name)
                log.info("slot %s: subscribers could go on from the copy here", name)

    def _remember(self, leader_started: str, receiver: int) -> None:
        """Write down what is ready for the agent after us, and take over what the one before knew.

        That still holds while both servers and the stream between them are the same.
        """
        path = self._server.config.runtime_dir / f"{self._server.config.scope}.slots"
        proof = [self._term, leader_started, self._started, receiver]
        if not self._is_recalled:
            self._is_recalled = True
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                known = json.loads(path.read_text(encoding="utf-8"))
                if known["proof"] == proof:
                    self._ready |= self._wanted.keys() & set(known["ready"])
        text = json.dumps({"proof": proof, "ready": sorted(self._ready)})
        if text != self._written:
            write_atomically(path, text)
            self._written = text

    def _is_ready(self, instance: Instance, name: str, protected: int) -> bool:
        slot = instance.slots.get(name)
        if slot is None or not _is_copy(slot, self._wanted[name]):
            return False
        keeps = slot.get("catalog_xmin")
        has_rows = keeps is not None and all(
            precedes_or_equals(each, keeps) for each in (protected, self._needed[name])
        )
        is_behind = (slot.get("confirmed") or 0) <= (instance.replayed or 0)
        restart = slot.get("restart") or 0
        return has_rows and is_behind and knows_transactions(self._server.data_dir, restart)

    def _find_absent(
        self, instance: Instance, slots: Mapping[str, Any], here: Mapping[str, Any]
    ) -> None:
        """Find out which of the leader's slots a restart would give us."""
        self._absent.clear()
        absent = [
            name
            for name, slot in self._wanted.items()
            if name in slots
            and name not in instance.slots
            and (slots[name]["database"], slots[name]["plugin"]) == (slot.database, slot.plugin)
        ]
        if not absent:
            return
        obstacle = ""
        if not here["feedback"]:
            obstacle = "hot_standby_feedback is off: the leader would not keep what they need"
        elif here["wal_level"] != "logical":
            obstacle = "wal_level is not logical"
        elif len(instance.slots) + len(absent) > here["places"]:
            obstacle = "max_replication_slots is too low"
        for name in absent if not obstacle else ():
            start = slots[name]["restart"] or 0
            if has_wal(self._server.data_dir, start, instance.replayed or 0):
                self._absent.add(name)
            else:
                obstacle = "WAL that they need is not here: that changes as subscribers move on"
        if obstacle:
            self._complain(f"{', '.join(sorted(absent))} cannot be copied: {obstacle}")

    async def _drop_gone(self, view: View, slots: Mapping[str, Any]) -> None:
        """Drop copies of what the leader does not have: they would only hold WAL and rows."""
        have = view.instance.slots
        gone = {name for name, slot in self._wanted.items()
                if name not in slots and name in have and _is_copy(have[name], slot)}  # fmt: skip
        for name in sorted(gone & self._gone) if not view.settings.pause else ():
            await self._server.slots.drop(name)
            log.warning("slot %s is dropped: the leader does not have it", name)
        self._gone = gone

    def _complain(self, text: str) -> None:
        """Say once what is wrong, not each time."""
        if self._complaint != text:
            self._complaint = text
            log.warning("logical slots: %s", text)

    # Copying

    async def before_start(self, upstream: Upstream | None, settings: Mapping[str, Any]) -> None:
        """Give the stopped standby the slots of the leader that it lacks; never raises.

        :param upstream: what it will stream from.
        :param settings: with which it will be started.
        """
        leader, data_dir = self._leader, self._server.data_dir
        self._tried |= self._absent
        if self._server.postmaster() is not None:
            return
        wanted = [name for name in self._wanted if not has_slot(data_dir, name)]
        has_feedback = str(settings.get("hot_standby_feedback")).lower() in ON
        may_copy = settings.get("wal_level") == "logical" and has_feedback
        address = upstream.address if upstream is not None else None
        if not (wanted and may_copy) or leader is None or leader.address != address:
            return
        try:
            control = await self._server.programs.control(data_dir)
            places = int(settings["max_replication_slots"]) - slot_count(data_dir)
            for state in (await self._fetch(leader, wanted))[: max(0, places)]:
                if has_wal(data_dir, state.restart, control.checkpoint):
                    install(data_dir, state)
                    log.info("slot %s is copied from %s", state.name, leader.name)
                else:
                    log.warning("slot %s is not copied: WAL it needs is not here", state.name)
        except (PostgresError, OSError, ValueError) as error:
            log.warning("logical slots are not copied from %s: %s", leader.name, error)

    async def _fetch(self, leader: Member, names: list[str]) -> list[SlotState]:
        """Read the state of the leader's slots, as it would find them itself after a crash."""
        connection = Connection(self._server.remote_conninfo(leader), ASK_SECONDS)
        found = []
        try:
            rows = await connection.query(OF_LEADER, {"own": "", "names": names})
            slots = rows[0]["slots"] or {} if rows else {}
            for name in sorted(slots):
                spec = self._wanted[name]
                if (slots[name]["database"], slots[name]["plugin"]) != (spec.database, spec.plugin):
                    continue
                [row] = await connection.query(READ_BINARY, [f"pg_replslot/{name}/state"])
                state = bytes(row["content"] or b"")
                restart = restart_of(name, state)
                [row] = await connection.query(READ_BINARY, [snapshot_name(restart)])
                found.append(SlotState(name, restart, state, row["content"]))
        finally:
            await connection.close()
        return found

    # Promotion

    async def before_promotion(self, view: View) -> None:
        """Drop copies that are not ready; never raises.

        Over them a subscriber would go on, without something that nobody would notice: it had
        better fail.
        """
        if self._server.files.major >= FAILOVER_SLOTS:
            return
        told = published_positions(view)
        for slot in view.settings.permanent_slots:
            have = view.instance.slots.get(slot.name)
            if have is None or not _is_copy(have, slot):
                continue
            if is_ignored(view.settings.ignore_slots, slot.name, have):
                continue
            if slot.name not in self._ready:
                await self._leave(slot.name, "the copy here was not ready yet")
            elif told.get(slot.name, 0) > view.instance.position:
                await self._leave(slot.name, "its subscriber has more than this member")

    async def _leave(self, name: str, why: str) -> None:
        log.error("slot %s is left behind by this promotion: %s; its subscriber must begin anew",
                  name, why)  # fmt: skip
        self.left.add(name)
        self._doomed.add(name)
        await self.drop_left()

    async def drop_left(self) -> None:
        """Drop what was left behind, if that has not been possible yet; never raises."""
        for name in sorted(self._doomed):
            try:
                await self._server.slots.take_from_agent(name)
                await self._server.slots.drop(name)
            except PostgresError as error:
                self._complain(f"{name} could not be dropped: {error}")
            else:
                self._doomed.discard(name)


def _is_copy(have: Mapping[str, Any], slot: PermanentSlot) -> bool:
    wanted = ("logical", slot.database, slot.plugin)
    found = (have.get("type"), have.get("database"), have.get("plugin"))
    return slot.is_logical and found == wanted and have.get("wal_status") != "lost"
