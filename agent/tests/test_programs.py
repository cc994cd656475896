# SPDX-License-Identifier: GPL-3.0-or-later
"""Running programs, and reading pg_controldata."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from agent.tests.builders import LIMITS, SYSTEM_ID
from pgherd.errors import CommandError
from pgherd.model import Control
from pgherd.programs import Programs, parse_control, parse_fields
from pgherd.waiting import until

OUTPUT = f"""\
pg_control version number:            1300
Database system identifier:           {SYSTEM_ID}
Database cluster state:               in production
pg_control last modified:             Thu 01 Jan 2026 10:00:00 AM UTC
Latest checkpoint location:           16/B374D848
Latest checkpoint's REDO location:    16/B374D810
Latest checkpoint's TimeLineID:       3
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
"""


def children() -> list[str]:
    """Return the processes that this thread started, by their ids."""
    return read(Path(f"/proc/self/task/{threading.get_native_id()}/children")).split()


def read(path: Path) -> str:
    """Return what is in the file *path*; blocks the event loop."""
    return path.read_text()


def script(directory: Path, name: str, body: str) -> Programs:
    """Make the program *name* of the shell lines *body*; return the directory's programs."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return Programs(directory, {"PGAPPNAME": "tests"})


class TestControl:
    def test_it_is_read(self) -> None:
        assert parse_control(parse_fields(OUTPUT)) == Control(
            system_id=SYSTEM_ID,
            state="in production",
            timeline=3,
            checkpoint=0x16B374D848,
            limits=LIMITS,
        )

    @pytest.mark.parametrize(
        "label",
        [
            "Database system identifier",
            "Database cluster state",
            "Latest checkpoint location",
            "Latest checkpoint's TimeLineID",
            "max_locks_per_xact setting",
        ],
    )
    def test_a_missing_line_is_named(self, label: str) -> None:
        lines = [line for line in OUTPUT.splitlines() if not line.startswith(label)]
        with pytest.raises(CommandError, match=label):
            parse_control(parse_fields("\n".join(lines)))

    @pytest.mark.parametrize("wrong", ["TimeLineID:       x", "TimeLineID: "])
    def test_a_damaged_line_is_an_error(self, wrong: str) -> None:
        with pytest.raises(CommandError, match="unexpected output"):
            parse_control(parse_fields(OUTPUT.replace("TimeLineID:       3", wrong)))

    async def test_it_is_asked_of_the_program(self, tmp_path: Path) -> None:
        (tmp_path / "output").write_text(OUTPUT)
        programs = script(tmp_path, "pg_controldata", 'cat "$1"')
        assert (await programs.control(tmp_path / "output")).timeline == 3


def endless(directory: Path, fifo: Path) -> Programs:
    """Make a `tool` that says one thing, then that it runs into a new *fifo*, and never ends."""
    os.mkfifo(fifo)
    # Its child has the pipe as well, and goes with it.
    return script(directory, "tool", f"echo one >&2; echo on > {fifo}; tail -f /dev/null")


class TestRunning:
    async def test_what_it_prints_is_returned(self, tmp_path: Path) -> None:
        assert await script(tmp_path, "tool", 'printf "%s|" "$@"').run("tool", "a b", "") == "a b||"

    async def test_what_it_tells_is_logged_as_it_comes_and_kept_when_it_fails(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = "yes | head -n 100000; echo one >&2; echo 'error: two' >&2; echo three >&2; exit $1"
        programs = script(tmp_path, "tool", body)
        heard: list[str] = []
        with caplog.at_level("INFO", "pgherd.programs"):
            await programs.watch("tool", "0", heard=heard)
        assert heard == caplog.messages == ["one", "error: two", "three"]
        with pytest.raises(CommandError, match="exit code 3: error: two"):
            await programs.watch("tool", "3", heard=heard)
        assert heard[3:] == heard[:3]

    async def test_what_it_told_before_it_was_given_up_is_heard(self, tmp_path: Path) -> None:
        fifo, heard = tmp_path / "fifo", list[str]()
        running = asyncio.create_task(endless(tmp_path, fifo).watch("tool", heard=heard))
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(fifo.read_text) == "on\n"
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert heard == ["one"]

    async def test_so_is_what_it_told_before_its_start_was_known(self, tmp_path: Path) -> None:
        fifo, heard = tmp_path / "fifo", list[str]()
        running = asyncio.create_task(endless(tmp_path, fifo).watch("tool", heard=heard))
        before = children()

        async def forked() -> bool:
            return children() != before

        await until(forked, every=0, within=20)
        # While this thread waits for the program, asyncio cannot learn that it runs.
        assert read(fifo) == "on\n"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert heard == ["one"]

    async def test_the_last_line_is_that_of_a_program_that_fails_too(self, tmp_path: Path) -> None:
        programs = script(tmp_path, "tool", "echo \"$1\"; echo 'a  b'; echo problem >&2; exit 1")
        assert await programs.last_line("tool", "x y") == "a  b"
        assert await script(tmp_path, "tool", "exit 0").last_line("tool") == ""

    async def test_it_speaks_english_and_gets_the_environment(self, tmp_path: Path) -> None:
        programs = script(tmp_path, "tool", 'echo "$LC_ALL $PGAPPNAME"')
        assert await programs.run("tool") == "C tests\n"

    async def test_it_waits_for_no_input(self, tmp_path: Path) -> None:
        assert await script(tmp_path, "tool", "cat; echo done").run("tool") == "done\n"

    async def test_a_failure_tells_the_exit_code_and_the_last_line(self, tmp_path: Path) -> None:
        programs = script(tmp_path, "tool", "echo first >&2; echo 'FATAL: no' >&2; exit 3")
        with pytest.raises(CommandError) as caught:
            await programs.run("tool")
        assert (caught.value.program, caught.value.code) == ("tool", 3)
        assert str(caught.value) == "tool ended with exit code 3: FATAL: no"
        assert caught.value.output == "first\nFATAL: no"

    async def test_a_program_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="nothing"):
            await Programs(tmp_path, {}).run("nothing")

    async def test_output_that_is_not_text_is_no_error(self, tmp_path: Path) -> None:
        assert "a" in await script(tmp_path, "tool", r"printf 'a\377'").run("tool")

    async def test_a_cancelled_caller_takes_the_program_with_it(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        programs = script(tmp_path, "tool", f"exec > {fifo}; echo runs; exec tail -f /dev/null")
        running = asyncio.create_task(programs.run("tool"))
        async with asyncio.timeout(20):
            with await asyncio.to_thread(fifo.open) as output:
                assert await asyncio.to_thread(output.readline) == "runs\n"
                running.cancel()
                # The end of the file comes when nobody has it open for writing any more.
                assert await asyncio.to_thread(output.read) == ""
        with pytest.raises(asyncio.CancelledError):
            await running
