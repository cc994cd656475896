# SPDX-License-Identifier: GPL-3.0-or-later
"""The local PostgreSQL instance: observing it, starting, stopping, promoting, pointing it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.accounts import create_accounts
from pgherd.datadir import holds_data, set_aside
from pgherd.errors import CommandError, PostgresError
from pgherd.guard_instance import DoomedInstance
from pgherd.history import Branch, parse_history, skip_timelines
from pgherd.hooks import before_stop
from pgherd.leader_history import ask_history
from pgherd.methods import make_copy, run_bootstrap_method, run_initdb
from pgherd.model import Control, Instance, Member
from pgherd.pacing import Pacing
from pgherd.pending_restart import PendingRestart
from pgherd.pgfiles import Files, Upstream, local_conninfo, slot_name
from pgherd.pglog import last_words
from pgherd.pgquery import LIMITS, OBSERVE, Connection, instance_from_row, silent_instance
from pgherd.postmaster import Cage, Postmaster, clear_leftovers, find
from pgherd.programs import Programs
from pgherd.quorum import NOBODY_ACKNOWLEDGES
from pgherd.restored import forget, is_restored
from pgherd.slot_copies import SlotCopies
from pgherd.slot_statements import SlotStatements
from pgherd.waiting import POLL_SECONDS, come_true, until
from pgherd.walsenders import Walsenders, end_subscriptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pgherd.config import BootstrapMethod, Config

log = logging.getLogger(__name__)

# A postmaster told to stop immediately has this long before it is killed, seconds.
KILL_AFTER_SECONDS: Final = 0.5
# A killed process is gone after this long, or waits for a disk, seconds.
DEATH_SECONDS: Final = 1.0
# A postmaster just forked has written its pid file after this long, or has ended, seconds.
PID_FILE_SECONDS: Final = 2.0
QUERY_SECONDS: Final = 1.0


class Postgres:
    """One instance on this host.

    :param on_death: called at once when a postmaster we know of is gone.
    """

    def __init__(self, config: Config, on_death: Callable[[], None], cage: Cage) -> None:
        self._config = config
        self._on_death = on_death
        self._cage = cage
        self._postmaster: Postmaster | None = None
        self._ended: Postmaster | None = None
        self._upstream: Upstream | None = None
        self.names_asked: str | None = None
        self._may_wait = False
        self._senders = Walsenders(on_death)
        self._dynamic: Mapping[str, Any] = {}
        self._pending = PendingRestart()
        self._is_adopted = False
        self._control: Control | None = None
        self.files = Files(config)
        self.programs = Programs(config.postgres.bin_dir, {})
        self.slots = SlotStatements(self)
        self.pacing = Pacing(self.files, self.slots)
        self.copies = SlotCopies(self)
        self._connection = Connection(self.local_conninfo(), QUERY_SECONDS)

    @property
    def config(self) -> Config:
        return self._config

    @property
    def data_dir(self) -> Path:
        return self._config.postgres.data_dir

    def local_conninfo(self, database: str = "postgres") -> str:
        """Return how the agent reaches its own instance: over the socket, as superuser."""
        return local_conninfo(self._config.postgres, database)

    # Observing

    async def observe(self) -> Instance:
        """Return what the instance looks like now; never raises for a sick one."""
        if not holds_data(self.data_dir):
            return Instance()
        if self.postmaster() is None or self._postmaster is self._ended:
            self._control = await self._read_control()
            system_id = self._control.system_id if self._control else None
            return Instance(
                has_data=True,
                control=self._control,
                system_id=system_id,
                is_restored=is_restored(self.data_dir, self._control),
            )
        try:
            [row] = await self._connection.query(OBSERVE)
        except PostgresError as error:
            log.debug("PostgreSQL does not answer: %s", error)
            in_recovery = True if self._is_meant_as_standby else None
            return silent_instance(self._control, in_recovery, self._upstream)
        if self._pending.is_due():
            await self.refresh_pending_restart()
        elif row["in_recovery"] and (row["replay_paused"] or self._pending.limits_are_due()):
            await self._look_at_limits()
        instance = instance_from_row(row, self._pending.found)
        if instance.is_standby and instance.replay_paused:
            instance = replace(instance, lacks_limits=await self._lacks_limits())
        # Commits, or subscribers, may wait for them, so that one has gone is news.
        names = instance.acknowledging.standbys if instance.is_primary else frozenset()
        slots = instance.subscribers_wait_for or frozenset()
        self._senders.watch(
            row["pid"]
            for row in instance.replication
            if row["application_name"] in names or slot_name(row["application_name"]) in slots
        )
        return instance

    def postmaster(self) -> Postmaster | None:
        """Return the running postmaster, None when there is none."""
        if self._postmaster is None or not self._postmaster.is_alive:
            self._postmaster = find(self.data_dir, self._on_death)
        return self._postmaster

    async def _read_control(self) -> Control | None:
        try:
            return await self.programs.control(self.data_dir)
        except CommandError as error:
            log.error("the control file of %s cannot be read: %s", self.data_dir, error)
            return None

    async def query(self, statement: Any, parameters: Any = None) -> list[dict[str, Any]]:
        """Run one statement as superuser on the local instance.

        :raises PostgresError: it failed or took more than a second.
        """
        return await self._connection.query(statement, parameters)

    def local_history(self, timeline: int) -> tuple[Branch, ...]:
        """Return the history of *timeline* as this instance has it; empty for the first."""
        try:
            return parse_history((self.data_dir / f"pg_wal/{timeline:08X}.history").read_text())
        except OSError:
            return ()

    async def leader_history(self, leader: Member, within: float) -> tuple[int, tuple[Branch, ...]]:
        """Ask *leader* itself for its timeline and that timeline's history.

        :param within: seconds for each of two answers.
        :raises PostgresError: it does not answer, or is no primary; or, being of another cluster,
            it has just been promoted, so that its control file names the timeline before.
        """
        return await ask_history(self.remote_conninfo(leader), leader, within)

    def remote_conninfo(self, member: Member) -> str:
        """Return how to reach another member with the rights pg_rewind needs."""
        user = self._config.postgres.rewind.username
        return self.files.upstream_conninfo(member.host, member.port, user, "postgres")

    # Configuration

    async def configure(
        self, config: Config, dynamic: Mapping[str, Any], *, may_wait: bool = False
    ) -> bool:
        """Use a configuration from now on; a running instance gets it by reload.

        The files of a stopped one are left alone until it is started: it may not be ours.

        :param may_wait: commits of this cluster may have to wait for standbys.
        :return: whether a file changed.
        """
        self._may_wait = may_wait
        began = time.time()
        self._config = config
        self.files.reconfigure(config)
        self._dynamic = dynamic
        self.files.write_pgpass()
        if self.postmaster() is None:
            return False
        changed = self._write_files(self._control)
        if changed:
            await self.reload()
        self._pending.look_again(began if changed else 0.0)
        return changed

    @property
    def knows_pending_restart(self) -> bool:
        """Whether what waits for a restart was looked up since the files were written last."""
        return self._pending.is_known

    @property
    def _is_meant_as_standby(self) -> bool:
        # PostgreSQL removes the file when it is promoted.
        return (self.data_dir / "standby.signal").exists()

    def _write_files(self, control: Control | None) -> bool:
        limits = control if self._is_meant_as_standby else None
        return self._write_server_config(limits)

    def _write_server_config(self, limits: Control | None) -> bool:
        names = self.names_asked
        if names is None:
            # PostgreSQL's checkpointer tells backends whether to wait at all, and it may be busy
            # with a checkpoint just after a promotion: what it reads now must say so already.
            waits = self._may_wait and self._is_meant_as_standby
            names = NOBODY_ACKNOWLEDGES if waits else ""
        return self.files.write_server_config(self._dynamic, self._upstream, limits, names)

    async def set_sync_names(self, names: str) -> None:
        """Have commits wait for the standbys in *names*; in force a moment later."""
        self.names_asked = names
        await self.pacing.choose(names)
        self._write_files(self._control)
        # Also when the file says so already: the agent before may have died before the signal.
        await self.reload()

    async def rewrite(self) -> None:
        """Write the files anew; a running instance gets what has changed by reload."""
        if self._write_files(self._control):
            await self.reload()

    async def reload(self) -> None:
        """Have the postmaster read its files again."""
        postmaster = self.postmaster()
        if postmaster is not None:
            postmaster.send(signal.SIGHUP)

    async def refresh_pending_restart(self) -> None:
        """Look up which settings wait for a restart; keeps the old answer when nobody answers."""
        limits = self._control if self._is_meant_as_standby else None
        await self._pending.refresh(self.query, self.files.parameters(self._dynamic, None), limits)

    async def _lacks_limits(self) -> bool:
        """Tell whether it runs with less than its primary had, which pauses replay for good.

        PostgreSQL documentation, 26.4.3: it waits for a restart with settings that are enough.
        """
        limits = self._control.limits if self._control is not None else {}
        try:
            rows = await self.query(LIMITS, [list(limits)])
        except PostgresError:
            return False
        return any(row["setting"] < limits[row["name"]] for row in rows)

    async def _look_at_limits(self) -> None:
        """Follow the primary's settings that this standby has replayed: less, or more."""
        known, self._control = self._control, await self._read_control() or self._control
        if known is None or self._control is None or known.limits == self._control.limits:
            return
        began = time.time()
        changed = self._write_files(self._control)
        if changed:
            await self.reload()
        self._pending.look_again(began if changed else 0.0)

    def adopt(self, instance: Instance) -> None:
        """Remember what the running instance was told before this agent was started."""
        if self._is_adopted:
            return
        self._is_adopted = True
        if instance.upstream and self._upstream is None:
            host, _, port = instance.upstream.rpartition(":")
            self._upstream = Upstream(host, int(port), instance.upstream_slot)
        if instance.is_primary and self.names_asked is None:
            self.names_asked = instance.sync_names
        self.pacing.adopt(instance)

    # Starting and stopping

    async def start_primary(self, names: str = "") -> None:
        """Start outside recovery (crash recovery first, if it must be); it answers later.

        :param names: whose acknowledgement commits wait for, from the first one on.
        :raises PostgresError: it could not be started.
        """
        self._is_adopted = True
        self._upstream = None
        self.names_asked = names
        await self.pacing.choose(names, is_running=False)
        (self.data_dir / "standby.signal").unlink(missing_ok=True)
        await self._start(None)
        forget(self.data_dir)

    async def start_standby(self, leader: Member | None) -> None:
        """Start in recovery, following *leader*; it answers later.

        :raises PostgresError: it could not be started.
        """
        self._is_adopted = True
        self._upstream = self.files.upstream(leader) if leader else None
        self.names_asked = None
        await self.pacing.choose("", is_running=False)
        (self.data_dir / "standby.signal").touch(0o600)
        await self.copies.before_start(self._upstream, self.files.parameters(self._dynamic, None))
        await self._start(await self._read_control())

    async def _start(self, limits: Control | None) -> None:
        if self.postmaster() is None:
            await clear_leftovers(self.data_dir, self._cage)
        self.files.write_pgpass()
        self._control = limits or await self._read_control()
        self._write_server_config(limits)
        postgres = self._config.postgres
        arguments = ["start", "-W", "-s", "-D", str(self.data_dir), "-l", str(postgres.log_file)]
        command = self._cage.wrap([self.programs.path("pg_ctl"), *arguments])
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
        if await process.wait() != 0:
            raise CommandError("pg_ctl", process.returncode or 1, self._log_tail())
        try:
            await until(self._has_postmaster, every=POLL_SECONDS, within=PID_FILE_SECONDS)
        except TimeoutError as error:
            raise CommandError("postgres", 1, self._log_tail()) from error
        # What waited for a restart waits no more.
        self._pending.look_again()

    async def _has_postmaster(self) -> bool:
        return self.postmaster() is not None

    async def wait_until_answering(self, within: float) -> None:
        """Wait until the instance accepts connections.

        :param within: seconds.
        :raises PostgresError: it ended, or does not answer in time.
        """
        await come_true(self._answers_or_died, "PostgreSQL did not come up", within)

    async def _answers_or_died(self) -> bool:
        if self.postmaster() is None:
            raise CommandError("postgres", 1, self._log_tail())
        try:
            await self.query("SELECT 1")
        except PostgresError:
            return False
        return True

    def _log_tail(self) -> str:
        return last_words(self._config.postgres.log_file)

    async def stop(self, within: float) -> None:
        """Stop in fast mode: clients are cut off, a shutdown checkpoint is written.

        After *within* seconds it is stopped immediately instead.

        :raises PostgresError: it does not end even then.
        """
        await before_stop(self._config.postgres.before_stop)
        await self._connection.close()
        postmaster = self.postmaster()
        if postmaster is None:
            return
        postmaster.send(signal.SIGINT)
        if not await postmaster.wait(within):
            log.warning("PostgreSQL did not stop within %s s: stopping it immediately", within)
            await self.stop_now()
        if postmaster.is_alive:
            raise PostgresError("PostgreSQL does not end although it was killed")

    async def shut_down(self, within: float) -> int:
        """Stop in fast mode until no commit can be made any more.

        Logical walsenders are ended first: PostgreSQL would not shut down before a slow subscriber
        has everything, and its slot keeps what it lacks. Archiver and physical walsenders may live
        on for a while (see `ended`); the instance counts as stopped all the same.

        :param within: seconds.
        :return: where the shutdown checkpoint begins (bytes): who has WAL beyond it has everything.
        :raises PostgresError: it did not come to that.
        """
        await before_stop(self._config.postgres.before_stop)
        await end_subscriptions(self.query)
        await self._connection.close()
        postmaster = self.postmaster()
        if postmaster is None:
            raise PostgresError("PostgreSQL is not running")
        postmaster.send(signal.SIGINT)

        async def is_shut_down() -> bool:
            was_alive = postmaster.is_alive
            self._control = await self._read_control()
            is_over = self._control is not None and self._control.state == "shut down"
            if not (is_over or was_alive):
                raise PostgresError("PostgreSQL ended without a shutdown checkpoint")
            return is_over

        await come_true(is_shut_down, "PostgreSQL did not shut down", within)
        assert self._control is not None
        self._ended = postmaster
        return self._control.checkpoint

    async def ended(self, within: float) -> bool:
        """Wait until nothing is left of the instance that `shut_down` has stopped."""
        return self._ended is None or await self._ended.wait(within)

    async def stop_now(self) -> None:
        """Stop immediately; kill every process of the instance if that takes long.

        One that waits for a dead disk cannot end, but it cannot acknowledge anything either: a
        killed process runs no more code of its own. So its end is not awaited for long.
        """
        await self._connection.close()
        postmaster = self.postmaster()
        if postmaster is not None:
            postmaster.send(signal.SIGQUIT)
            await postmaster.wait(KILL_AFTER_SECONDS)
        # Backends that outlive their postmaster for a moment could still acknowledge.
        self.kill()
        if postmaster is not None and not await postmaster.wait(DEATH_SECONDS):
            log.critical("PostgreSQL is killed and does not end; does a disk not answer?")

    def kill(self) -> None:
        """Kill every process of the instance at once; the last resort against two primaries."""
        DoomedInstance(str(self.data_dir), str(self._cage.path or "")).kill()

    # Roles

    async def follow(self, leader: Member) -> None:
        """Point the running standby at *leader*; its receiver reconnects by itself."""
        self._upstream = self.files.upstream(leader)
        await self.rewrite()

    async def stop_receiving(self, within: float) -> None:
        """Have the running standby stream from nobody, and wait until its receiver has ended.

        :param within: seconds.
        :raises PostgresError: it does not answer, or goes on receiving.
        """
        self._upstream = None
        await self.rewrite()
        await come_true(self._receives_nothing, "the WAL receiver did not end", within)

    async def _receives_nothing(self) -> bool:
        [row] = await self.query(
            "SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS "
            "(SELECT FROM pg_stat_wal_receiver) AS nothing"
        )
        return bool(row["nothing"])

    async def reserve_timeline(self, ours: int, wanted: int) -> bool:
        """Have the next promotion, from *ours*, make timeline *wanted*; tell whether it will."""
        wal = self.data_dir / "pg_wal"
        skip_timelines(wal, range(ours + 1, wanted))
        # One that broke off may have begun it already.
        return not (wal / f"{wanted:08X}.history").exists()

    async def promote(
        self, names: str, within: float, is_allowed: Callable[[], bool] = lambda: True
    ) -> None:
        """Promote the running standby and wait until it accepts writes, *within* seconds.

        :param names: whose acknowledgement commits wait for.
        :param is_allowed: asked at the last moment: the agent may have been frozen meanwhile.
        :raises PostgresError: it was refused or does not happen in time.
        """
        await self.set_sync_names(names)

        async def is_in_force() -> bool:
            [row] = await self.query("SHOW synchronous_standby_names")
            return bool(row["synchronous_standby_names"] == names)

        await come_true(is_in_force, "synchronous_standby_names did not come into force", within)
        if not is_allowed():
            raise PostgresError("the lease ran out before PostgreSQL was promoted")
        await self.query("SELECT pg_promote(false)")
        await come_true(self._is_primary, "promotion did not end", within)
        self._upstream = None

    async def _is_primary(self) -> bool:
        [row] = await self.query("SELECT pg_is_in_recovery() AS in_recovery")
        return not row["in_recovery"]

    async def checkpoint(self, within: float = 3600) -> None:
        """Write a checkpoint, *within* seconds.

        :raises PostgresError: the server refused or went away, or it takes longer.
        """
        connection = Connection(self.local_conninfo(), QUERY_SECONDS)
        try:
            await connection.query("CHECKPOINT", within=within)
        finally:
            await connection.close()

    # Birth

    async def initdb(self, options: Mapping[str, Any]) -> None:
        """Create the data directory with initdb's long *options*; raises PostgresError."""
        await run_initdb(self, options)

    async def clone(self, source: Member | None) -> None:
        """Fill the data directory with a copy of *source*, or a backup; raises PostgresError."""
        await make_copy(self, source)

    async def bootstrap(self, method: BootstrapMethod) -> None:
        """Create the data directory with the operator's command; raises PostgresError."""
        await run_bootstrap_method(self, method)

    def set_aside(self, suffix: str) -> Path | None:
        """Rename the data directory, replacing what was set aside so before; None without one."""
        return set_aside(self.data_dir, suffix)

    async def create_accounts(self) -> None:
        """Create the roles the agent and its peers use, with SCRAM verifiers."""
        await create_accounts(self._connection, self._config.postgres)
