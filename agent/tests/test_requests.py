# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP as it is read and written: what is taken, what is refused with which code."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.answers import Answer
from pgherd.requests import (
    BODY_LIMIT,
    HEAD_LIMIT,
    BadRequestError,
    Request,
    head_end,
    parse_head,
    render,
)


def parse(text: str) -> Request:
    """Read the head *text*, whose lines end with a line feed here."""
    return parse_head(text.replace("\n", "\r\n").encode() + b"\r\n\r\n")


class TestWhatIsTaken:
    def test_method_path_query_and_headers(self) -> None:
        request = parse("GET /replica?lag=10MB&lag=1&x= HTTP/1.1\nHost: pg1\nX-A:  b c \nx-a: d")
        assert (request.method, request.path) == ("GET", "/replica")
        assert request.query == {"lag": "10MB", "x": ""}
        assert request.headers == {"host": "pg1", "x-a": "b c, d"}
        assert request.length is None

    @pytest.mark.parametrize(
        ("target", "path", "segment"),
        [
            ("/", "/", ""),
            ("//leader", "/leader", "leader"),
            ("///", "/", ""),
            ("*", "/*", "*"),
            ("/operations/3f/", "/operations/3f/", "operations"),
            ("http://pg1:8008/cluster?a=b", "/cluster", "cluster"),
            ("http://pg1:8008", "/", ""),
            ("/%72eplica#part", "/replica", "replica"),
            ("/%ff%00", "/\ufffd\x00", "\ufffd\x00"),
        ],
    )
    def test_targets(self, target: str, path: str, segment: str) -> None:
        request = parse(f"GET {target} HTTP/1.1")
        assert (request.path, request.segment) == (path, segment)

    @pytest.mark.parametrize(
        ("version", "header", "keeps"),
        [
            ("1.1", "", True),
            ("1.1", "\nConnection: close", False),
            ("1.1", "\nConnection: Close, TE", False),
            ("1.0", "", False),
            ("1.0", "\nConnection: Keep-Alive", True),
        ],
    )
    def test_who_keeps_the_connection(self, version: str, header: str, keeps: bool) -> None:
        assert parse(f"GET / HTTP/{version}{header}").keeps_alive is keeps

    def test_lines_may_end_without_a_carriage_return(self) -> None:
        assert parse_head(b"GET / HTTP/1.0\nHost: x\n\n").headers == {"host": "x"}

    def test_the_end_of_the_head(self) -> None:
        assert head_end(b"GET / HTTP/1.1\r\n") is None
        assert head_end(b"GET / HTTP/1.1\r\n\r\nbody") == 18
        assert head_end(b"GET / HTTP/1.1\n\nbody") == 16


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("", 400),
            ("GET /", 400),
            ("GET / HTTP/1.1 x", 400),
            ("GET  / HTTP/1.1", 400),
            ("G@T / HTTP/1.1", 400),
            ("GET / FTP/1.1", 400),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/1.1\nno header", 400),
            ("GET / HTTP/1.1\nname : value", 400),
            ("GET / HTTP/1.1\nA: b\n folded: c", 400),
            ("GET /" + "a" * 9000 + " HTTP/1.1", 414),
            ("GET / HTTP/1.1" + "\na: b" * 101, 431),
            ("GET /?" + "a=b&" * 60 + " HTTP/1.1", 400),
            ("POST / HTTP/1.1\nContent-Length: -1", 400),
            ("POST / HTTP/1.1\nContent-Length: 1_0", 400),
            ("POST / HTTP/1.1\nContent-Length: ", 400),
            ("POST / HTTP/1.1\nContent-Length: 5\nContent-Length: 5", 400),
            ("POST / HTTP/1.1\nAuthorization: a\nAuthorization: b", 400),
            (f"POST / HTTP/1.1\nContent-Length: {BODY_LIMIT + 1}", 413),
            ("POST / HTTP/1.1\nTransfer-Encoding: chunked", 411),
            ("POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 5", 411),
        ],
    )
    def test_with_a_code(self, text: str, status: int) -> None:
        with pytest.raises(BadRequestError) as caught:
            parse(text)
        assert caught.value.status == status

    @pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
    def test_a_head_that_is_too_long(self, end: bytes) -> None:
        with pytest.raises(BadRequestError) as caught:
            head_end(b"a" * (HEAD_LIMIT + 1) + end)
        assert caught.value.status == 431

    @given(st.binary(max_size=200) | st.text().map(lambda text: f"GET /{text}".encode()))
    def test_nothing_else_can_go_wrong(self, head: bytes) -> None:
        end = head_end(head + b"\r\n\r\n")
        assert end is not None
        with contextlib.suppress(BadRequestError):
            request = parse_head((head + b"\r\n\r\n")[:end])
            assert request.path.startswith("/")


class TestAnswers:
    def test_a_text_is_html_as_patroni_sends_it(self) -> None:
        sent = render(Answer(202, "ä", {"A": "b"}), parse("GET / HTTP/1.1"), {"Server": "s"},
                      keeps_alive=True)  # fmt: skip
        assert sent == (
            b"HTTP/1.1 202 Accepted\r\nServer: s\r\nContent-Type: text/html; charset=utf-8\r\n"
            b"Content-Length: 2\r\nConnection: keep-alive\r\nA: b\r\n\r\n\xc3\xa4"
        )

    @pytest.mark.parametrize(
        ("body", "sent", "content_type"),
        [
            ({"a": [1]}, b'{"a":[1]}', b"application/json"),
            (b"x 1", b"x 1", b"text/plain; charset=utf-8"),
        ],
    )
    def test_other_bodies(self, body: object, sent: bytes, content_type: bytes) -> None:
        text = render(Answer(200, body), None, {}, keeps_alive=False)
        assert text.endswith(b"\r\n\r\n" + sent)
        assert b"Content-Type: " + content_type + b"\r\n" in text
        assert b"Connection: close" in text

    def test_nothing_can_be_slipped_in(self) -> None:
        sent = render(Answer(200, "\ud800", {"A": "b\r\nC: d"}), None, {}, keeps_alive=False)
        assert b"\r\nA: b  C: d\r\n" in sent
        assert sent.endswith(b"\r\n\r\n?")

    @pytest.mark.parametrize(("method", "length"), [("HEAD", b"4"), ("OPTIONS", b"0")])
    def test_head_and_options_bring_no_body(self, method: str, length: bytes) -> None:
        sent = render(Answer(503, "text"), parse(f"{method} / HTTP/1.0"), {}, keeps_alive=False)
        assert sent.startswith(b"HTTP/1.0 503 Service Unavailable\r\n")
        assert b"Content-Length: " + length in sent
        assert sent.endswith(b"\r\n\r\n")
