# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing the lead over: what the leader does from the request to the moment its key is gone.

Nothing here waits for a time to pass, and nothing waits without a bound. As soon as the control
file says that PostgreSQL is shut down no commit can be made any more, so the lead changes hands
then; the archiver and walsenders of the old primary, which may take long, end in their own time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PgherdError, StoreError
from pgherd.ledger import Entry, find
from pgherd.long_transactions import (
    describe,
    end_transactions,
    long_transactions,
    outlast,
    patience,
)
from pgherd.model import SyncKey
from pgherd.pooler_pause import PoolerPause
from pgherd.quorum import succeed
from pgherd.rejoin import rejoin
from pgherd.rules.handover import heirs
from pgherd.rules.successors import free_timeline, others_can_lead
from pgherd.timestamps import iso
from pgherd.waiting import until

if TYPE_CHECKING:
    from pgherd.handover import Handover
    from pgherd.loop import Loop
    from pgherd.model import Cluster, Member
    from pgherd.view import View

log = logging.getLogger(__name__)

# The checkpoint before the stop is written while clients go on; it may take its time. Seconds.
CHECKPOINT_SECONDS: Final = 600.0
# Clients wait from here on. What is not shut down by then is stopped immediately: where standbys
# have every commit one of them is elected at once, else this primary has to recover. Seconds.
SHUTDOWN_SECONDS: Final = 5.0
SHUTDOWN_ALONE_SECONDS: Final = 60.0
# The heir has been streaming: what it lacks is on its way. Seconds.
CATCH_UP_SECONDS: Final = 5.0
ASK_SECONDS: Final = 0.02
# The archiver of the old primary may be busy for so long before it is stopped. Seconds.
ARCHIVER_SECONDS: Final = 120.0
# In maintenance mode nothing but this operation brings the old primary back. Seconds.
REJOIN_SECONDS: Final = 30.0


class HandoverError(PgherdError):
    """The lead could not be handed over; the message says why."""


