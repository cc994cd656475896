# SPDX-License-Identifier: GPL-3.0-or-later
"""Data directories made by commands, with real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.postgres_processes import WITHIN, Node, nodes
from agent.tests.test_hooks import script
from pgherd.births import RECOVERY_SECONDS, _start_primary
from pgherd.config import build
from pgherd.errors import CommandError, PostgresError
from pgherd.methods import run_post_init
from pgherd.model import Remote
from pgherd.pglog import last_words
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pgherd.model import Instance


def reconfigured(node: Node, **postgresql: Any) -> Node:
    """Return *node*, its section `postgresql` extended."""
    node.raw["postgresql"] |= postgresql
    node.config = build(node.raw)
    node.postgres._config = node.config
    return node


def exists(path: Path) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await asyncio.to_thread(path.exists)

    return look


def copying(node: Node, source: Node) -> str:
    """Return a command that copies a stopped or running source with pg_basebackup -d."""
    place = node.config.postgres.data_dir.parent
    return script(
        place,
        f'echo "$@" > {place}/arguments\n'
        'for each in "$@"; do case $each in\n'
        "--datadir=*) dir=${each#*=};; --connstring=*) to=${each#*=};; esac; done\n"
        f'{node.config.postgres.bin_dir}/pg_basebackup -D "$dir" -d "$to" -c fast',
    )


class TestReplicas:
    async def test_a_command_copies_with_what_patroni_documents(self) -> None:
        async with nodes(2) as [one, two]:
            await one.create()
            await one.write("before")
            command = copying(two, one)
            reconfigured(
                two,
                create_replica_methods=["missing", "own", "basebackup"],
                missing={"command": "/bin/false"},
                own={"command": command, "threads": 4},
            )
            await one.postgres.slots.ensure(["pg2"], {})
            await two.postgres.clone(one.member)
            arguments = (two.config.postgres.data_dir.parent / "arguments").read_text()
            assert "--threads=4 --scope=demo --role=replica --datadir=" in arguments
            assert "--connstring=user='replicator'" in arguments
            await two.postgres.configure(two.config, {})
            await two.postgres.start_standby(one.member)
            await two.streams()
            assert await two.words() == ["before"]

    async def test_another_cluster_is_copied_as_it_is_told(self) -> None:
        """`standby_cluster.create_replica_methods`: patroni.md 3.1."""
        async with nodes(2) as [one, two]:
            await one.create()
            reconfigured(two, own={"command": copying(two, one)})
            await two.postgres.configure(two.config, {})
            data = {**one.member.data, "create_replica_methods": ["own"]}
            remote = Remote(data={"host": one.member.host, "port": one.member.port, **data})
            await two.postgres.clone(remote)
            arguments = two.config.postgres.data_dir.parent / "arguments"
            assert await exists(arguments)()

    async def test_the_next_method_begins_with_an_empty_directory(self) -> None:
        async with nodes(2) as [one, two]:
            await one.create()
            place = two.config.postgres.data_dir.parent
            half = script(place, f"touch {two.config.postgres.data_dir}/PG_VERSION; exit 1")
            reconfigured(two, create_replica_methods=["own", "basebackup"], own={"command": half})
            await two.postgres.clone(one.member)
            assert (two.config.postgres.data_dir / "PG_VERSION").read_text().strip().isdigit()

    async def test_half_of_a_directory_is_no_data_for_the_next_agent(self) -> None:
        async with nodes(2) as [one, two]:
            data_dir = two.config.postgres.data_dir
            slow = script(data_dir.parent, f"touch {data_dir}/PG_VERSION; sleep 1000")
            reconfigured(two, create_replica_methods=["own"], own={"command": slow})
            work = asyncio.create_task(two.postgres.clone(one.member))
            await until(exists(data_dir / "PG_VERSION"), every=0.02, within=WITHIN)
            assert not (await two.postgres.observe()).has_data
            work.cancel()
            await asyncio.wait({work})
            assert not data_dir.exists()

    async def test_what_is_in_the_way_is_left_as_it_is(self) -> None:
        async with nodes(1) as [one]:
            data_dir = one.config.postgres.data_dir
            data_dir.mkdir()
            (data_dir / "precious").touch()
            reconfigured(one, create_replica_methods=["own"], own={"command": "true"})
            with pytest.raises(PostgresError, match="not empty"):
                await one.postgres.clone(one.member)
            assert (data_dir / "precious").exists()

    async def test_a_command_that_makes_nothing_has_failed(self) -> None:
        async with nodes(1) as [one]:
            reconfigured(one, create_replica_methods=["own"], own={"command": "true"})
            with pytest.raises(CommandError, match="left no data directory"):
                await one.postgres.clone(one.member)

    async def test_without_a_member_only_methods_that_need_none_are_tried(self) -> None:
        async with nodes(1) as [one]:
            place = one.config.postgres.data_dir.parent
            command = script(place, f'echo "$@" > {place}/arguments; exit 1')
            own = {"command": command, "no_leader": True, "no_params": True, "level": 2}
            reconfigured(
                one, create_replica_methods=["other", "own"], own=own, other={"command": "true"}
            )
            with pytest.raises(CommandError):
                await one.postgres.clone(None)
            assert (place / "arguments").read_text() == "--level=2\n"

    async def test_another_cluster_may_be_copied_in_another_way(self) -> None:
        """`standby_cluster` has methods of its own (patroni.md 3.1)."""
        async with nodes(2) as [one, two]:
            await one.create()
            reconfigured(two, create_replica_methods=["own"], own={"command": "/bin/false"})
            where = {"host": one.member.host, "port": one.member.port}
            with pytest.raises(CommandError):
                await two.postgres.clone(Remote(data=where))
            way = {"create_replica_methods": ["basebackup"]}
            await two.postgres.clone(Remote(data={**where, **way}))
            assert (await two.postgres.observe()).has_data

    async def test_pg_basebackup_gets_its_options(self) -> None:
        async with nodes(2) as [one, two]:
            await one.create()
            wal = two.config.postgres.data_dir.parent / "wal"
            reconfigured(two, basebackup=[{"waldir": str(wal)}, "no-verify-checksums"])
            await two.postgres.clone(one.member)
            assert (two.config.postgres.data_dir / "pg_wal").readlink() == wal


class TestTheFirstOne:
    async def restored(self, one: Node, two: Node, **method: Any) -> None:
        """Make *two* out of a backup of *one*, as a new cluster."""
        backup = one.config.postgres.data_dir.parent / "backup"
        await one.postgres.programs.run(
            "pg_basebackup", "-D", str(backup), "-c", "fast", "-X", "stream",
            "-d", one.postgres.files.upstream_conninfo("127.0.0.1", one.member.port, "replicator"),
        )  # fmt: skip
        place = two.config.postgres.data_dir.parent
        command = script(
            place, f'echo "$@" > {place}/arguments; cp -a {backup}/. "${{2#--datadir=}}"/'
        )
        two.raw["bootstrap"] |= {"method": "own", "own": {"command": command, **method}}
        two.config = build(two.raw)
        two.postgres._config = two.config
        assert two.config.method is not None
        await two.postgres.bootstrap(two.config.method)

    async def test_a_backup_becomes_a_cluster(self) -> None:
        told: list[str] = []
        async with nodes(2) as [one, two]:
            await one.create()
            await one.write("saved")
            await self.restored(one, two, level=3)
            arguments = (two.config.postgres.data_dir.parent / "arguments").read_text()
            assert arguments.startswith("--scope=demo --datadir=")
            assert arguments.endswith(" --level=3\n")
            await _start_primary(two.config, two.postgres, told.append)
            assert await two.words() == ["saved"]
            assert told == ["starting after custom bootstrap"]

    async def test_it_recovers_to_a_point_and_forgets_how(self) -> None:
        assert RECOVERY_SECONDS > 86400
        async with nodes(2) as [one, two]:
            place = one.config.postgres.data_dir.parent
            archive = place / "archive"
            archive.mkdir()
            parameters = {
                **one.raw["postgresql"]["parameters"],
                "archive_mode": "on",
                "archive_command": f"cp %p {archive}/%f",
            }
            reconfigured(one, parameters=parameters)
            await one.create()
            await one.write("early")
            recovery = {
                "restore_command": f"cp {archive}/%f %p",
                "recovery_target_name": "here",
                "recovery_target_timeline": "latest",
            }
            await self.restored(one, two, recovery_conf=recovery)
            await one.write("in time")
            await one.postgres.query("SELECT pg_create_restore_point('here')")
            await one.write("too late")
            await one.postgres.query("SELECT pg_switch_wal()")
            await self._archived(one, archive)
            await _start_primary(two.config, two.postgres, lambda phase: None)
            assert await two.words() == ["early", "in time"]
            content = (two.config.postgres.data_dir / "postgresql.conf").read_text()
            assert "recovery_target_name" not in content
            assert not (two.config.postgres.data_dir / "recovery.signal").exists()

    async def _archived(self, one: Node, archive: Path) -> None:
        [row] = await one.postgres.query("SELECT pg_walfile_name(pg_current_wal_lsn() - 1) AS name")
        await until(exists(archive / row["name"]), every=0.05, within=WITHIN)

    async def test_post_init_reaches_it_as_superuser(self) -> None:
        async with nodes(1) as [one]:
            await one.create()
            psql = one.config.postgres.bin_dir / "psql"
            command = script(
                one.config.postgres.data_dir.parent,
                f'{psql} -X "$1" -c "CREATE TABLE public.made ()" && test -f "$PGPASSFILE"',
            )
            await run_post_init(one.postgres, command)
            [row] = await one.postgres.query("SELECT count(*) AS count FROM public.made")
            assert row["count"] == 0
            with pytest.raises(CommandError):
                await run_post_init(one.postgres, "/bin/false")


class TestWhatAStandbyHoldsBack:
    """PostgreSQL documentation 26.4.4: lowered on the primary first."""

    async def test_it_waits_until_the_primary_has_less(self) -> None:
        async with nodes(2) as [one, two]:
            await one.create()
            await two.copy(one)
            lower = {"max_connections": 60}
            for node in (one, two):
                await node.postgres.configure(node.config, lower)
            reason = {"max_connections": {"old_value": "100", "new_value": "60"}}

            def waits(seen: Instance) -> bool:
                return dict(seen.pending_restart) == reason

            await two._becomes(waits)
            assert self.written(two) == "'100'"
            await one.postgres.stop(WITHIN)
            await one.postgres.start_primary()
            await one.postgres.wait_until_answering(WITHIN)
            seen = await two._becomes(lambda seen: self.written(two) == "'60'")
            assert seen.is_standby
            await two._becomes(waits)
            await two.postgres.stop(WITHIN)
            await two.postgres.start_standby(one.member)
            await two._becomes(lambda seen: seen.is_running and not seen.pending_restart)
            [row] = await two.postgres.query("SHOW max_connections")
            assert row["max_connections"] == "60", last_words(two.config.postgres.log_file)

    async def test_one_that_has_less_than_its_primary_is_seen_and_comes_back_with_enough(
        self,
    ) -> None:
        """PostgreSQL pauses its replay until it is restarted, and goes on telling that it streams.

        Seen on a replica that was made from a backup, with WAL of higher limits on the way.
        """
        async with nodes(2) as [one, two]:
            await one.create()
            await two.copy(one)
            await one.postgres.configure(one.config, {"max_connections": 150})
            await one.postgres.stop(WITHIN)
            await one.postgres.start_primary()
            await one.postgres.wait_until_answering(WITHIN)
            seen = await two._becomes(lambda seen: seen.lacks_limits)
            assert seen.replay_paused
            assert self.written(two) == "'150'"
            await two.postgres.stop(WITHIN)
            await two.postgres.start_standby(one.member)
            position = await one.write("after the restart")
            seen = await two.catches_up(position)
            assert not seen.replay_paused
            assert not seen.lacks_limits

    async def test_one_whose_replay_an_operator_has_paused_lacks_nothing(self) -> None:
        async with nodes(2) as [one, two]:
            await one.create()
            await two.copy(one)
            await two.postgres.query("SELECT pg_wal_replay_pause()")
            seen = await two._becomes(lambda seen: seen.replay_paused)
            assert not seen.lacks_limits

    def written(self, node: Node) -> str:
        content = (node.config.postgres.data_dir / "postgresql.conf").read_text()
        lines = dict(line.split(" = ", 1) for line in content.splitlines() if " = " in line)
        return lines["max_connections"]
