# SPDX-License-Identifier: GPL-3.0-or-later
"""Pausing the poolers of the whole cluster around something that clients shall not notice."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.model import Member
    from pgherd.view import View

log = logging.getLogger(__name__)

# Clients wait from here on: transactions under way have so long to end. They take milliseconds, but
# on a host that is overloaded; it is better to wait for them there than to end them. Seconds.
PAUSE_SECONDS: Final = 2.0
# A host that does not answer by then is left out, and its clients see errors, seconds.
NETWORK_SECONDS: Final = 0.5


def members_with_pooler(view: View) -> dict[str, Member]:
    """Return the other members on whose hosts there is a pooler that follows the leader."""
    members = view.cluster.members if view.cluster else {}
    return {
        name: member
        for name, member in members.items()
        if name != view.me and member.api_url and member.ours.get("pooler") is True
    }


class PoolerPause:
    """One pause of all poolers.

    :param operation: what it is for.
    :ivar is_left: it ends when there is a leader again; `end` does nothing any more.
    """

    def __init__(self, loop: Loop, operation: str) -> None:
        self._loop = loop
        self._operation = operation
        self._others: Mapping[str, Member] = {}
        self._began = False
        self.is_left = False

    @property
    def has_poolers(self) -> bool:
        return self._loop.pooling.has_rw or bool(members_with_pooler(self._loop.view))

    async def begin(self) -> dict[str, str]:
        """Pause them all at once; return which pauses are not complete, and why."""
        self._others = members_with_pooler(self._loop.view)
        self._began = True
        body = {"action": "pause", "operation": self._operation, "within": PAUSE_SECONDS}
        own, others = await asyncio.gather(
            self._own_pause(), self._tell(body, PAUSE_SECONDS + NETWORK_SECONDS)
        )
        problems = {name: why for name, why in {**own, **others}.items() if why}
        for name, why in problems.items():
            log.warning("%s: the pooler of %s is not at rest: %s", self._operation, name, why)
        return problems

    async def _own_pause(self) -> dict[str, str]:
        pooling = self._loop.pooling
        if not pooling.has_rw:
            return {}
        return {self._loop.config.name: await pooling.pause(self._operation, PAUSE_SECONDS)}

    async def _tell(self, body: Mapping[str, Any], within: float) -> dict[str, str]:
        if not self._others:
            return {}
        return await self._loop.effects.peers.tell_poolers(self._others, body, within)

    async def end(self) -> None:
        """Resume them all, unless that is left to the next leader."""
        if not self._began or self.is_left:
            return
        self._began = False
        body = {"action": "resume", "operation": self._operation}
        own, others = await asyncio.gather(
            self._loop.pooling.resume(self._operation), self._tell(body, NETWORK_SECONDS)
        )
        for name, why in {self._loop.config.name: own, **others}.items():
            if why:
                log.warning("%s: the pooler of %s resumes later: %s", self._operation, name, why)
