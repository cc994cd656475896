# SPDX-License-Identifier: GPL-3.0-or-later
"""Failsafe mode: a leader that etcd does not hear asks the members to wait for it.

Patroni asks all of them, so one dead member costs the lead (its issues 2625 and 3096). Here a
majority is enough: an acceptance is a promise not to elect anybody else for the length of a lease,
and in failsafe mode an election needs the answers of a majority too, so it meets a promise.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from pgherd.model import Member
from pgherd.pgfiles import slot_name
from pgherd.slots import positions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.config import Config
    from pgherd.effects import Clock, Peers
    from pgherd.model import Cluster
    from pgherd.view import View


# Whoever an agent before us may have promised something.
SOMEBODY: Final = "somebody"
# Slots that take more room are left out: a request must not be refused for its length.
SLOTS_BYTES: Final = 8192
# After a request that took long the next one follows this soon.
RETRY_SECONDS: Final = 0.1


class Failsafe:
    """Both sides of the promise.

    :param on_promise: called with the new `until` when a majority has promised.
    :ivar until: as a leader, until when the majority waits for us (CLOCK_BOOTTIME seconds); counted
        from before they were asked, less the margin of a lease.
    """

    def __init__(
        self,
        config: Config,
        peers: Peers,
        clock: Clock,
        on_promise: Callable[[float], None] = lambda until: None,
    ) -> None:
        self._on_promise = on_promise
        self._cluster: Cluster | None = None
        self._attended = asyncio.Event()
        self._config = config
        self._peers = peers
        self._clock = clock
        self.until = 0.0
        # What the agent before us has promised is not known: as if it had promised just now.
        self._promised: tuple[str, float] = (SOMEBODY, clock() + config.timing.lease_ttl)
        self._leader: Member | None = None
        self._written: Mapping[str, str] = {}
        self._slots: Mapping[str, int] = {}
        self._told: Mapping[str, int] = {}

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    def attend(
        self,
        cluster: Cluster | None,
        written: Mapping[str, str] | None = None,
        slots: Mapping[str, int] | None = None,
    ) -> None:
        """Ask for promises from now on, as the leader of *cluster*, the last that etcd told.

        :param cluster: None while etcd answers, or there is nothing to lose.
        :param written: the members we wrote last as leader; etcd may have them, or those it told.
        :param slots: how far the users of our slots are; the members' copies follow (R38).
        """
        self._written = written or {}
        self._slots = slots or {}
        leader = cluster.leader if cluster is not None else None
        led = leader is not None and leader.name == self._config.name
        if cluster is not None and led and cluster.settings.failsafe_mode:
            self._cluster = cluster
            self._attended.set()
        else:
            self._attended.clear()

    async def run(self) -> None:
        """Renew the promises, as often as a lease, while there is need; until cancelled.

        Not in the loop's rounds: with etcd silent those take long.
        """
        while True:
            await self._attended.wait()
            assert self._cluster is not None
            sent = self._clock()
            await self.ask(self._cluster)
            pause = self._config.timing.keepalive_interval - (self._clock() - sent)
            await asyncio.sleep(max(RETRY_SECONDS, pause))

    async def ask(self, cluster: Cluster, *, standing: bool = False) -> None:
        """Ask the members of *cluster* once.

        :param standing: as a candidate, who does not lead yet.
        """
        timing = self._config.timing
        name = self._config.name
        if not cluster.failsafe and not standing:
            return  # Whom to ask is what etcd has confirmed, and it has not.
        electorates = [each for each in (cluster.failsafe, self._written) if each]
        urls = {member: url for each in electorates for member, url in each.items()}
        others = {each: Member(each, {"api_url": url}) for each, url in urls.items()}
        others.pop(name, None)
        body = {"name": name, "conn_url": self._config.conn_url, "api_url": self._config.api_url}
        extra: dict[str, Any] = {"standing": "yes"} if standing else {}
        if self._slots and not standing and len(json.dumps(self._slots)) < SLOTS_BYTES:
            extra = {"slots": self._slots}
        sent = self._clock()
        answers = await self._peers.request_promises(others, body | extra, timing.peer_timeout)
        self._told = {slot_name(member): position for member, position in answers.items()}
        # Ourselves counted, whether or not the key already names us.
        accepted = {*answers, name}
        if all(2 * len(accepted & {*each, name}) > len({*each, name}) for each in electorates):
            self.until = sent + timing.lease_ttl - timing.margin
            self._on_promise(self.until)

    def promise(
        self, view: View, leader: str, conn_url: str = "", slots: Any = None
    ) -> tuple[int, str]:
        """Answer *leader*'s request for a promise (`POST /failsafe`) with Patroni's words.

        :param conn_url: where its PostgreSQL is to be streamed from; empty for a candidate.
        :param slots: how far the users of its slots are, by name, as it has sent them.
        :return: HTTP status and text.
        """
        cluster, now = view.cluster, self._clock()
        if cluster is None or not cluster.settings.failsafe_mode:
            return 502, "Failsafe mode is not enabled."
        if view.instance.is_primary or view.holds_key:
            return 500, "Running as a leader"
        if leader not in cluster.failsafe:
            return 403, f"{leader} is not a member of this cluster"
        other = view.other_leader if view.store_answers else None
        if other is not None and other.name != leader:
            return 409, f"{other.name} leads"
        promised = self.promised_to(now)
        known = {view.sync.leader if view.sync else None, view.leader.name if view.leader else None}
        if promised == SOMEBODY and leader not in known:
            # The agent before us may have promised the leader that somebody wants to succeed.
            return 409, "what was promised before this agent was started is not known"
        if promised not in (None, SOMEBODY, leader):
            return 409, f"promised to {promised}"
        self._promise_to(leader)
        self._leader = Member(leader, {"conn_url": conn_url}) if conn_url else None
        self._told = positions(slots)
        return 200, "Accepted"

    async def stand(self, cluster: Cluster) -> bool:
        """As a candidate, have a majority promise itself to us; tell whether it did.

        To see that nobody has promised anything is not enough: a leader without etcd may ask for
        its promises a moment later. Whoever has promised us refuses it, and the other way round.
        """
        name = self._config.name
        if self.promised_to(self._clock()) not in (None, name):
            return False
        self._promise_to(name)
        self._leader = None
        self._told = {}
        before = self.until
        await self.ask(cluster, standing=True)
        return self.until > before

    def _promise_to(self, leader: str) -> None:
        self._promised = (leader, self._clock() + self._config.timing.lease_ttl)

    def promised_to(self, now: float) -> str | None:
        """Return the leader that holds a promise of ours at *now*, None when there is none."""
        leader, until = self._promised
        return leader if now < until else None

    def promised_leader(self, now: float) -> Member | None:
        """Return the leader, with where to stream from, that holds a promise of ours at *now*."""
        return self._leader if self.promised_to(now) is not None else None

    def told(self, now: float) -> Mapping[str, int]:
        """Return how far the users of slots are, by the request or the answers good at *now*."""
        return self._told if now < self.until or self.promised_to(now) is not None else {}
