# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping our etcd lease alive, and knowing how long it is good for.

Validity is counted from *before* a renewal was sent: etcd counts from when it received it, so ours
always ends first. A margin on top leaves time to kill PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from pgherd.clock import boot_id
from pgherd.errors import LeaseLostError, StoreError
from pgherd.model import Lease
from pgherd.pgfiles import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgherd.config import Timing
    from pgherd.effects import Clock
    from pgherd.etcd import Etcd

log = logging.getLogger(__name__)

# After a failed renewal the next try follows this soon: the lease is running out.
RETRY_SECONDS: Final = 0.1


@dataclass(frozen=True)
class _Saved:
    """What the next agent process needs to go on with this lease."""

    lease: int
    valid_until: float
    ttl: int
    boot_id: str


class LeaseKeeper:
    """Grants, renews and remembers the agent's lease.

    :param path: where the lease is kept for the agent's successor after a restart.
    :param on_change: called when the lease was gained or lost.
    :param prefix: that of all keys that may hang on the lease.
    """

    def __init__(
        self,
        etcd: Etcd,
        timing: Timing,
        clock: Clock,
        path: Path,
        on_change: Callable[[], None],
        *,
        prefix: str = "/",
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._timing = timing
        self._clock = clock
        self._path = path
        self._on_change = on_change
        self._ttl = self._other_ttl = timing.lease_ttl
        self._renewed: Callable[[float], None] = lambda deadline: None
        self._answered = True
        self._is_given_back = False
        self.lease: Lease | None = None
        self.renewals = 0

    def on_renewal(self, callback: Callable[[float], None]) -> None:
        """Have *callback* called with the new deadline after every renewal."""
        self._renewed = callback

    def retime(self, timing: Timing) -> None:
        """Use other timings; a changed ttl takes effect with the next lease."""
        self._timing = timing

    @property
    def needs_other_ttl(self) -> bool:
        """Whether the lease we have was granted with another ttl than is wanted now."""
        return self.lease is not None and self._ttl != self._timing.lease_ttl

    def adopt(self) -> None:
        """Take over the lease of the agent process before us, if it was of this boot."""
        try:
            saved = _Saved(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return
        if saved.boot_id == boot_id():
            self._ttl = saved.ttl
            self.lease = Lease(saved.lease, saved.valid_until)
            log.info("going on with lease %x of the agent before", saved.lease)

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            started = self._clock()
            good = await self.renew()
            interval = self._timing.keepalive_interval if good else RETRY_SECONDS
            await asyncio.sleep(max(0.0, started + interval - self._clock()))

    async def renew(self) -> bool:
        """Renew the lease once, or get one; tell whether we have one that is fresh."""
        if self._is_given_back:
            return True
        sent = self._clock()
        current = self.lease
        try:
            if current is None:
                await self._grant(sent)
            else:
                await self._etcd.lease_keepalive(current.id)
                if self.lease is current:
                    self._extend(current.id, sent)
        except LeaseLostError:
            await self._lose(current)
            return False
        except StoreError as error:
            self._note_silence(error)
            return False
        if not self._answered and self.lease is not None:
            log.info("the lease is renewed again")
        self._answered = True
        return True

    async def _lose(self, lost: Lease | None) -> None:
        """Let go of *lost* if nothing in etcd hangs on it any more.

        One member may be behind or confused, and what it says must not cost the leadership. A
        linearizable read is answered by a majority: while it finds a key of ours the lease lives,
        and while nobody answers it is renewed on (Patroni's issue 3314).
        """
        try:
            _, found = await self._etcd.range(self._prefix)
        except StoreError as error:
            self._note_silence(error)
            return
        if lost is not None and any(kv.lease == lost.id for kv in found):
            if self._answered:
                log.warning("an etcd member does not know our lease, on which there are keys")
            self._answered = False
            return
        log.warning("the lease was lost: etcd let it expire or somebody revoked it")
        if self.lease is lost:
            self.lease = None
        self._on_change()

    def _note_silence(self, error: StoreError) -> None:
        if self._answered:
            log.warning("the lease could not be renewed: %s", error)
        self._answered = False

    async def _grant(self, sent: float) -> None:
        self._ttl = self._timing.lease_ttl
        self._extend(await self._etcd.lease_grant(self._ttl), sent)
        self._on_change()

    def _extend(self, lease: int, sent: float) -> None:
        is_new = self.lease is None or self.lease.id != lease
        self.lease = Lease(lease, sent + self._ttl - self._timing.margin)
        self.renewals += 1
        self._renewed(self.lease.valid_until)
        if is_new:
            self._save()

    def _save(self) -> None:
        assert self.lease is not None
        # The deadline is that of the first renewal; a successor renews it before anything else.
        saved = _Saved(self.lease.id, self.lease.valid_until, self._ttl, boot_id())
        write_atomically(self._path, json.dumps(asdict(saved)))

    async def grant_other(self) -> Lease:
        """Get a lease with the ttl wanted now, beside the one we have.

        :raises StoreError: etcd refused or did not answer.
        """
        sent, timing = self._clock(), self._timing
        new = await self._etcd.lease_grant(timing.lease_ttl)
        # The configuration may be read again before the switch; what counts is what was granted.
        self._other_ttl = timing.lease_ttl
        return Lease(new, sent + timing.lease_ttl - timing.margin)

    def switch(self, new: Lease) -> Lease | None:
        """Go on with *new* from `grant_other`, the keys having moved to it; return the old one."""
        old, self.lease, self._ttl = self.lease, new, self._other_ttl
        self._renewed(new.valid_until)
        self._save()
        return old

    def save(self) -> None:
        """Write down the lease and its deadline for the agent process after us."""
        if self.lease is not None:
            self._save()

    def abandon(self) -> None:
        """Let the lease run out and get another one: what hangs on it must not count for us."""
        self.lease = None
        self._path.unlink(missing_ok=True)
        self._on_change()

    async def revoke(self) -> None:
        """Give the lease back and with it every key bound to it, the leader key too."""
        self._is_given_back = True
        lease, self.lease = self.lease, None
        self._path.unlink(missing_ok=True)
        if lease is not None:
            await self._etcd.lease_revoke(lease.id)
