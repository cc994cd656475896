# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's hold on its simulated PostgreSQL: the real `Postgres` over simulated processes.

What stands below it is replaced: files, signals, statements and programs.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

from agent.tests.sim.programs import SimPrograms, copy_of
from agent.tests.sim.replication import can_reach
from agent.tests.sim.wal import Data, Record
from pgherd.errors import CommandError, NotAnsweringError, PostgresError
from pgherd.model import Instance, Process
from pgherd.pgfiles import Files
from pgherd.pgquery import END_LOGICAL_WALSENDERS
from pgherd.postgres import QUERY_SECONDS, Postgres
from pgherd.postmaster import Cage
from pgherd.server_settings import SETTINGS
from pgherd.slot_statements import ADVANCE, CREATE_PHYSICAL, DROP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from agent.tests.sim.server import Server
    from pgherd.config import Config
    from pgherd.history import Branch
    from pgherd.model import Control, Member
    from pgherd.pgfiles import Upstream

# How long a statement on the local instance takes, seconds.
ANSWER: Final = 0.001


class DataDir:
    """Stands for the data directory's path; of the files in it, `standby.signal` is real."""

    def __init__(self, server: Server, file: str = "") -> None:
        self._server = server
        self._file = file

    def __truediv__(self, file: str) -> DataDir:
        return DataDir(self._server, file)

    def __str__(self) -> str:
        return f"/{self._server.name}/{self._file}"

    @property
    def name(self) -> str:
        return self._file

    def with_name(self, name: str) -> Beside:
        return Beside()

    def exists(self) -> bool:
        data = self._server.data
        return data is not None and (self._file != "standby.signal" or data.is_standby)

    def touch(self, mode: int = 0o666) -> None:
        assert self._file == "standby.signal"
        if self._server.data is not None:
            self._server.data.is_standby = True

    def unlink(self, missing_ok: bool = False) -> None:
        assert self._file == "standby.signal"
        if self._server.data is not None:
            self._server.data.is_standby = False


class Beside:
    """Stands for a file beside the data directory: nobody restores anything here."""

    def read_text(self, encoding: str = "") -> str:
        raise FileNotFoundError

    def unlink(self, missing_ok: bool = False) -> None:
        assert missing_ok


class Aside:
    """What `set_aside` returns: something that can be renamed back."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def rename(self, target: object) -> None:
        self._server.data, self._server.aside = self._server.aside, None


class SimFiles(Files):
    """Writes the two settings that matter here into the simulated configuration file."""

    def __init__(self, server: Server, config: Config) -> None:
        super().__init__(config)
        self._server = server

    def write_pgpass(self) -> None:
        """Nobody reads it."""

    def keep_dynamic(self, dynamic: Mapping[str, Any]) -> None:
        """The copy beside the data is tested elsewhere."""

    def kept_dynamic(self) -> dict[str, Any] | None:
        return None

    def write_server_config(
        self,
        dynamic: Mapping[str, Any],
        upstream: Upstream | None,
        control: Control | None,
        sync_names: str = "",
    ) -> bool:
        data = self._server.data
        if data is None:
            raise FileNotFoundError("no such directory")
        new = (upstream[0] if upstream else None, sync_names)
        if (data.upstream, data.names) == new:
            return False
        data.upstream, data.names = new
        return True


class SimPostmaster:
    """The postmaster process of one start of the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pid = server.pid

    @property
    def is_alive(self) -> bool:
        return self._server.pid == self._pid and self._server.process is not Process.STOPPED

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            self._server.signal(number)

    async def wait(self, within: float | None) -> bool:
        died = asyncio.Event()
        self._server.deaths.append(died.set)
        try:
            async with asyncio.timeout(within):
                while self.is_alive:
                    await died.wait()
        except TimeoutError:
            return False
        return True


class SimSenders:
    """Tells the agent at once that a connection has ended on which commits may wait."""

    def __init__(self, server: Server, on_end: Callable[[], None]) -> None:
        self._server = server
        self._on_end = on_end

    def watch(self, pids: Iterable[int]) -> None:
        self._server.watched = set(pids)
        self._server.on_sender_end = self._on_end


