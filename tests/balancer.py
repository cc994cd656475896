# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy on loopback, before servers that say their names, and agents that say yes or no.

Each "host" is an address of 127.0.0.0/8, so that all of them may use the same ports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer, ThreadingTCPServer
from typing import TYPE_CHECKING, Any, Final

from ansible_collections.pgherd.cluster.plugins.filter.haproxy_config import (
    haproxy_config,
    haproxy_servers,
)
from ansible_collections.pgherd.cluster.plugins.filter.rto_timings import rto_timings

from lab import wait

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS: Final = {"a": "127.0.71.1", "b": "127.0.71.2", "c": "127.0.71.3"}
STATE_PROGRAM: Final = (
    Path(__file__).parents[1] / "roles" / "haproxy" / "files" / "haproxy_state.py"
)
PATIENCE_SECONDS: Final = 20.0
QUICK: Final = {
    "balancer_check_ms": 100,
    "balancer_check_fast_ms": 50,
    "balancer_check_timeout_ms": 500,
    "balancer_check_fall": 3,
}


def free_ports(count: int) -> list[int]:
    """Return *count* ports that nobody listens on at any address of loopback."""
    sockets = [socket.create_server(("0.0.0.0", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def plan(**changes: Any) -> dict[str, Any]:
    """Return what the role would know of a cluster on `HOSTS`, with *changes* in."""
    return {
        "hosts": dict(HOSTS),
        "postgresql_ports": dict.fromkeys(HOSTS, 5432),
        "pooler": True,
        "ports": {"rest": 8008, "pooler_rw": 6432, "pooler_ro": 6433},
        "taken": {},
        "timings": rto_timings("fast", QUICK),
        "bind_addresses": [],
        "listeners": {"rw": 5000, "ro": 5001, "sync": 0, "direct_rw": 0, "direct_ro": 0},
        "more_listeners": {},
        "acl": [],
        "guests": ["127.0.0.0/8"],
        "own": ["127.0.0.1"],
        "sync_check": "/sync",
        "ro_lag_mb": 100,
        "max_connections": 100,
        "threads": 1,
        "idle_timeout_seconds": 0,
        "slow_start_seconds": 0,
        "near": {"host": "", "sessions": 0},
        "statistics": {"port": 7000, "networks": [], "username": "pgherd", "password": ""},
        **changes,
    }


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds; raises LabError with *what* was waited for."""
    wait.until(condition, PATIENCE_SECONDS, what, every=0.02)


class _Named(BaseRequestHandler):
    """Says its server's name, then gives back what it gets until the client has enough."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        with suppress(OSError):
            self.request.sendall(server.name.encode() + b"\n")
            while data := self.request.recv(4096):
                self.request.sendall(data)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self.name = name
        super().__init__(address, _Named)


class _Agent(ThreadingHTTPServer):
    """Answers by path what it is told to."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], answers: dict[str, int]) -> None:
        self.answers = answers
        super().__init__(address, _Answers)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Agent)
        self.send_response(server.answers.get(self.path.partition("?")[0], 404))
        self.end_headers()

    def log_message(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class World:
    """Servers and agents of all hosts, and the HAProxy before them."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        rest, rw, ro, self.rw, self.ro, self.more, self.page = free_ports(7)
        extra = changes.pop("more_listeners", {})
        self.plan = plan(
            ports={"rest": rest, "pooler_rw": rw, "pooler_ro": ro},
            listeners={"rw": self.rw, "ro": self.ro, "sync": 0, "direct_rw": 0, "direct_ro": 0},
            more_listeners={name: {**entry, "port": self.more} for name, entry in extra.items()},
            **changes,
        )
        self.plan["statistics"]["port"] = self.page
        self.folder = folder
        self.socket = folder / "admin.sock"
        self.answers = {host: {"/pooler/rw": 200, "/pooler/ro": 200} for host in HOSTS}
        self.servers: dict[str, TCPServer] = {}
        for host, address in HOSTS.items():
            self.serve(f"agent {host}", _Agent((address, rest), self.answers[host]))
            self.serve(f"rw {host}", _Server((address, rw), f"rw {host}"))
            self.serve(f"ro {host}", _Server((address, ro), f"ro {host}"))
        self.process: subprocess.Popen[bytes] | None = None

    def serve(self, name: str, server: TCPServer) -> None:
        """Run *server* until `stop` or the end."""
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.servers[name] = server

    def stop(self, name: str) -> None:
        """End one server: who connects is refused."""
        server = self.servers.pop(name)
        server.shutdown()
        server.server_close()

    def write(self, overrides: dict[str, Any] | None = None) -> Path:
        """Write the configuration as the role does, but for what needs root."""
        mine: dict[str, Any] = {
            "log": None, "chroot": None, "user": None, "group": None,
            "stats socket": f"{self.socket} level admin expose-fd listeners",
            "server-state-file": self.folder / "servers.state",
        }  # fmt: skip
        path = self.folder / "haproxy.cfg"
        path.write_text(haproxy_config(self.plan, {"global": mine, **(overrides or {})}))
        timeout_ms = self.plan["timings"]["balancer_check_timeout_ms"]
        described = {"timeout_ms": timeout_ms, "servers": haproxy_servers(self.plan)}
        (self.folder / "servers.json").write_text(json.dumps(described))
        return path

    def look_first(self) -> None:
        """Run the program that runs before HAProxy starts or reloads."""
        subprocess.run(
            [sys.executable, STATE_PROGRAM, self.folder / "servers.json",
             self.folder / "servers.state", "--socket", self.socket],
            check=True,
        )  # fmt: skip

    def start(self) -> None:
        """Start HAProxy as the unit does, and wait until it answers."""
        path = self.write()
        self.look_first()
        self.process = subprocess.Popen(["haproxy", "-W", "-db", "-f", path])
        until(lambda: self.get("/health")[0] == 200, "HAProxy answers")

    def reload(self) -> None:
        """Reload HAProxy as the unit does, and wait until the new process has taken over."""
        assert self.process is not None
        before = self.worker()
        self.look_first()
        self.process.send_signal(signal.SIGUSR2)
        until(lambda: self.worker() not in ("", before), "the new process answers")

    def worker(self) -> str:
        """Return the number of the process that answers; empty when none does."""
        lines = self.ask("show info").splitlines()
        return next((line for line in lines if line.startswith("Pid:")), "")

    def ask(self, command: str) -> str:
        """Return what HAProxy says to *command*; empty when it does not listen."""
        with socket.socket(socket.AF_UNIX) as console:
            try:
                console.connect(str(self.socket))
                console.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: console.recv(65536), b"")).decode()
            except OSError:
                return ""

    def status(self, backend: str, host: str) -> str:
        """Return how HAProxy sees a server, as UP or DOWN."""
        for line in self.ask("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == [backend, host]:
                return fields[17].partition(" ")[0]
        return ""

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return code and text of the statistics' listener; 0 when it does not answer."""
        connection = HTTPConnection("127.0.0.1", self.page, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def close(self) -> None:
        """End everything that was started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait(PATIENCE_SECONDS)
        for name in list(self.servers):
            self.stop(name)


class Client:
    """A connection through HAProxy; *server* is whom it has reached, empty when nobody."""

    def __init__(self, port: int, source: str = "127.0.0.1", first: bytes = b"") -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), PATIENCE_SECONDS, source_address=(source, 0)
        )
        self.server = ""
        with suppress(OSError):
            self.socket.sendall(first)
            self.server = self.socket.recv(64).partition(b"\n")[0].decode()

    def lives(self) -> bool:
        """Tell whether what is sent comes back."""
        try:
            self.socket.sendall(b"ping")
            return self.socket.recv(64).endswith(b"ping")
        except OSError:
            return False

    def ended(self) -> bool:
        """Tell whether the other side has ended the connection; waits for it."""
        try:
            return self.socket.recv(64) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def startup(user: str, database: str, version: bytes = b"\0\3\0\0") -> bytes:
    """Return PostgreSQL's startup message."""
    words = [b"user", user.encode(), b"database", database.encode(), b"", b""]
    body = version + b"\0".join(words)
    return (len(body) + 4).to_bytes(4, "big") + body


def reached(port: int, source: str = "127.0.0.1", first: bytes = b"") -> str:
    """Return whom a new connection reaches; empty when it is not let in."""
    try:
        with Client(port, source, first) as client:
            return client.server
    except ConnectionResetError:
        # Refused as soon as it was there.
        return ""
