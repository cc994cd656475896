# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told, and what it is asked; a socket and a script play its part."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from pgherd.systemd import Notifier, is_restart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNIT = "pgherd.service"


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the socket systemd would listen on."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(path)
        yield bound


def test_readiness_life_and_end_are_told(channel: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("serving")
    notifier.alive("lead: steady")
    notifier.stopping("stopping PostgreSQL")
    assert [channel.recv(1000) for _ in range(3)] == [
        b"READY=1\nSTATUS=serving",
        b"WATCHDOG=1\nSTATUS=lead: steady",
        b"STOPPING=1\nSTATUS=stopping PostgreSQL",
    ]


def test_an_abstract_socket_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"pgherd-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(f"\0{name}")
        Notifier().ready("serving")
        assert bound.recv(1000) == b"READY=1\nSTATUS=serving"


def test_a_service_manager_that_went_away_is_no_error(
    channel: socket.socket, tmp_path: Path
) -> None:
    notifier = Notifier()
    (tmp_path / "notify").unlink()
    notifier.alive("lead")
    channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        channel.recv(1000)


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
