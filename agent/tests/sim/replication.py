# SPDX-License-Identifier: GPL-3.0-or-later
"""Streaming replication: one connection from a sender to a standby's receiver."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from agent.tests.sim.wal import position

if TYPE_CHECKING:
    from agent.tests.sim.server import Server
    from agent.tests.sim.wal import Record

# wal_receiver_timeout and wal_sender_timeout as the roles set them are as long as a lease.
WAL_TIMEOUT = 3.0
PIDS = itertools.count(1)


def can_reach(upstream: Server, client: Server) -> bool:
    """Tell whether a new connection from *client*'s host to *upstream* gets an answer."""
    return upstream.answers and upstream.net.connects(upstream.name, client.name, "wal")


def can_stream(upstream: Server, standby: Server) -> bool:
    """Tell whether *upstream* accepts the connection and has what *standby* needs next."""
    if not can_reach(upstream, standby):
        return False
    source, target = upstream.data, standby.data
    if source is None or target is None:
        return False
    # Where it begins to stream it writes over what was received and not flushed.
    target.lose_unflushed()
    end = source.end_of(target.timeline)
    if end is None or target.flushed > end:
        return False
    if target.flushed and source.wal[target.flushed - 1] is not target.wal[target.flushed - 1]:
        standby.checks.corrupted(upstream, standby)
        return False
    target.newest = max(target.newest, source.newest)
    return True


class Stream:
    """One connection; it lives until an end goes away or hears nothing for too long.

    :param acknowledged: how many records the sender knows to be flushed at the receiver.
    """

    def __init__(self, sender: Server, receiver: Server) -> None:
        assert receiver.data is not None
        assert sender.data is not None
        self.sender = sender
        self.receiver = receiver
        self.world = sender.world
        self.net = sender.net
        self.acknowledged = receiver.data.flushed
        self.is_streaming = self.acknowledged >= sender.data.flushed
        self.is_open = True
        self.pid = next(PIDS)
        self._sent = receiver.data.flushed
        self._arrival = 0.0
        self._reply_arrival = 0.0
        self._silent_since: float | None = None
        self._is_retrying = False

    def row(self) -> dict[str, Any]:
        """Return the connection's row of pg_stat_replication."""
        return {
            "pid": self.pid,
            "usename": "replicator",
            "application_name": self.receiver.name,
            "client_addr": self.receiver.name,
            "state": "streaming" if self.is_streaming else "catchup",
            "sync_state": "async",
            "sync_priority": 0,
            "flush": position(self.acknowledged),
        }

    def close(self) -> None:
        """End the connection, for both ends; a standby tries again."""
        if not self.is_open:
            return
        self.is_open = False
        if self.sender.senders.get(self.receiver.name) is self:
            del self.sender.senders[self.receiver.name]
            self.sender.sender_ended(self)
        if self.receiver.receiver is self:
            self.receiver.receiver = None
            self.receiver.connect()

    def lose_end(self, *, silently: bool) -> None:
        """Be left by one end; the other one hears of it now or when it has waited long enough."""
        if silently:
            self.world.after(WAL_TIMEOUT, self.close)
        else:
            self.close()

    def push(self) -> None:
        """Send what the sender has flushed and not sent yet; or wait for the network."""
        data = self.sender.data
        if not self.is_open or data is None or self._sent >= data.flushed:
            return
        if not self.net.is_open(self.sender.name, self.receiver.name, "wal"):
            self._retry()
            return
        records = data.wal[self._sent : data.flushed]
        self._sent = data.flushed
        self._arrival = max(self._arrival, self.world.now + self.net.latency())
        self.world.at(self._arrival, self._arrive, records)

    def _arrive(self, records: list[Record]) -> None:
        if self.is_open:
            self.receiver.later(0, self._take, records)

    def _take(self, records: list[Record]) -> None:
        if self.is_open and self.receiver.receiver is self:
            self.receiver.receive(records)

    def reply(self, flushed: int) -> None:
        """Tell the sender what the receiver has flushed."""
        if not self.is_open:
            return
        if not self.net.is_open(self.receiver.name, self.sender.name, "wal"):
            self._retry()
            return
        self._reply_arrival = max(self._reply_arrival, self.world.now + self.net.latency())
        self.world.at(self._reply_arrival, self._hear, flushed)

    def _hear(self, flushed: int) -> None:
        if self.is_open:
            self.sender.later(0, self._note_flushed, flushed)

    def _note_flushed(self, flushed: int) -> None:
        if self.sender.senders.get(self.receiver.name) is not self or self.sender.data is None:
            return
        self.acknowledged = max(self.acknowledged, flushed)
        self.is_streaming = self.is_streaming or flushed >= self.sender.data.flushed
        self.sender.release()

    def _retry(self) -> None:
        """Send again what the network swallows, until an end gives up."""
        if self._silent_since is None:
            self._silent_since = self.world.now
        if not self._is_retrying:
            self._is_retrying = True
            self.world.after(0.2, self._try_again)

    def _try_again(self) -> None:
        self._is_retrying = False
        if not self.is_open:
            return
        if self.net.connects(self.sender.name, self.receiver.name, "wal"):
            self._silent_since = None
            self.push()
            if self.receiver.data is not None:
                self.reply(self.receiver.data.flushed)
        elif self._silent_since is not None and self.world.now - self._silent_since > WAL_TIMEOUT:
            self.close()
        else:
            self._retry()

    def watch_silence(self) -> None:
        """See to it that a connection that is cut ends even when there is nothing to send."""
        if self.is_open and not self.net.connects(self.sender.name, self.receiver.name, "wal"):
            self._retry()
