# SPDX-License-Identifier: GPL-3.0-or-later
"""A former primary's way back, over real PostgreSQL processes: each way, and each way to fail."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.postgres_processes import INSTALLED, MISSING, WITHIN, Node, nodes
from pgherd.config import KeepDiverged
from pgherd.divergence import Divergence
from pgherd.errors import CommandError, PostgresError
from pgherd.model import format_lsn
from pgherd.programs import Programs
from pgherd.rejoin import rejoin
from pgherd.salvage import Salvage
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not INSTALLED:
        pytest.fail(MISSING, pytrace=False)


@pytest.fixture(scope="module")
def made_before() -> Iterator[dict[str, Path]]:
    """Directories of pairs that have been made, by their parameters."""
    known: dict[str, Path] = {}
    yield known
    for path in known.values():
        shutil.rmtree(path)


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, made_before: dict[str, Path]
) -> AsyncIterator[list[Node]]:
    """A former primary that crashed with a row of its own, and the leader that went on."""
    parameters = getattr(request, "param", {})
    async with nodes(2, **parameters) as made:
        _, second = made
        template = made_before.get(str(parameters))
        if template is None:
            await make_pair(*made)
            # The tests run as another user here.
            template = made_before[str(parameters)] = Path(tempfile.mkdtemp(prefix="pgherd-"))
            for node in made:
                shutil.copytree(node.postgres.data_dir, template / node.config.name)
        else:
            for node in made:
                shutil.copytree(template / node.config.name, node.postgres.data_dir)
                node.postgres.files.write_pgpass()
        await second.postgres.start_primary()
        await second.postgres.wait_until_answering(WITHIN)
        yield made


async def make_pair(first: Node, second: Node) -> None:
    """Have both write after the second one's promotion; crash the first one, stop the other."""
    await first.create()
    await second.copy(first)
    await second.catches_up(await first.write("both"))
    await second.postgres.promote("", WITHIN)
    await second.postgres.checkpoint()
    await second.postgres.slots.ensure(["pg1"], {})
    await first.write("lost")
    # The segment is whole then, and waits to be archived.
    await first.postgres.query("SELECT pg_switch_wal()")
    await second.write("kept")
    await crash(first)
    await second.postgres.stop(WITHIN)


async def crash(node: Node) -> None:
    """Kill every process of *node*."""
    node.died.clear()
    node.postgres.kill()
    async with asyncio.timeout(WITHIN):
        await node.died.wait()


def told(node: Node, **changes: int) -> None:
    """Have *node* keep what has diverged within other bounds."""
    raw = node.config.postgres
    object.__setattr__(raw, "keep_diverged", KeepDiverged(**changes))


def beside(node: Node) -> list[str]:
    """Return what is beside the data directory, when all that is being removed is gone."""
    for thread in threading.enumerate():
        if thread.name == "trash":
            thread.join()
    names = (path.name for path in node.postgres.data_dir.parent.iterdir())
    return sorted(name for name in names if name.startswith("data"))


def kept(node: Node) -> Path:
    """Return the one place where something is kept."""
    [place] = node.postgres.data_dir.with_name("data.diverged").iterdir()
    return place


def pretend(node: Node, monkeypatch: pytest.MonkeyPatch, program: str, body: str) -> None:
    """Have shell lines run in place of one of PostgreSQL's programs."""
    path = node.postgres.data_dir.with_name(program)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    real = node.postgres.programs.path

    def instead(name: str) -> str:
        return str(path) if name == program else real(name)

    monkeypatch.setattr(node.postgres.programs, "path", instead)


class Held:
    """A pg_rewind that waits until it may go on.

    :param before: shell lines that run before it waits.
    :param after: those that run then.
    """

    def __init__(
        self, node: Node, monkeypatch: pytest.MonkeyPatch, before: str = "", after: str = ""
    ) -> None:
        self._began = node.postgres.data_dir.with_name("began")
        fifo = node.postgres.data_dir.with_name("fifo")
        os.mkfifo(fifo)
        # Open for both, so that nobody waits for the other side: the end comes when it is closed.
        self._fd = os.open(fifo, os.O_RDWR)
        body = f"{before}\ntouch {self._began}\ncat {fifo} > /dev/null\n{after}"
        pretend(node, monkeypatch, "pg_rewind", body)

    async def begins(self) -> None:
        """Wait until it runs."""

        async def exists() -> bool:
            return self._began.exists()

        await until(exists, every=0.02, within=WITHIN)

    def go_on(self) -> None:
        """Let it go on."""
        os.close(self._fd)


async def streams_from(first: Node, second: Node) -> None:
    """Wait until *first* has what *second* writes, and nothing else."""
    await first.streams()
    await first.catches_up(await second.write("later"))
    assert await first.words() == ["both", "kept", "later"]