class SimPostgres(Postgres):
    """The instance on the agent's host; what it does lives on without the agent."""

    def __init__(self, server: Server, config: Config, on_death: Callable[[], None]) -> None:
        super().__init__(config, on_death, Cage(None))
        self.server = server
        self.programs = SimPrograms(server)
        self.files = SimFiles(server, config)
        self._senders = SimSenders(server, on_death)  # type: ignore[assignment]
        self._found: SimPostmaster | None = None
        server.on_death = on_death

    @property
    def data_dir(self) -> Path:
        return DataDir(self.server)  # type: ignore[return-value]

    # Observing

    async def observe(self) -> Instance:
        server = self.server
        if server.data is None:
            await asyncio.sleep(ANSWER)
            return Instance()
        if server.process is Process.STOPPED:
            control = self._control = server.control()
            await asyncio.sleep(ANSWER)
            return Instance(has_data=True, control=control, system_id=control.system_id)
        if not server.keeps_talking:
            known = self._not_answering(server.data)
            await asyncio.sleep(QUERY_SECONDS if server.is_suspended else ANSWER)
            return known
        # What is seen may be old by the time the agent gets to it.
        instance = server.instance()
        self._watch_senders(instance)
        await asyncio.sleep(ANSWER)
        return instance

    def _not_answering(self, data: Data) -> Instance:
        return Instance(
            process=Process.STARTING,
            has_data=True,
            control=self._control,
            system_id=data.system_id,
            in_recovery=True if self._is_meant_as_standby else None,
            upstream=self._upstream.address if self._upstream else None,
        )

    def _watch_senders(self, instance: Instance) -> None:
        names = instance.acknowledging.standbys if instance.is_primary else frozenset()
        self._senders.watch(
            row["pid"] for row in instance.replication if row["application_name"] in names
        )

    def postmaster(self) -> Any:
        if self._found is None or not self._found.is_alive:
            running = self.server.process is not Process.STOPPED
            self._found = SimPostmaster(self.server) if running else None
        return self._found

    async def _read_control(self) -> Control | None:
        await asyncio.sleep(ANSWER)
        return self.server.control() if self.server.data is not None else None

    async def query(self, statement: Any, parameters: Any = None) -> list[dict[str, Any]]:
        """Answer the statements that `Postgres` makes; any other one is a mistake."""
        server = self.server
        await asyncio.sleep(ANSWER)
        if server.is_suspended:
            await asyncio.sleep(QUERY_SECONDS)
        if not server.keeps_talking or server.data is None:
            raise NotAnsweringError("no answer")
        if statement == "SELECT pg_promote(false)":
            server.promote()
            return []
        if statement == CREATE_PHYSICAL:
            server.slots.add(parameters["name"])
            return []
        if statement == DROP:
            server.slots.discard(parameters["name"])
            return []
        if statement == SETTINGS:
            # Nothing is known of them, so nothing is refused.
            return []
        if statement == END_LOGICAL_WALSENDERS:
            return []
        if statement == ADVANCE:
            return []  # Slots hold nothing here: no WAL is ever removed.
        if "AS nothing" in statement:
            return [{"nothing": server.upstream is None and server.receiver is None}]
        answers: dict[str, Any] = {
            "SELECT 1": 1,
            "SELECT pg_is_in_recovery() AS in_recovery": server.in_recovery,
            "SHOW synchronous_standby_names": server.names_shown,
            "SELECT system_identifier::text AS id FROM pg_control_system()": server.data.system_id,
        }
        column = str(statement).split()[-1]
        known = answers[statement]
        return [{column: known, "id": known}]

    def local_history(self, timeline: int) -> tuple[Branch, ...]:
        return self.server.data.branches if self.server.data is not None else ()

    async def reserve_timeline(self, ours: int, wanted: int) -> bool:
        """What PostgreSQL finds in pg_wal when it is promoted."""
        data = self.server.data
        if data is None:
            return False
        data.newest = max(data.newest, wanted - 1)
        return data.newest < wanted

    async def leader_history(self, leader: Member, within: float) -> tuple[int, tuple[Branch, ...]]:
        server = self.server
        upstream = server.peers.get(leader.host)
        await asyncio.sleep(2 * server.net.latency())
        if upstream is None or not can_reach(upstream, server) or upstream.data is None:
            await asyncio.sleep(within)
            raise NotAnsweringError(f"{leader.name} does not answer")
        if upstream.in_recovery:
            raise NotAnsweringError(f"{leader.name} is not a primary yet")
        return upstream.data.timeline, upstream.data.branches

    def remote_conninfo(self, member: Member) -> str:
        return member.host

    async def refresh_pending_restart(self) -> None:
        """Nothing waits for a restart."""

    @property
    def knows_pending_restart(self) -> bool:
        return True

    # Starting and stopping

    async def _start(self, limits: Control | None) -> None:
        self._may_start()
        self._control = limits or await self._read_control()
        self._write_server_config(limits)
        await asyncio.sleep(0.05)
        self._may_start()
        self.server.start()

    def _may_start(self) -> None:
        if self.server.data is None or self.postmaster() is not None:
            raise CommandError("pg_ctl", 1, "no data directory, or another server is running")

    def kill(self) -> None:
        self.server.signal(signal.SIGKILL)

    # Roles

    async def checkpoint(self, within: float = 3600) -> None:
        done, epoch = asyncio.Event(), self.server.epoch
        self.server.checkpoint(done.set)
        while not done.is_set():
            # Started again in between, it knows nothing of what the one before was asked.
            if self.server.epoch != epoch or not self.server.keeps_talking:
                raise PostgresError("the server has gone away")
            try:
                async with asyncio.timeout(1):
                    await done.wait()
            except TimeoutError:
                continue

    # Birth

    async def initdb(self, options: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.5)
        server = self.server
        if server.data is not None:
            raise PostgresError("the data directory is not empty")
        server.data = Data(state="shut down")
        server.data.wal.append(Record(1, 0, server.name))
        server.data.flushed = 1

    async def clone(self, source: Member | None) -> None:
        assert source is not None, "there is no backup here"
        self.server.data = await copy_of(self.server, source)

    def set_aside(self, suffix: str) -> Any:
        if self.server.data is None:
            return None
        self.server.aside, self.server.data = self.server.data, None
        return Aside(self.server)

    async def create_accounts(self) -> None:
        await asyncio.sleep(0.01)
