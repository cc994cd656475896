# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON over HTTP, against real sockets."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpFailed,
    HttpRefused,
    HttpSilent,
    _reason,
    request_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(BaseHTTPRequestHandler):
    """Answers with method and body; /sick with an error of etcd's form, /text with no JSON."""

    def answer(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        data = json.dumps({"method": self.command, "body": body, "error": "too few members"})
        self.send_response(503 if self.path == "/sick" else 200)
        self.end_headers()
        self.wfile.write(b"hello" if self.path == "/text" else data.encode())

    do_GET = answer
    do_POST = answer

    def log_message(self, *_words: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    """Run a server on loopback and return its URL."""
    with HTTPServer(("127.0.0.1", 0), Echo) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_get_and_post(server: str) -> None:
    assert request_json(server)["method"] == "GET"
    posted = request_json(server, {"key": "a"})
    assert (posted["method"], posted["body"]) == ("POST", '{"key": "a"}')


def test_an_error_carries_status_and_reason(server: str) -> None:
    with pytest.raises(HttpFailed, match="too few members") as caught:
        request_json(server + "/sick")
    assert caught.value.status == 503


def test_an_error_that_was_expected_is_an_answer(server: str) -> None:
    assert request_json(server + "/sick", accept=(503,))["method"] == "GET"


def test_what_is_not_json_is_an_error(server: str) -> None:
    with pytest.raises(HttpFailed, match="not JSON: 'hello'"):
        request_json(server + "/text")


def test_nobody_there_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(HttpRefused, match="refused"):
        request_json(f"http://127.0.0.1:{port}")


def test_a_server_that_hangs_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        port = hung.getsockname()[1]
        with pytest.raises(HttpSilent, match=r"no answer within 0\.2 s"):
            request_json(f"http://127.0.0.1:{port}", timeout_seconds=0.2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"error": "no leader"}', "no leader"),
        ('{"message": "not found", "code": 5}', "not found"),
        ('{"code": 5}', '{"code": 5}'),
        ("[1, 2]", "[1, 2]"),
        ("  Bad gateway\n", "Bad gateway"),
        ("x" * 300, "x" * 200),
    ],
)
def test_of_an_error_the_sentence_in_it_is_told(text: str, reason: str) -> None:
    assert _reason(text) == reason
