# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd is told; a socket plays its part."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from pgherd.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    notifier.ping()
    notifier.set_limit(0.52)
    notifier.status("lead: steady")
    notifier.stopping("stopping PostgreSQL")
    assert [channel.recv(1000) for _ in range(5)] == [
        b"READY=1\nSTATUS=serving",
        b"WATCHDOG=1",
        b"WATCHDOG_USEC=520000",
        b"STATUS=lead: steady",
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
    notifier.ping()
    channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        channel.recv(1000)


def test_a_service_manager_that_reads_nothing_holds_nobody_up(channel: socket.socket) -> None:
    notifier = Notifier()
    for _ in range(5000):
        notifier.ping()
    assert channel.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("allowed", "limit"), [("2000000", 2.0), (None, None), ("", None), ("soon", None)]
)
def test_what_the_unit_allows_is_known(
    monkeypatch: pytest.MonkeyPatch, allowed: str | None, limit: float | None
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if allowed is not None:
        monkeypatch.setenv("WATCHDOG_USEC", allowed)
    assert Notifier().limit == limit
