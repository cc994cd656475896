# SPDX-License-Identifier: GPL-3.0-or-later
"""The local instance's every move over real PostgreSQL processes."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, nodes
from pgherd.errors import CommandError, NotAnsweringError, PostgresError
from pgherd.model import Instance, Process
from pgherd.pending_restart import LOOKS
from pgherd.pgfiles import slot_name
from pgherd.rejoin import is_diverged, rejoin
from pgherd.waiting import until

TRICKY = "it's 100 % \\ 'quoted'\nand more"


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


class TestOneInstance:
    async def test_it_is_born_observed_stopped_and_started_again(self) -> None:
        async with nodes(1, **{"pgherd.word": TRICKY}) as [node]:
            assert await node.postgres.observe() == Instance()
            await node.create()
            seen = await node.postgres.observe()
            assert (seen.is_primary, seen.timeline, seen.owes_checkpoint) == (True, 1, False)
            assert seen.position > 0
            assert seen.system_id is not None
            [row] = await node.postgres.query("SELECT current_setting('pgherd.word') AS word")
            assert row["word"] == TRICKY
            names = {"postgres", "replicator", "pgherd_rewind"}
            rows = await node.postgres.query("SELECT rolname FROM pg_authid WHERE rolcanlogin")
            assert {row["rolname"] for row in rows} == names

            await node.postgres.stop(WITHIN)
            stopped = await node.postgres.observe()
            assert stopped.process is Process.STOPPED
            assert stopped.control is not None
            assert stopped.control.was_stopped_cleanly
            assert stopped.control.was_primary
            assert stopped.system_id == seen.system_id

            await node.postgres.start_primary()
            await node.postgres.wait_until_answering(WITHIN)
            assert (await node.postgres.observe()).timeline == 1

    async def test_who_asks_at_the_same_time_shares_a_connection(self) -> None:
        """The loop and the REST API do; a second connection would be lost and kept open."""
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres._connection.close()
            count = (
                "SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'"
            )
            rows = await asyncio.gather(*(node.postgres.query(count) for _ in range(10)))
            assert [row["n"] for [row] in rows] == [1] * 10

    async def test_a_crash_is_noticed_at_once_and_leaves_its_mark(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            node.postgres.kill()
            async with asyncio.timeout(WITHIN):
                await node.died.wait()
            crashed = await node.postgres.observe()
            assert crashed.control is not None
            assert crashed.control.state == "in production"
            await node.postgres.start_primary()
            await node.postgres.wait_until_answering(WITHIN)
            assert (await node.postgres.observe()).is_primary

    async def test_one_that_hangs_does_not_answer_and_may_write(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            [row] = await node.postgres.query("SELECT pg_backend_pid() AS pid")
            postmaster = node.postgres.postmaster()
            assert postmaster is not None
            with pytest.raises(NotAnsweringError):
                await node.postgres.query("SELECT pg_sleep(60)")
            postmaster.send(signal.SIGSTOP)
            hung = await node.postgres.observe()
            postmaster.send(signal.SIGCONT)
            assert (hung.process, hung.may_write) == (Process.STARTING, True)
            assert row["pid"] > 0
            assert (await node.postgres.observe()).is_primary

    async def test_a_setting_that_needs_a_restart_is_told(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            assert await node.postgres.configure(node.config, {"max_connections": 55})

            async def is_told() -> bool:
                # The postmaster reads its files when the signal has reached it.
                await node.postgres.refresh_pending_restart()
                return bool((await node.postgres.observe()).pending_restart)

            await until(is_told, every=0.02, within=WITHIN)
            changed = (await node.postgres.observe()).pending_restart
            assert changed["max_connections"] == {"old_value": "100", "new_value": "55"}
            assert not await node.postgres.configure(node.config, {"max_connections": 55})
            for _ in range(LOOKS):
                assert (await node.postgres.observe()).pending_restart
            await node.postgres.stop(WITHIN)
            await node.postgres.start_primary()
            await node.postgres.wait_until_answering(WITHIN)
            assert not (await node.postgres.observe()).pending_restart

    async def test_one_that_cannot_start_says_why(self) -> None:
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.stop(WITHIN)
            await node.postgres.configure(node.config, {"shared_buffers_of": "x"})
            with pytest.raises(CommandError, match="contains errors"):
                await node.postgres.start_primary()

    async def test_what_is_in_the_way_of_a_new_directory_stays(self) -> None:
        async with nodes(1) as [node]:
            node.postgres.data_dir.mkdir()
            (node.postgres.data_dir / "precious").write_text("x")
            with pytest.raises(PostgresError, match="is left as it is"):
                await node.postgres.initdb(node.config.initdb)
            assert [each.name for each in node.postgres.data_dir.iterdir()] == ["precious"]


class TestTwoInstances:
    async def test_a_copy_streams_is_promoted_and_the_old_primary_rejoins(self) -> None:
        """R21, R25, R26: a clean stop needs no rewind, diverged WAL does."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            seen = await second.streams()
            assert seen.upstream == f"127.0.0.1:{first.config.postgres.port}"
            assert seen.sender == seen.upstream
            assert (await first.postgres.observe()).sender is None
            await second.catches_up(await first.write("one"))
            assert slot_name("pg2") in (await first.postgres.observe()).slots
            [replica] = (await first.postgres.observe()).replication
            assert (replica["application_name"], replica["state"]) == ("pg2", "streaming")

            await first.postgres.stop(WITHIN)
            await second.postgres.promote("", WITHIN)
            promoted = await second.postgres.observe()
            assert (promoted.is_primary, promoted.timeline) == (True, 2)
            await second.postgres.checkpoint()
            assert not (await second.postgres.observe()).owes_checkpoint
            assert [branch.timeline for branch in second.postgres.local_history(2)] == [1]

            await second.postgres.slots.ensure(["pg1"], {})
            await rejoin(first.postgres, second.member, second.member, True, WITHIN)
            await first.streams()
            await first.catches_up(await second.write("two"))
            assert await first.words() == ["one", "two"]

    @pytest.mark.parametrize("use_rewind", [True, False])
    async def test_wal_that_diverged_is_undone_by_rewind_or_by_a_new_copy(
        self, use_rewind: bool
    ) -> None:
        """R25: both went on for a while; what the loser wrote then must go."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await second.catches_up(await first.write("both"))
            await second.postgres.promote("", WITHIN)
            await second.postgres.checkpoint()
            await first.write("lost")
            await second.write("kept")
            first.postgres.kill()
            async with asyncio.timeout(WITHIN):
                await first.died.wait()
            await second.postgres.slots.ensure(["pg1"], {})
            await rejoin(first.postgres, second.member, second.member, use_rewind, WITHIN)
            await first.streams()
            await first.catches_up(await second.write("later"))
            assert await first.words() == ["both", "kept", "later"]

    async def test_a_standby_knows_whether_it_has_diverged(self) -> None:
        """R25."""
        async with nodes(2) as [first, second]:
            await first.create()
            await second.copy(first)
            await second.catches_up(await first.write("both"))
            seen = await first.postgres.observe()
            with pytest.raises(NotAnsweringError, match="not a primary"):
                await is_diverged(first.postgres, seen, second.member, WITHIN)
            await second.postgres.promote("", WITHIN)
            await second.write("kept")
            await first.write("lost")
            ahead = await first.postgres.observe()
            timeline, [branch] = await first.postgres.leader_history(second.member, WITHIN)
            assert (timeline, branch.timeline) == (2, 1)
            assert branch.end < ahead.position
            behind = replace(ahead, location=branch.end)
            assert not await is_diverged(first.postgres, behind, second.member, WITHIN)
            assert await is_diverged(first.postgres, ahead, second.member, WITHIN)
            half_a_record = replace(
                ahead,
                in_recovery=True,
                location=None,
                received=branch.end + 24,
                replayed=branch.end,
            )
            assert not await is_diverged(first.postgres, half_a_record, second.member, WITHIN)

    async def test_a_standby_is_pointed_elsewhere_without_a_restart(self) -> None:
        async with nodes(3) as [first, second, third]:
            await first.create()
            await second.copy(first)
            await third.copy(first)
            started = (await third.postgres.observe()).started_at
            await first.postgres.stop(WITHIN)
            await second.postgres.promote("", WITHIN)
            await second.postgres.slots.ensure(["pg3"], {})
            await third.postgres.follow(second.member)
            await third.catches_up(await second.write("x"))
            seen = await third.streams()
            assert seen.upstream == f"127.0.0.1:{second.config.postgres.port}"
            assert (seen.started_at, seen.timeline) == (started, 2)

            # Its control file still names the timeline of its last restart point.
            second.postgres.kill()
            alone = await third.loses_its_upstream()
            assert (alone.timeline, alone.receiver_status) == (2, None)

    async def test_slots_are_made_advanced_and_dropped(self) -> None:
        """R35."""
        async with nodes(1) as [node]:
            await node.create()
            await node.postgres.slots.ensure(["PG-9"], {})
            before = (await node.postgres.observe()).slots["pg_9"]["restart"]
            assert before > 0, "it holds no WAL until somebody comes"
            position = await node.write("x")
            await node.postgres.slots.advance("pg_9", position)
            assert (await node.postgres.observe()).slots["pg_9"]["restart"] == position > before
            await node.postgres.slots.drop("pg_9")
            assert (await node.postgres.observe()).slots == {}