async def test_pg_rewind_undoes_what_is_kept_before_and_told(
    pair: list[Node], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pair
    [branch] = second.postgres.local_history(2)
    control = (await first.postgres.observe()).control
    assert control is not None
    past = await Salvage(first.postgres).past(control)
    with caplog.at_level("INFO"):
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
    await streams_from(first, second)
    place = kept(first)
    start, end = format_lsn(branch.end), format_lsn(past.end)
    assert (
        f"WAL from {start} to {end} of timeline 1 is not part of the cluster "
        f"(leader pg2 went on at {start} with timeline 2); kept in {place}"
    ) in caplog.messages
    assert any("pg_rewind: Done!" in message for message in caplog.messages)
    assert beside(first) == ["data", "data.diverged"]

    # As the note says.
    waldump = ["--path", str(place), "--timeline=1", f"--start={start}", f"--end={end}"]
    dump = await first.postgres.programs.run("pg_waldump", *waldump)
    assert "COMMIT" in dump
    assert f"--timeline=1 --start={start}" in (place / "about.txt").read_text()


async def test_a_new_copy_keeps_the_whole_old_directory(pair: list[Node]) -> None:
    first, second = pair
    await rejoin(first.postgres, second.member, second.member, False, WITHIN)
    await streams_from(first, second)
    assert (kept(first) / "data/PG_VERSION").exists()
    assert beside(first) == ["data", "data.diverged"]


async def test_one_that_does_not_fit_leaves_its_wal(pair: list[Node]) -> None:
    first, second = pair
    told(first, count=1, max_mb=20)
    await rejoin(first.postgres, second.member, second.member, False, WITHIN)
    await streams_from(first, second)
    names = sorted(path.name for path in kept(first).iterdir())
    # One segment fits.
    assert names == ["000000010000000000000003", "about.txt"]
    assert beside(first) == ["data", "data.diverged"]


@pytest.mark.parametrize("use_rewind", [True, False])
async def test_nothing_is_kept_when_told_so(
    pair: list[Node], caplog: pytest.LogCaptureFixture, use_rewind: bool
) -> None:
    first, second = pair
    told(first, count=0)
    await rejoin(first.postgres, second.member, second.member, use_rewind, WITHIN)
    await streams_from(first, second)
    assert beside(first) == ["data"]
    assert "nothing of it is kept" in caplog.text


async def test_a_crash_that_lost_nothing_needs_no_rewind() -> None:
    async with nodes(2) as [first, second]:
        await first.create()
        await second.copy(first)
        await second.catches_up(await first.write("both"))
        await crash(first)
        await second.postgres.promote("", WITHIN)
        await second.write("kept")
        await second.postgres.slots.ensure(["pg1"], {})
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert beside(first) == ["data"]


class TestFailing:
    async def test_a_copy_that_fails_puts_the_old_directory_back(self, pair: list[Node]) -> None:
        first, second = pair
        await second.postgres.query("ALTER ROLE replicator NOLOGIN")
        with pytest.raises(CommandError, match="pg_basebackup"):
            await rejoin(first.postgres, second.member, second.member, False, WITHIN)
        assert (first.postgres.data_dir / "PG_VERSION").exists()
        assert "data" in beside(first)
        assert list(first.postgres.data_dir.with_name("data.diverged").iterdir()) == []
        told(first, count=0)
        with pytest.raises(CommandError, match="pg_basebackup"):
            await rejoin(first.postgres, second.member, second.member, False, WITHIN)
        assert (first.postgres.data_dir / "PG_VERSION").exists()
        await second.postgres.query("ALTER ROLE replicator LOGIN")
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)

    @pytest.mark.parametrize(
        "body",
        [
            "echo 'pg_rewind: error: it cannot' >&2; exit 1",
            "echo 'pg_rewind: no rewind required' >&2; exit 0",
            "echo 'pg_rewind: rewinding from last common checkpoint at X' >&2; exit 1",
        ],
        ids=["at once", "nothing to do", "half way"],
    )
    async def test_pg_rewind_that_fails_against_a_good_leader_means_a_new_copy(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch, body: str
    ) -> None:
        first, second = pair
        pretend(first, monkeypatch, "pg_rewind", body)
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert (kept(first) / "about.txt").exists()
        assert (kept(first) / "data").exists() is ("last common" not in body)
        assert beside(first) == ["data", "data.diverged"]

    async def test_when_the_leader_is_gone_it_is_tried_again_later(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """R27."""
        first, second = pair
        fails = "echo 'pg_rewind: error: could not connect' >&2; exit 1"
        held = Held(first, monkeypatch, after=fails)
        rejoining = asyncio.create_task(
            rejoin(first.postgres, second.member, second.member, True, WITHIN)
        )
        await held.begins()
        await crash(second)
        held.go_on()
        with pytest.raises(PostgresError):
            await rejoining
        assert first.postgres.postmaster() is None
        assert (first.postgres.data_dir / "PG_VERSION").exists()

        await second.postgres.start_primary()
        await second.postgres.wait_until_answering(WITHIN)
        monkeypatch.undo()
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)

    async def test_what_is_half_rewound_is_never_started(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = pair
        begun = "echo 'pg_rewind: rewinding from last common checkpoint at X' >&2"
        held = Held(first, monkeypatch, before=begun)
        rejoining = asyncio.create_task(
            rejoin(first.postgres, second.member, second.member, True, WITHIN)
        )
        await held.begins()
        # As at the agent's end.
        rejoining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rejoining
        held.go_on()
        assert beside(first) == ["data.diverged", "data.rewinding"]
        assert not (await first.postgres.observe()).has_data

        await first.postgres.clone(second.member)
        await first.postgres.start_standby(second.member)
        await streams_from(first, second)
        assert beside(first) == ["data", "data.diverged"]

    async def test_one_cancelled_before_it_has_changed_anything_is_put_back(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = pair
        held = Held(first, monkeypatch)
        (first.postgres.data_dir / "standby.signal").touch()
        rejoining = asyncio.create_task(
            rejoin(first.postgres, second.member, second.member, True, WITHIN)
        )
        await held.begins()
        rejoining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rejoining
        held.go_on()
        assert beside(first) == ["data", "data.diverged"]
        # A standby must not come back as a primary.
        assert (first.postgres.data_dir / "standby.signal").exists()

    async def test_without_pg_rewind_there_is_a_new_copy(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R24."""
        first, second = pair
        pretend(first, monkeypatch, "pg_rewind", "")
        first.postgres.data_dir.with_name("pg_rewind").unlink()
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert "pg_rewind cannot be used: there is no " in caplog.text

    @pytest.mark.parametrize("pair", [{"wal_log_hints": False}], indirect=True)
    async def test_without_hints_in_the_wal_there_is_a_new_copy(
        self, pair: list[Node], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R24."""
        first, second = pair
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert "it needs wal_log_hints or data checksums, and there are neither" in caplog.text


@pytest.mark.parametrize(
    "pair",
    [{"archive_mode": True, "archive_command": "test -d ../archive && cp %p ../archive/%f"}],
    indirect=True,
)
class TestArchive:
    """R26: segments that wait for it are archived before they are overwritten."""

    def waiting(self, node: Node) -> set[str]:
        status = node.postgres.data_dir / "pg_wal/archive_status"
        return {path.stem for path in status.glob("*.ready")}

    async def test_they_are_archived_and_missing_ones_are_fetched(
        self, pair: list[Node], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = pair
        archive = first.postgres.data_dir.with_name("archive")
        waiting = self.waiting(first)
        assert waiting
        archive.mkdir()
        config = first.postgres.data_dir / "postgresql.conf"
        config.write_text(config.read_text() + "restore_command = 'cp ../archive/%f %p'\n")
        real = Programs.watch
        seen: list[str] = []

        async def watch(programs: Programs, program: str, *arguments: str, heard: Any) -> None:
            seen.extend(arguments)
            await real(programs, program, *arguments, heard=heard)

        monkeypatch.setattr(Programs, "watch", watch)
        object.__setattr__(first.config.postgres, "rewind_options", {"progress": True})
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert waiting <= {path.name for path in archive.iterdir()}
        assert {"--restore-target-wal", "--progress"} <= set(seen)
        [source] = [each for each in seen if each.startswith("--source-server=")]
        assert "user='pgherd_rewind'" in source, "its own account, which is no superuser"

    async def test_a_failure_is_told_and_the_rejoin_goes_on(
        self, pair: list[Node], caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = pair
        await rejoin(first.postgres, second.member, second.member, True, WITHIN)
        await streams_from(first, second)
        assert "WAL that waits to be archived is left" in caplog.text

    async def test_on_a_timeline_that_is_the_leaders_too_its_names_are_left_alone(
        self, pair: list[Node]
    ) -> None:
        first, _ = pair
        archive = first.postgres.data_dir.with_name("archive")
        archive.mkdir()
        start = 0x3000100
        found = Divergence(1, start, start + 1, "pg2", 1, by_files=False)
        await Salvage(first.postgres).archive(found)
        assert not (archive / "000000010000000000000003").exists()
        assert "000000010000000000000003" in self.waiting(first)
