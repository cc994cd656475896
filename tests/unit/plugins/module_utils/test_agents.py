# SPDX-License-Identifier: GPL-3.0-or-later
"""The agents' REST API: who is asked when one is down, silent or says no."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpBroken,
    HttpFailed,
    HttpRefused,
    HttpSilent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Asked = list[tuple[str, str, str, Any]]


@pytest.fixture
def agent() -> Iterator[tuple[str, Asked]]:
    """An agent's address, and what it was asked: method, path, credentials, body."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            login = self.headers.get("Authorization") or ""
            asked.append((self.command, self.path, login, body))
            refused = self.path == "/refused"
            self.send_response(412 if refused else 200)
            self.end_headers()
            answer = {"error": "not now"} if refused else {"scope": "demo"}
            self.wfile.write(json.dumps([1] if self.path == "/history" else answer).encode())

        do_GET = do_POST = answer

        def log_message(self, *words: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def down() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def dying() -> Iterator[str]:
    """An address that reads the request and hangs up."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def take() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                connection.recv(65536)
                connection.close()

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_first_that_answers_is_asked(agent: tuple[str, Asked], down: str, silent: str) -> None:
    agents = Agents((down, silent, agent[0]), timeout_seconds=0.2)
    assert agents.cluster() == {"scope": "demo"}
    assert agents.config() == {"scope": "demo"}
    assert agents.history() == [1]
    assert [path for _method, path, _login, _body in agent[1]] == [
        "/cluster",
        "/config",
        "/history",
    ]


def test_who_was_silent_is_asked_last_from_then_on(agent: tuple[str, Asked], silent: str) -> None:
    agents = Agents((silent, agent[0]), timeout_seconds=0.2)
    agents.cluster()
    assert agents.passed_over == [silent]
    # With a silent one before it the request would be given up.
    agents.send("POST", "/switchover", {})
    assert agents.passed_over == [silent]


def test_all_that_were_tried_are_named(down: str, silent: str) -> None:
    with pytest.raises(HttpRefused) as error:
        Agents((down, silent), timeout_seconds=0.1).get("/cluster")
    assert down in str(error.value)
    assert f"{silent}: no answer within 0.1 s" in str(error.value)
    with pytest.raises(HttpRefused, match="none was named"):
        Agents(()).get("/cluster")


def test_who_says_no_is_not_passed_over(agent: tuple[str, Asked], down: str) -> None:
    with pytest.raises(HttpFailed, match="/refused: not now") as error:
        Agents((agent[0], down)).get("/refused")
    assert error.value.status == 412
    assert Agents((agent[0],)).get("/refused", accept=(412,)) == {"error": "not now"}


def test_only_what_changes_something_brings_the_password(
    agent: tuple[str, Asked], down: str
) -> None:
    params = {
        "agents": [down, f"{agent[0]}/"],
        "username": "ann",
        "password": "secret",
        "timeout_seconds": 2.0,
        "tls": {},
    }
    agents = Agents.of(params)
    agents.get("/cluster")
    reply = agents.send("POST", "/switchover", {"candidate": "pg2"})
    assert (reply.status, reply.json()) == (200, {"scope": "demo"})
    assert reply.headers["server"].startswith("BaseHTTP")
    assert agent[1] == [
        ("GET", "/cluster", "", None),
        ("POST", "/switchover", "Basic YW5uOnNlY3JldA==", {"candidate": "pg2"}),
    ]
    assert Agents.of({**params, "password": ""}).login is None


def test_a_silent_agent_may_be_at_work(agent: tuple[str, Asked], silent: str) -> None:
    agents = Agents((silent, agent[0]), timeout_seconds=5)
    with pytest.raises(HttpSilent, match=f"{silent}/switchover: no answer within 0.1 s"):
        agents.send("POST", "/switchover", {}, timeout_seconds=0.1)
    assert agent[1] == []
    agents.send("POST", "/restart", {}, at=agent[0])
    assert [path for _method, path, _login, _body in agent[1]] == ["/restart"]


def test_an_agent_that_died_may_have_been_at_work(agent: tuple[str, Asked], dying: str) -> None:
    assert Agents((dying, agent[0])).cluster() == {"scope": "demo"}
    agents = Agents((dying, agent[0]))
    with pytest.raises(HttpBroken, match=f"{dying}/switchover: "):
        agents.send("POST", "/switchover", {})
    assert [path for _method, path, _login, _body in agent[1]] == ["/cluster"]


@pytest.mark.parametrize(
    ("api_url", "url"),
    [
        ("https://10.0.0.1:8008/patroni", "https://10.0.0.1:8008"),
        ("http://[fd00::1]:8008/patroni", "http://[fd00::1]:8008"),
        ("", ""),
        (None, ""),
    ],
)
def test_where_a_member_listens(api_url: str | None, url: str) -> None:
    assert Agents.url_of({"name": "pg1", "api_url": api_url}) == url
