# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of a real HAProxy are drained and made ready."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.haproxy_server import (
    due,
    say,
    sessions,
    settle,
    states,
)

from agent.tests.etcd_processes import free_ports
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
global
  stats socket {path} mode 600 level admin
defaults
  mode tcp
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  timeout client-fin 1s
  timeout server-fin 1s
listen rw
  bind 127.0.0.1:{front}
  server pg1 127.0.0.1:{back} check inter 100ms
listen ro
  bind 127.0.0.1:{other}
  server pg1 127.0.0.1:{back}
  server pg2 127.0.0.1:{back}
"""


@pytest.fixture
def behind() -> Iterator[socket.socket]:
    """What the servers of HAProxy lead to: a listener that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def haproxy(behind: socket.socket) -> Iterator[tuple[str, int]]:
    """The socket of an HAProxy, and the port of its first listener."""
    front, other = free_ports(2)
    # A socket's path must be short, which pytest's are not.
    folder = Path(tempfile.mkdtemp())
    path = str(folder / "s")
    config = folder / "haproxy.cfg"
    back = behind.getsockname()[1]
    config.write_text(CONFIG.format(path=path, front=front, other=other, back=back))
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", str(config)]) as process:
        try:
            until(lambda: say(path, "show info"), 20, "HAProxy answers", passing=(OSError,))
            yield path, front
        finally:
            process.kill()
    shutil.rmtree(folder)


def test_a_server_is_drained_everywhere_and_once(haproxy: tuple[str, int]) -> None:
    path, _ = haproxy

    def todo(state: str) -> list[str]:
        found: list[str] = due(states(path, "pg1"), state)
        return found

    assert todo("ready") == []
    assert sorted(todo("drain")) == ["ro", "rw"]
    assert settle(path, "pg1", "drain", 0) == 0
    assert todo("drain") == []
    assert states(path, "pg2") == {"ro": "ready"}
    settle(path, "pg1", "maint", 0)
    assert todo("maint") == []
    settle(path, "pg1", "ready", 0)
    assert todo("ready") == []


def test_connections_are_waited_for_and_told(haproxy: tuple[str, int]) -> None:
    path, front = haproxy
    with contextlib.closing(socket.create_connection(("127.0.0.1", front))):
        until(lambda: sessions(path, "pg1") == 1, 20, "HAProxy counts it")
        assert settle(path, "pg1", "drain", 0.1) == 1
    assert settle(path, "pg1", "drain", 20) == 0


def test_a_drained_server_that_is_down_stays_drained(
    haproxy: tuple[str, int], behind: socket.socket
) -> None:
    """Its status says DOWN then, and nothing of the drain: a second run would drain it again."""
    path, _ = haproxy
    settle(path, "pg1", "drain", 0)
    behind.close()
    until(lambda: "DOWN" in say(path, "show stat"), 20, "HAProxy has seen that it is down")
    assert due(states(path, "pg1"), "drain") == []


def test_what_haproxy_does_not_know_is_no_row(haproxy: tuple[str, int]) -> None:
    path, _ = haproxy
    assert states(path, "pg9") == {}
    with pytest.raises(OSError, match="No such file"):
        say(f"{path}.gone", "show stat")
