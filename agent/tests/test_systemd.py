# SPDX-License-Identifier: GPL-3.0-or-later
"""What vouches for the agent, and what systemd is asked; a script plays its part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import NOW
from agent.tests.fakes import Clock
from pgherd.config import Timing
from pgherd.notify import Notifier
from pgherd.systemd import ROUND_SECONDS, SignsOfLife, is_restart

if TYPE_CHECKING:
    from pathlib import Path

UNIT = "pgherd.service"


class RecordingNotifier(Notifier):
    """Writes down what systemd would be told."""

    def __init__(self, allowed: float | None = 0.004) -> None:
        super().__init__()
        self.allowed = allowed
        self.told: list[str] = []
        self.pinged = asyncio.Event()

    @property
    def limit(self) -> float | None:
        return self.allowed

    def _send(self, message: str) -> None:
        self.told.append(message)
        if message == "WATCHDOG=1":
            self.pinged.set()


async def settle(turns: int = 50) -> None:
    """Let the pinging task come round some times."""
    for _ in range(turns):
        await asyncio.sleep(0.001)


class TestSignsOfLife:
    def setup_method(self) -> None:
        self.clock = Clock()
        self.unit_allows(0.004)

    def unit_allows(self, seconds: float | None) -> None:
        self.notifier = RecordingNotifier(seconds)
        self.signs = SignsOfLife(self.notifier, self.clock, Timing())

    async def test_systemd_is_pinged_between_the_rounds(self) -> None:
        """A round may wait for etcd: that is no reason to kill the agent."""
        running = asyncio.create_task(self.signs.run())
        for _ in range(3):
            self.notifier.pinged.clear()
            async with asyncio.timeout(10):
                await self.notifier.pinged.wait()
            self.clock.now += ROUND_SECONDS / 4
        running.cancel()

    async def test_a_loop_that_makes_no_rounds_is_not_vouched_for(self) -> None:
        self.clock.now += ROUND_SECONDS + 1
        running = asyncio.create_task(self.signs.run())
        await settle()
        assert self.notifier.told == []
        self.signs.alive("lead: steady")
        async with asyncio.timeout(10):
            await self.notifier.pinged.wait()
        running.cancel()

    async def test_a_round_that_never_comes_is_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.clock.now += ROUND_SECONDS + 1
        running = asyncio.create_task(self.signs.run())
        await settle()
        running.cancel()
        assert [record.levelname for record in caplog.records] == ["CRITICAL"]

    async def test_a_primarys_agent_may_hang_for_less_long(self) -> None:
        self.unit_allows(10.0)
        running = asyncio.create_task(self.signs.run())
        await settle(5)
        for _ in range(2):
            self.signs.arm(NOW)
        await settle(5)
        for _ in range(2):
            self.signs.disarm()
        await settle(5)
        # The event loop is told at once that the next ping is due sooner.
        assert [word for word in self.notifier.told if word != "WATCHDOG=1"] == [
            "WATCHDOG_USEC=1400000",
            "WATCHDOG_USEC=10000000",
        ]
        assert self.notifier.told.count("WATCHDOG=1") == 3
        running.cancel()

    @pytest.mark.parametrize(("ttl", "keepalive"), [(2, 0.4), (5, 1.0), (30, 5.0)])
    def test_a_successor_has_more_time_to_start_than_the_noticing_took(
        self, ttl: int, keepalive: float
    ) -> None:
        timing = Timing(lease_ttl=ttl, keepalive_interval=keepalive)
        left = ttl - timing.margin - keepalive
        assert timing.silence_limit < left / 2

    def test_the_unit_is_never_made_laxer(self) -> None:
        self.unit_allows(1.0)
        self.signs.arm(NOW)
        assert self.notifier.told == []

    async def test_where_systemd_waits_for_nothing_no_limit_is_set(self) -> None:
        self.unit_allows(None)
        running = asyncio.create_task(self.signs.run())
        self.signs.arm(NOW)
        await settle(5)
        assert not running.done()
        assert set(self.notifier.told) <= {"WATCHDOG=1"}
        running.cancel()

    def test_the_status_is_told_when_it_changes(self) -> None:
        self.signs.ready("serving")
        for status in ("lead: steady", "lead: steady", "stream: steady"):
            self.signs.alive(status)
        self.signs.stopping("stopping")
        assert self.notifier.told == [
            "READY=1\nSTATUS=serving",
            "STATUS=lead: steady",
            "STATUS=stream: steady",
            "STOPPING=1\nSTATUS=stopping",
        ]


def systemctl(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a `systemctl` of the shell lines *body* first in the path."""
    path = directory / "systemctl"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        (f"123 {UNIT} restart running", True),
        (f"123 {UNIT} stop running", False),
        (f"1 other.service restart waiting\n2 {UNIT} stop running", False),
        (f"1 other.service stop waiting\n2 {UNIT} restart running", True),
        ("", False),
        ("No jobs running.", False),
    ],
)
async def test_a_restart_is_told_from_a_stop_by_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str, expected: bool
) -> None:
    systemctl(tmp_path, monkeypatch, f"cat <<'END'\n{jobs}\nEND")
    assert await is_restart(UNIT, within=20) is expected


async def test_exactly_our_unit_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, f'echo "$*" > {tmp_path}/asked')
    await is_restart(UNIT, within=20)
    assert (tmp_path / "asked").read_text().split() == [
        "list-jobs",
        "--no-legend",
        "--plain",
        UNIT,
    ]


async def test_a_systemd_that_does_not_answer_counts_as_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, "exec tail -f /dev/null")
    assert not await is_restart(UNIT, within=0.2)


async def test_where_there_is_no_systemd_it_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not await is_restart(UNIT, within=20)
