# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants, checked when something happens that could break them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pgherd.etcd import Put
from pgherd.model import SyncKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.tests.sim.server import Server
    from agent.tests.sim.wal import Record
    from agent.tests.sim.world import World
    from pgherd.etcd import Delete, KeyValue

BASE: Final = "/service/demo/"
# What only the holder of the leader key may write.
FENCED: Final = frozenset(BASE + name for name in ("status", "history", "sync", "failsafe"))


class Checks:
    """Watches the servers and etcd.

    :param is_sync: acknowledged writes may never be lost.
    :param two_primaries: two servers may take writes, as long as one acknowledges none.
    """

    def __init__(self, world: World, *, is_sync: bool, two_primaries: bool = False) -> None:
        self._world = world
        self._is_sync = is_sync
        self._two_primaries = two_primaries
        self.servers: dict[str, Server] = {}
        self.acknowledged_writes = 0
        self.last: Record | None = None
        self.writes: list[Record] = []
        self._electorate: list[str] = []
        self._quorum = 0
        self._turns: dict[str, int] = {}
        self.primaries: list[str] = []

    def acknowledged(self, server: Server, record: Record) -> None:
        """A client is told that its write is done.

        The last write acknowledged anywhere must be in this server's history, or else two servers
        acknowledge side by side.
        """
        last = self.last
        self.acknowledged_writes += 1
        self.writes.append(record)
        if self._is_sync and last is not None and not _has(server, last):
            self._world.violate(
                "one_acknowledging_primary",
                f"{server.name} acknowledges {record}, its history is without {last}",
            )
        if last is None or record.index >= last.index or not self._is_sync:
            self.last = record
        self._electable_have_all()

    def became_primary(self, server: Server) -> None:
        """A server accepts writes from now on."""
        self.primaries.append(server.name)
        for other in self.servers.values():
            # A paused host does nothing; its guard has the first word when it goes on.
            takes_writes = other.is_writable and not other.is_suspended
            if other is not server and takes_writes and not self._two_primaries:
                self._world.violate(
                    "one_primary", f"{server.name} accepts writes while {other.name} still does"
                )
        assert server.data is not None
        if not self._is_sync or self._two_primaries:
            return
        timeline, last = server.data.timeline, self.last
        if last is not None and timeline < last.timeline:
            self._world.violate(
                "timelines_go_forward", f"{server.name} leads timeline {timeline} after {last}"
            )
        if self.last is not None and not _has(server, self.last):
            self._world.violate(
                "acknowledged_writes_survive", f"{server.name} leads without {self.last}"
            )

    def all_survive(self, primary: Server) -> None:
        """In the end nothing that was acknowledged is missing."""
        lost = [record for record in self.writes if not _has(primary, record)]
        if lost:
            self._world.violate(
                "acknowledged_writes_survive",
                f"{len(lost)} writes are not on {primary.name}; the first is {lost[0]}",
            )

    def takes_turn(self, server: Server) -> None:
        """A rolling restart has come to this server: whose turn was before is back."""
        for name, pid in self._turns.items():
            if name != server.name and self.servers[name].answered <= pid:
                self._world.violate(
                    "one_restart_at_a_time", f"{server.name} restarts before {name} is back"
                )
        self._turns[server.name] = server.pid

    def corrupted(self, upstream: Server, standby: Server) -> None:
        """A standby would stream onto WAL that is not its upstream's."""
        self._world.violate(
            "no_silent_divergence",
            f"{standby.name} would stream from {upstream.name} onto records it does not have",
        )

    def written(
        self, writer: str, before: Mapping[str, KeyValue], operations: Sequence[Put | Delete]
    ) -> None:
        """Something was written to etcd; what is the leader's only the leader may have written."""
        for operation in operations:
            if operation.key == BASE + "sync":
                self._note_sync(operation.value if isinstance(operation, Put) else "{}")
        keys = {operation.key for operation in operations}
        fenced = keys & FENCED
        if not fenced or writer == "etcd":
            return
        holder = before.get(BASE + "leader")
        takes = any(op.key == BASE + "leader" for op in operations)
        if holder is None and takes:
            return
        if holder is None or holder.value != writer:
            name = holder.value if holder else "nobody"
            self._world.violate(
                "writes_are_fenced", f"{writer} writes {sorted(fenced)} while {name} leads"
            )

    def _note_sync(self, value: str) -> None:
        key = SyncKey.parse(json.loads(value), 0)
        self._electorate = sorted(key.electorate) if key is not None else []
        self._quorum = key.electing.quorum if key is not None else 0
        self._electable_have_all()

    def spare_voters(self) -> int:
        """Return how many more of the electorate there are, but for one, than an election needs."""
        return len(self._electorate) - 1 - self._quorum

    def _electable_have_all(self) -> None:
        """Whoever `/sync` lets the members elect has every acknowledged write.

        A leader needs the answers of more than *quorum* members of the electorate that have no more
        than it has: so of those who could answer, that many must not be without a write.
        """
        last = self.last
        if not self._is_sync or last is None or not self._electorate:
            return
        voters = [name for name in self._electorate if name in self.servers]
        lacking = [name for name in voters if _lacks(self.servers[name], last)]
        if len(lacking) > self._quorum:
            self._world.violate(
                "electable_have_all",
                f"{', '.join(lacking)} could elect one of them without {last}",
            )


def _lacks(server: Server, record: Record) -> bool:
    """Tell whether *server* has data, and in it not the record on disk."""
    data = server.data
    return data is not None and not (data.flushed > record.index and _has(server, record))


def _has(server: Server, record: Record) -> bool:
    wal = server.data.wal if server.data is not None else []
    return len(wal) > record.index and wal[record.index] is record
