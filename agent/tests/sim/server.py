# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's PostgreSQL: its processes live on when the agent is frozen, killed or away."""

from __future__ import annotations

from signal import Signals
from typing import TYPE_CHECKING, Any, Final

from agent.tests.sim.wal import Data, Record, position
from pgherd.model import Control, Instance, Process
from pgherd.quorum import Acknowledging, parse_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.tests.sim.checks import Checks
    from agent.tests.sim.net import Network
    from agent.tests.sim.replication import Stream
    from agent.tests.sim.world import World

LIMITS: Final = {
    "max_connections": 100,
    "max_worker_processes": 8,
    "max_wal_senders": 10,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
}


class Server:
    """One instance: a data directory, and processes on it while it runs.

    :param name: the member's, the host's and the `application_name` of its receiver.
    :param on_death: called when the processes have ended.
    :ivar pid: which start this is.
    :ivar answered: the last start in which it came to answer queries.
    """

    def __init__(self, world: World, net: Network, name: str, checks: Checks) -> None:
        self.world = world
        self.net = net
        self.name = name
        self.checks = checks
        self.data: Data | None = None
        self.aside: Data | None = None
        self.process = Process.STOPPED
        self.in_recovery = True
        self.upstream: str | None = None
        self.names_shown = ""
        self.disk = ""
        self.slots: set[str] = set()
        self.senders: dict[str, Stream] = {}
        self.receiver: Stream | None = None
        self.peers: dict[str, Server] = {}
        self.is_suspended = False
        self.is_refusing = False
        self.is_stopping = False
        self.slow_disk = 0.0
        self.on_death: Callable[[], None] = lambda: None
        self.on_sender_end: Callable[[], None] = lambda: None
        self.watched: set[int] = set()
        self.deaths: list[Callable[[], None]] = []
        self._epoch = 0
        self._deferred: list[tuple[int, Callable[..., None], tuple[Any, ...]]] = []
        self._waiting: list[Record] = []
        self._is_flushing = False
        self._is_connecting = False
        self._rule = Acknowledging()
        self._waits = False
        self._checkpointer_busy = False
        self._silent_since: float | None = None
        self.pid = 0
        self.answered = 0

    # Time inside the processes

    @property
    def epoch(self) -> int:
        """Which of the server's lives this is."""
        return self._epoch

    def later(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call after *delay* seconds, unless the processes have ended by then."""
        self.world.after(delay, self._due, self._epoch, call, arguments)

    def _due(self, epoch: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if epoch != self._epoch:
            return
        if self.is_suspended:
            self._deferred.append((epoch, call, arguments))
        else:
            call(*arguments)

    def suspend(self) -> None:
        """Stop all processes where they are (host paused, or all of them hung)."""
        self.is_suspended = True
        self._silent_since = self.world.now

    def refuse(self) -> None:
        """Answer no new connection any more; those there are go on."""
        self.is_refusing = True
        self._silent_since = self.world.now

    def silent_for(self) -> float:
        """Return for how long a new connection has got no answer, not even a refusal."""
        since = self._silent_since
        running = self.process is not Process.STOPPED
        return self.world.now - since if since is not None and running else 0.0

    def resume(self) -> None:
        """Let them go on; what came due meanwhile happens now."""
        self.is_suspended = self.is_refusing = False
        self._silent_since = None
        deferred, self._deferred = self._deferred, []
        for epoch, call, arguments in deferred:
            self._due(epoch, call, arguments)

    # State

    @property
    def is_running(self) -> bool:
        return self.process is Process.RUNNING

    @property
    def is_writable(self) -> bool:
        """Whether a client could get a write acknowledged, were it not for other members."""
        return self.is_running and not self.in_recovery and not self.is_stopping

    @property
    def answers(self) -> bool:
        """Whether a new connection gets an answer."""
        return self.keeps_talking and not self.is_refusing

    @property
    def keeps_talking(self) -> bool:
        """Whether connections that there are get answers."""
        return self.is_running and not self.is_suspended and not self.is_stopping

    def _note(self, what: str) -> None:
        self.world.note(self.name, what)

    def control(self) -> Control:
        """What pg_controldata prints."""
        data = self._have_data()
        checkpoint = position(data.checkpoint)
        return Control(data.system_id, data.state, data.checkpoint_timeline, checkpoint, LIMITS)

    def _have_data(self) -> Data:
        assert self.data is not None, f"{self.name} has no data"
        return self.data

    def instance(self) -> Instance:
        """What the agent's query would return now."""
        data = self._have_data()
        end = position(data.flushed)
        standby = self.in_recovery
        receiver = self.receiver
        return Instance(
            process=Process.RUNNING,
            has_data=True,
            system_id=data.system_id,
            in_recovery=standby,
            timeline=data.timeline,
            checkpoint_timeline=data.checkpoint_timeline,
            location=None if standby else end,
            received=end if standby else None,
            replayed=end if standby else None,
            latest_end=end if standby else None,
            receiver_status="streaming" if receiver is not None and standby else None,
            upstream=f"{self.upstream}:5432" if self.upstream else None,
            started_at=f"2026-01-01 {self.pid // 60:02d}:{self.pid % 60:02d}:00+00",
            server_version=170002,
            replication=tuple(stream.row() for stream in self.senders.values()),
            slots={name: self._slot(name) for name in sorted(self.slots)},
            sync_names=self.names_shown,
            checkpointer_idle=not self._checkpointer_busy,
        )

    def _slot(self, name: str) -> dict[str, Any]:
        is_active = name in self.senders
        return {"type": "physical", "active": is_active, "temporary": False, "restart": None}

    # Starting and ending

    def start(self) -> None:
        """Start the processes; they answer when recovery has come far enough."""
        data = self._have_data()
        assert self.process is Process.STOPPED, f"{self.name} runs already"
        as_primary = not data.is_standby
        self.process = Process.STARTING
        self.is_suspended = self.is_refusing = False
        self.in_recovery = True
        self.pid += 1
        self.upstream, self.names_shown = data.upstream, data.names
        self._rule = parse_names(data.names)
        self._waits = self._rule.count > 0
        self._checkpointer_busy = False
        noise = self.world.noise
        clean = data.state.startswith("shut down")
        duration = 0.05 + (0.2 if clean else 1.5) * noise.random()
        if not clean and noise.random() < 0.05:
            duration += 6 * noise.random()
        data.state = "in crash recovery" if as_primary else "in archive recovery"
        self._note(f"postgres starts as a {'primary' if as_primary else 'standby'}")
        if self.disk:
            self.later(0.1, self._panic)
        self.later(duration, self._open if as_primary else self._recover)

    def _open(self) -> None:
        """Crash recovery is over: accept writes."""
        data = self._have_data()
        data.state = "in production"
        self.process = Process.RUNNING
        self.answered = self.pid
        self.in_recovery = False
        self._checkpointed()
        self._note(f"postgres is a primary on timeline {data.timeline} at {data.flushed}")
        self.checks.became_primary(self)

    def _recover(self) -> None:
        self.connect()
        self.look_for_consistency()

    def look_for_consistency(self) -> None:
        """Answer queries once everything is there that a consistent state needs."""
        data = self._have_data()
        has_enough = data.flushed >= data.consistent_at
        if self.process is Process.STARTING and data.is_standby and has_enough:
            self.process = Process.RUNNING
            self.answered = self.pid
            self._note(f"postgres is a standby on timeline {data.timeline} at {data.flushed}")

    def end(self, why: str, *, cleanly: bool = False, power: bool = False) -> None:
        """End all processes at once; what was not flushed may be lost.

        :param power: with the host: nothing unflushed stays, and nobody else is told.
        """
        if self.process is Process.STOPPED:
            return
        data = self._have_data()
        self._epoch += 1
        self._deferred.clear()
        self._is_flushing = self._is_connecting = False
        self.is_suspended = self.is_refusing = self.is_stopping = False
        self._silent_since = None
        self._waiting.clear()
        if cleanly:
            data.state = "shut down in recovery" if data.is_standby else "shut down"
        unflushed = len(data.wal) - data.flushed
        # A killed process leaves in the page cache what it had written by then.
        data.lose_unflushed(0 if power else self.world.noise.randint(0, unflushed))
        self.process = Process.STOPPED
        streams = [*self.senders.values(), *([self.receiver] if self.receiver else [])]
        self.senders.clear()
        self.receiver = None
        for stream in streams:
            stream.lose_end(silently=power)
        self._note(f"postgres has ended: {why}")
        self.on_death()
        deaths, self.deaths = self.deaths, []
        for tell in deaths:
            tell()

    def _panic(self) -> None:
        self.end(f"PANIC: {self.disk}")

    def signal(self, number: Signals) -> None:
        """Take a signal to the postmaster; a stopped one takes SIGKILL only, the others later."""
        if number is Signals.SIGKILL:
            self.end("killed")
        elif self.is_suspended or self.is_refusing:
            self._deferred.append((self._epoch, self.signal, (number,)))
        elif number is Signals.SIGQUIT:
            self.later(0.005, self.end, "stopped immediately")
        elif number is Signals.SIGINT:
            self.shut_down()
        else:
            self.reload()

    def sender_ended(self, stream: Stream) -> None:
        """A walsender is gone."""
        if stream.pid in self.watched and self.process is not Process.STOPPED:
            self.on_sender_end()

    def shut_down(self) -> None:
        """Stop in fast mode: cut clients off, write a shutdown checkpoint, let standbys have it."""
        if self.process is Process.STOPPED:
            return
        was_writable, self.is_stopping = self.is_writable, True
        if was_writable:
            data = self._have_data()
            self._waiting.clear()
            self._append(0)
            data.flushed = len(data.wal)
            self._checkpointed()
            self._push()
            self.later(0.05, self._end_when_sent, self.world.now)
        else:
            self.later(0.02 + 0.1 * self.world.noise.random(), self._end_cleanly)

    def _end_when_sent(self, since: float) -> None:
        """A primary ends when its standbys have everything, or are given up."""
        data = self._have_data()
        lacking = [stream for stream in self.senders.values() if stream.acknowledged < data.flushed]
        if lacking and self.world.now - since < 5:
            self.later(0.05, self._end_when_sent, since)
        else:
            self._end_cleanly()

    def _end_cleanly(self) -> None:
        self.end("shut down", cleanly=True)

    # Roles

    def promote(self) -> None:
        """Begin to leave recovery (pg_promote)."""
        if self.is_running and self.in_recovery:
            self.later(0.03 + 0.3 * self.world.noise.random(), self._promoted)

    def _promoted(self) -> None:
        data = self._have_data()
        if not self.in_recovery:
            return
        if self.receiver is not None:
            self.receiver.close()
        data.lose_unflushed(len(data.wal) - data.flushed)
        data.newest += 1
        data.wal.append(Record(data.newest, len(data.wal), self.name))
        data.flushed = len(data.wal)
        data.is_standby = False
        data.state = "in production"
        self.in_recovery = False
        self._note(f"postgres is promoted to timeline {data.newest} at {data.flushed}")
        self.checks.became_primary(self)
        self._push()

    def checkpoint(self, done: Callable[[], None]) -> None:
        """Write a checkpoint; it takes a while."""
        self.later(0.05 + 0.5 * self.world.noise.random(), self._write_checkpoint, done)

    def _write_checkpoint(self, done: Callable[[], None]) -> None:
        if self.is_writable:
            self._append(0)
            self._checkpointed()
        done()

    def _checkpointed(self) -> None:
        data = self._have_data()
        data.checkpoint = max(0, data.flushed - 1)
        data.checkpoint_timeline = data.timeline

    def reload(self) -> None:
        """Read the configuration file again: each process does so in its own time."""
        noise = self.world.noise
        self.later(0.001 + 0.02 * noise.random(), self._reload)

    def _reload(self) -> None:
        data, noise = self._have_data(), self.world.noise
        if self.upstream != data.upstream:
            self.upstream = data.upstream
            if self.receiver is not None:
                self.receiver.close()
            if self.in_recovery:
                self.connect()
        if self.names_shown != data.names:
            self.names_shown = data.names
            # Walsenders read it before they take in a reply; the checkpointer, which tells backends
            # whether to wait at all, when it is done with what it does.
            self._rule = parse_names(data.names)
            self._checkpointer_busy = True
            busy = 1.0 if noise.random() < 0.2 else 0.02
            self.later(busy * noise.random(), self._use_names)
            self._note(f"synchronous_standby_names: {data.names!r}")
            self.release()

    def _use_names(self) -> None:
        self._checkpointer_busy = False
        self._waits = self._rule.count > 0
        self.release()

    # Writing

    def write(self, number: int) -> None:
        """A client's write: acknowledged when it is safe, if ever."""
        if self.disk:
            self._panic()
        elif self.is_writable and not self.is_suspended:
            self._waiting.append(self._append(number))

    def _append(self, number: int) -> Record:
        data = self._have_data()
        record = Record(data.timeline, len(data.wal), self.name, number)
        data.wal.append(record)
        if not self._is_flushing:
            self._is_flushing = True
            delay = 0.0005 + 0.002 * self.world.noise.random() + self.slow_disk
            self.later(delay, self._flush, len(data.wal))
        return record

    def _flush(self, count: int) -> None:
        data = self._have_data()
        data.flushed = max(data.flushed, count)
        self._is_flushing = False
        if len(data.wal) > data.flushed:
            self._is_flushing = True
            self.later(0.0005 + self.slow_disk, self._flush, len(data.wal))
        self._push()
        self.release()

    def _push(self) -> None:
        for stream in list(self.senders.values()):
            stream.push()

    def release(self) -> None:
        """Acknowledge what enough standbys have flushed."""
        if not self._waiting or not self.is_writable:
            return
        safe = min(self._have_data().flushed, self._safe())
        while self._waiting and self._waiting[0].index < safe:
            self.checks.acknowledged(self, self._waiting.pop(0))

    def _safe(self) -> int:
        """Return how many records as many standbys have as must."""
        rule = self._rule
        if not self._waits:
            return len(self._have_data().wal)
        if rule.count == 0:
            return 0
        have = sorted(
            (
                stream.acknowledged
                for name, stream in self.senders.items()
                if name in rule.standbys and stream.is_streaming
            ),
            reverse=True,
        )
        return have[rule.count - 1] if len(have) >= rule.count else 0

    # Receiving

    def connect(self) -> None:
        """Have the receiver connect, again and again until it succeeds."""
        if not self._is_connecting and self.process is not Process.STOPPED:
            self._is_connecting = True
            self.later(0.002 + 0.01 * self.world.noise.random(), self._connect)

    def _connect(self) -> None:
        from agent.tests.sim.replication import Stream, can_stream

        self._is_connecting = False
        data = self._have_data()
        if self.receiver is not None or not data.is_standby or self.upstream is None:
            return
        upstream = self.peers.get(self.upstream)
        if upstream is not None and can_stream(upstream, self):
            self.receiver = Stream(upstream, self)
            upstream.senders[self.name] = self.receiver
            self.receiver.push()
        else:
            self._is_connecting = True
            self.later(0.2, self._connect)

    def receive(self, records: list[Record]) -> None:
        """Write records that came from upstream, flush them, say so."""
        data = self._have_data()
        data.wal.extend(record for record in records if record.index >= len(data.wal))
        data.newest = max(data.newest, data.wal[-1].timeline)
        delay = 0.0005 + 0.002 * self.world.noise.random() + self.slow_disk
        self.later(delay, self._flush_received, len(data.wal))

    def _flush_received(self, count: int) -> None:
        data = self._have_data()
        if count > data.flushed:
            data.flushed = min(count, len(data.wal))
            self._push()
            self.look_for_consistency()
        if self.receiver is not None:
            self.receiver.reply(data.flushed)
