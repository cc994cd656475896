# SPDX-License-Identifier: GPL-3.0-or-later
"""Which standbys logical subscribers of the local instance may not get ahead of."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pgherd.errors import PostgresError
from pgherd.pgfiles import FAILOVER_SLOTS, slot_name
from pgherd.quorum import parse_names
from pgherd.slots import waited_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgherd.model import Instance
    from pgherd.pgfiles import Files
    from pgherd.slot_statements import SlotStatements

log = logging.getLogger(__name__)


class Pacing:
    """Keeps `synchronized_standby_slots` fitting `synchronous_standby_names` (see `pgherd.slots`).

    The two stand in one file and come into force by one reload.
    """

    def __init__(self, files: Files, slots: SlotStatements) -> None:
        self._files = files
        self._slots = slots
        self._names = ""
        self._streaming: tuple[str, ...] = ()
        self._anybody: tuple[str, ...] = ()

    def adopt(self, instance: Instance) -> None:
        """Go on with what the running instance was told before this agent was started."""
        self._names = instance.sync_names
        self._files.subscribers_wait_for = tuple(sorted(instance.subscribers_wait_for or ()))

    async def see(self, streaming: Sequence[str], anybody: Sequence[str]) -> bool:
        """Take in who streams; tell whether the files have to be written for that.

        :param streaming: members that stream and move, best first.
        :param anybody: those that may lead, where commits wait for nobody.
        """
        before = self._files.subscribers_wait_for
        self._streaming, self._anybody = tuple(streaming), tuple(anybody)
        await self.choose(self._names)
        return self._files.subscribers_wait_for != before

    async def choose(self, names: str, *, is_running: bool = True) -> None:
        """Choose whom subscribers wait for while commits wait for *names*.

        A slot that is not there is made first: a backend refuses a setting that names it, and
        would keep to the old one.
        """
        self._names = names
        chosen = waited_for(
            parse_names(names), self._streaming, anybody_may_lead=() if names else self._anybody
        )
        self._files.subscribers_wait_for = tuple(slot_name(name) for name in chosen)
        if not chosen or not is_running or self._files.major < FAILOVER_SLOTS:
            return
        try:
            await self._slots.ensure(chosen, {})
        except PostgresError as error:
            log.warning("slots that subscribers wait for could not be made: %s", error)
