# SPDX-License-Identifier: GPL-3.0-or-later
"""The network between hosts: delay, loss, cuts of one direction or both, late deliveries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.tests.sim.world import World

# What flows between hosts: etcd's clients, etcd's members, the REST API, PostgreSQL.
CHANNELS: Final = ("etcd", "raft", "api", "wal")
Way = tuple[str, str, str]

# A lost segment is sent again this much later at first (Linux: TCP_RTO_MIN), seconds.
RETRANSMISSION: Final = 0.2
# Of what is sent into a cut, this share is still delivered when the cut has healed.
LATE_SHARE: Final = 0.3


class Network:
    """Ways are (from, to, channel); what is cut is cut as often as `cut` was called."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cuts: Counter[Way] = Counter()
        self._held: dict[Way, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        self._listeners: list[Callable[[], None]] = []
        self.loss = 0.0
        self.delay = 0.0

    def on_change(self, call: Callable[[], None]) -> None:
        """Have *call* called after every cut and every healing."""
        self._listeners.append(call)

    def is_open(self, source: str, target: str, channel: str) -> bool:
        """Tell whether what is sent now arrives."""
        return source == target or not self._cuts[source, target, channel]

    def connects(self, one: str, other: str, channel: str) -> bool:
        """Tell whether both directions are open."""
        return self.is_open(one, other, channel) and self.is_open(other, one, channel)

    def cut(self, ways: Iterable[Way]) -> None:
        """Let nothing through *ways* any more."""
        self._cuts.update(ways)
        self._announce()

    def heal(self, ways: Iterable[Way]) -> None:
        """Take one cut of *ways* back; some of what was held up arrives late."""
        healed = list(ways)
        self._cuts.subtract(healed)
        for way in healed:
            if not self._cuts[way]:
                for call, arguments in self._held.pop(way, ()):
                    self._world.after(self.latency(), call, *arguments)
        self._announce()

    def _announce(self) -> None:
        for listener in self._listeners:
            listener()

    def latency(self) -> float:
        """Return how long one message takes, seconds."""
        noise = self._world.noise
        delay = 0.0002 + 0.001 * noise.random() + self.delay * noise.random()
        if self.loss:
            again = RETRANSMISSION
            while noise.random() < self.loss:
                delay += again
                again *= 2
        return delay

    def send(
        self, source: str, target: str, channel: str, call: Callable[..., None], *arguments: Any
    ) -> None:
        """Deliver a message, late, or never."""
        if source == target:
            self._world.after(0.0001, call, *arguments)
        elif not self._cuts[source, target, channel]:
            self._world.after(self.latency(), call, *arguments)
        elif self._world.noise.random() < LATE_SHARE:
            self._held.setdefault((source, target, channel), []).append((call, arguments))
