# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as the zipapp runs it, and an agent that answers what it is told to."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from agent.tests.builders import ME, raw_config
from agent.tests.etcd_processes import free_ports
from pgherd.__main__ import main

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


class Command:
    """Runs the command line as the zipapp does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code and what was written to standard output and error."""
        self._monkeypatch.setattr(sys, "argv", ["pgherd", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        output, problems = self._capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, output, problems


@pytest.fixture
def pgherd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def write(directory: Path, raw: Any) -> str:
    """Write a configuration file and return its path."""
    path = directory / "pgherd.yml"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


class Agent:
    """The REST API of one member: what it is asked is kept, what it answers is said beforehand.

    :param answers: status, body and headers by method and path; a list is gone through.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], Any] = {}
        self.headers: list[dict[str, str]] = []
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                agent._serve(self)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def changes(self) -> list[tuple[str, str, Any]]:
        """What it was asked to do, without what it was only asked to tell."""
        return [each for each in self.asked if each[0] != "GET"]

    def say(self, method: str, path: str, status: int, body: Any = "", **headers: str) -> None:
        """Have it answer so; said again for one path, the answers are given in turn."""
        self.answers.setdefault((method, path), []).append((status, body, headers))

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS on connections from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        text = request.rfile.read(length).decode()
        self.asked.append((request.command, request.path, json.loads(text) if text else None))
        self.headers.append(dict(request.headers))
        known = self.answers.get((request.command, request.path), [(503, "", {})])
        status, body, headers = known.pop(0) if len(known) > 1 else known[0]
        if status == 0:
            # It dies in the middle of it.
            request.close_connection = True
            request.connection.close()
            return
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent on loopback, which knows nothing yet."""
    known = Agent()
    yield known
    known.stop()


class Host:
    """A host with a configuration, whose agent (and every other member's) is *agent*."""

    def __init__(
        self, run: Command, agent: Agent, directory: Path, etcd: list[str], **sections: Any
    ) -> None:
        self.run = run
        self.agent = agent
        rest = {
            "listen": agent.address,
            "connect_address": agent.address,
            "authentication": {"username": "herd", "password": "s3cret"},
        }
        raw = raw_config(directory, restapi=rest, etcd3={"hosts": etcd}, **sections)
        self.path = write(directory, raw)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, output and complaints of a command on this host."""
        return self.run(*arguments, "--config", self.path)

    def json(self, *arguments: str) -> Any:
        """Return what a command answers that goes well."""
        code, output, problems = self(*arguments, "--json")
        assert code == 0, problems
        return json.loads(output)

    def member(self, name: str, role: str = "replica", **changes: Any) -> dict[str, Any]:
        """Return a row of GET /cluster."""
        state = "running" if role == "leader" else "streaming"
        url = f"http://{self.agent.address}/patroni"
        row = {"name": name, "role": role, "state": state, "api_url": url, "timeline": 1}
        return {**row, "host": name, "port": 5432, "lag": 0, **changes}

    def show(self, *rows: dict[str, Any], **changes: Any) -> None:
        """Have the agent tell of a cluster: pg1 leads pg2 and pg3, unless *rows* say otherwise."""
        usual = (self.member(ME, "leader"), self.member("pg2"), self.member("pg3"))
        body = {"members": list(rows or usual), "scope": "demo", **changes}
        self.agent.answers.pop(("GET", "/cluster"), None)
        self.agent.say("GET", "/cluster", 200, body)


@pytest.fixture
def host(pgherd: Command, agent: Agent, tmp_path: Path) -> Host:
    """A host of a healthy cluster of three, without an etcd."""
    known = Host(pgherd, agent, tmp_path, [f"127.0.0.1:{free_ports(1)[0]}"])
    known.show()
    return known