class Switchover:
    """Hands the lead of *loop*'s member over.

    :ivar failures: why a request came to nothing, by its id; the rules end it then.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.failures: dict[str, str] = {}

    def failure(self, cluster: Cluster | None) -> str | None:
        """Return why the request in *cluster* came to nothing here, None when it did not."""
        request = cluster.handover if cluster else None
        return self.failures.get(request.id) if request else None

    async def run(self, request: Handover, heir: Member) -> None:
        """Leave the lead to *heir*.

        :raises PgherdError: it was called off; PostgreSQL may be stopped, the key still ours.
        """
        log.info("handing over to %s, as asked (%s)", heir.name, request.id)
        pause = PoolerPause(self._loop, request.id)
        try:
            await self._note_begin(request)
            await self._prepare(request, heir)
            await self._quieten(request, heir, pause)
            # Whatever becomes of it, clients go on when there is a leader again.
            pause.is_left = True
            await self._hand_over(request, heir)
        except PgherdError as error:
            self.failures = {request.id: str(error)}
            raise
        finally:
            await pause.end()
        await self._end_in_peace()

    async def _note_begin(self, request: Handover) -> None:
        cluster = self._loop.view.cluster
        if cluster is None:
            return
        known = find(cluster.ledger, request.id)
        entry = replace(known, state="running") if known else new_entry(request, time.time())
        if known != entry:
            await self._loop.effects.store.note(cluster, entry)

    async def _prepare(self, request: Handover, heir: Member) -> None:
        """Write out what is dirty, so that the stop is short; then look once more."""
        await self._loop.effects.postgres.checkpoint(CHECKPOINT_SECONDS)
        self._check(request, heir)

    def _check(self, request: Handover, heir: Member) -> None:
        view = self._loop.view
        if not self._is_wanted(request):
            raise HandoverError("it was called off")
        if heir.name not in [member.name for member in heirs(view, request)]:
            raise HandoverError(f"{heir.name} cannot take over any more")

    def _is_wanted(self, request: Handover) -> bool:
        known = self._loop.view.handover
        return known is not None and known.id == request.id

    async def _quieten(self, request: Handover, heir: Member, pause: PoolerPause) -> None:
        """Have the poolers hold their clients back, with no transaction under way.

        Long transactions are waited for before, while all others go on.

        :raises HandoverError: there are some, and they are not to be ended.
        """
        clock, postgres = self._loop.effects.clock, self._loop.effects.postgres
        within = patience(request, has_poolers=pause.has_poolers)
        deadline = clock() + within
        while True:
            rows = await self._outlast(request, heir, deadline - clock()) if within else []
            if rows and request.transactions != "cancel":
                raise HandoverError(f"transactions are under way: {describe(rows)}")
            if rows:
                # Before the pause, which would wait for them.
                log.warning("ending transactions: %s", describe(rows))
                await end_transactions(postgres, rows)
            late = []
            if pause.has_poolers and await pause.begin():
                late = await long_transactions(postgres)
            if not late or request.transactions == "cancel":
                break
            await pause.end()
            if clock() >= deadline:
                raise HandoverError(f"transactions are under way: {describe(late)}")
        if late:
            log.warning("ending transactions: %s", describe(late))
        if rows or late:
            await self._note_ended(request, len(rows) + len(late))

    async def _outlast(
        self, request: Handover, heir: Member, within: float
    ) -> list[dict[str, Any]]:
        """Wait until no transaction is old; return those that are after so many seconds."""
        postgres, clock = self._loop.effects.postgres, self._loop.effects.clock
        began = clock()
        rows = await outlast(postgres, within, lambda: self._is_wanted(request))
        if clock() - began > SHUTDOWN_SECONDS:
            # Much may have been written meanwhile.
            await self._prepare(request, heir)
        else:
            self._check(request, heir)
        return rows

    async def _note_ended(self, request: Handover, number: int) -> None:
        """Write down how many transactions are ended, for whoever asks what came of it."""
        store = self._loop.effects.store
        cluster = await store.load()
        known = find(cluster.ledger, request.id)
        if known is not None:
            details = {**known.details, "transactions_ended": number}
            await store.note(cluster, replace(known, details=details))

    async def _hand_over(self, request: Handover, heir: Member) -> None:
        postgres = self._loop.effects.postgres
        try:
            is_spared = others_can_lead(self._loop.view)
            limit = SHUTDOWN_SECONDS if is_spared else SHUTDOWN_ALONE_SECONDS
            position = await postgres.shut_down(limit)
        except PgherdError:
            await postgres.stop_now()
            raise
        try:
            await until(lambda: self._has(heir, position), every=ASK_SECONDS,
                        within=CATCH_UP_SECONDS)  # fmt: skip
        except TimeoutError as error:
            raise HandoverError(
                f"{heir.name} has not received the last WAL within {CATCH_UP_SECONDS} s"
            ) from error
        await self._give_key(heir, position)

    async def _has(self, heir: Member, position: int) -> bool:
        within = self._loop.config.timing.peer_timeout
        answers = await self._loop.effects.peers.ask({heir.name: heir}, within)
        return heir.name in answers and answers[heir.name].position > position

    async def _give_key(self, heir: Member, position: int) -> None:
        loop = self._loop
        store, keeper, view = loop.effects.store, loop.effects.keeper, loop.view
        cluster = await store.load()
        key = cluster.leader
        if key is None or keeper.lease is None or key.lease != keeper.lease.id:
            raise HandoverError("the leader key is not ours any more")
        status = {
            **cluster.status,
            "optime": position,
            "heir": {"name": heir.name, "position": position},
        }
        sync = _inheritance(replace(view, cluster=cluster), heir.name)
        try:
            given = await store.hand_over(key, status, sync, cluster.sync_revision)
        except StoreError as error:
            # The request may still be under way, and delete a key that we go on with.
            keeper.abandon()
            raise HandoverError(f"whether the key is given away is not known: {error}") from error
        if not given:
            raise HandoverError("the leader key, or who may be elected, has changed meanwhile")
        log.info("the lead is left to %s", heir.name)
        # If it does not take it, somebody else shall have a go before we do.
        loop.tracker.held_back_until = loop.effects.clock() + loop.config.timing.lease_ttl

    async def _end_in_peace(self) -> None:
        """Let the old primary's archiver finish; in maintenance mode bring it back as well."""
        loop, postgres = self._loop, self._loop.effects.postgres
        loop.wake.set()
        if not await postgres.ended(ARCHIVER_SECONDS):
            log.warning("the old primary is still archiving: it is stopped all the same")
            await postgres.stop_now()
        if loop.view.settings.pause and await loop.changed(_has_settled_leader, REJOIN_SECONDS):
            leader = loop.view.other_leader
            assert leader is not None
            upstream = loop.view.upstream
            use_rewind = loop.view.settings.use_pg_rewind
            await rejoin(postgres, leader, upstream, use_rewind, REJOIN_SECONDS)

    async def end(self, view: View, request: Handover, state: str, result: str) -> None:
        """Clear *request* as leader and write down how it ended."""
        if view.cluster is None or view.leader is None:
            return
        now = time.time()
        known = find(view.cluster.ledger, request.id) or new_entry(request, now)
        entry = known.ended(state, result, iso(now))
        paused = self._loop.pooling.paused_seconds(request.id)
        if paused is not None:
            entry = replace(entry, details={**entry.details, "paused_seconds": paused})
        try:
            if await self._loop.effects.store.end_handover(view.leader, view.cluster, entry):
                log.info("%s %s: %s", request.kind, request.id, result)
        except StoreError as error:
            log.warning("the end of a %s could not be written: %s", request.kind, error)
        self._loop.wake.set()


def new_entry(request: Handover, at: float) -> Entry:
    """Return the ledger's entry for a request that somebody else wrote, Patroni for example."""
    return Entry(
        id=request.id,
        kind=request.kind,
        leader=request.leader,
        candidate=request.candidate,
        requested_at=iso(at),
        scheduled_at=iso(request.at) if request.at is not None else None,
    )


def _inheritance(view: View, heir: str) -> SyncKey | None:
    """Return `/sync` with *heir* as leader, who has all we have; None without such a key."""
    if view.sync is None:
        return None
    _, electing = succeed(view.sync.electing, view.sync.leader, heir)
    return SyncKey(heir, electing, timeline=free_timeline(view))


def _has_settled_leader(view: View) -> bool:
    return view.other_leader is not None and view.other_leader.is_settled_primary
