# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API's server against clients that mean it ill, or do not know better."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from agent.tests.door import LIMIT, WITHIN, Door, opened
from pgherd import connection, server
from pgherd.access_config import Access
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHECK = b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    async with opened() as known:
        yield known


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every limit of time be short."""
    for name in ("HEAD", "BODY", "ANSWER", "IDLE", "LINGER"):
        monkeypatch.setattr(connection, f"{name}_SECONDS", 0.1)
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.05)


async def gone(door: Door) -> None:
    """Wait until the server has no connection."""

    async def is_empty() -> bool:
        return door.server.connections == 0

    await until(is_empty, every=0.01, within=WITHIN)


class TestRequests:
    async def test_a_connection_serves_many(self, door: Door) -> None:
        client = await door.connect()
        assert [await client.ask(path) for path in ("/", "//leader", "/replica?lag=1")] == [200] * 3
        assert [request.path for request in door.desk.seen] == ["/", "/leader", "/replica"]
        assert {request.remote for request in door.desk.seen} == {"127.0.0.1"}

    @pytest.mark.parametrize(
        "request_text",
        [
            b"GET / HTTP/1.0\r\n\r\n",
            b"OPTIONS / HTTP/1.0\r\n\r\n",
            b"HEAD /replica HTTP/1.0\n\n",
            b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        ],
    )
    async def test_or_one_as_haproxy_does_it(self, door: Door, request_text: bytes) -> None:
        client = await door.connect()
        client.send(request_text)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.")
        assert b" 200 OK\r\n" in answer
        assert answer.endswith(b"well") is request_text.startswith(b"GET")
        await gone(door)

    async def test_a_client_may_have_said_all_it_has_to_say(self, door: Door) -> None:
        """As `nc` and some probes do: they close their side having asked."""
        client = await door.connect()
        client.send(b"GET /page HTTP/1.1\r\n\r\n")
        client.writer.write_eof()
        door.desk.go.set()
        assert (await client.answer())[2] == b"/page"
        assert await client.rest() == b""

    async def test_requests_sent_at_once_are_answered_in_order(self, door: Door) -> None:
        client = await door.connect()
        client.send(b"GET /page/1 HTTP/1.1\r\n\r\nGET /page/2 HTTP/1.1\r\n\r\n" + CHECK)
        door.desk.go.set()
        bodies = [(await client.answer())[2] for _ in range(3)]
        assert bodies == [b"/page/1", b"/page/2", b"well"]

    async def test_a_request_may_come_in_pieces(self, door: Door) -> None:
        client = await door.connect()
        for position in range(len(CHECK)):
            client.send(CHECK[position : position + 1])
            await client.writer.drain()
        assert (await client.answer())[0] == 200

    async def test_headers_that_were_asked_for(self) -> None:
        access = Access(
            http_headers={"X-A": "b"}, https_headers={"X-S": "t"}, server_tokens="productonly"
        )
        async with opened(access) as door:
            client = await door.connect()
            client.send(CHECK)
            _, head, _ = await client.answer()
        assert b"\r\nServer: pgherd\r\nX-A: b\r\n" in head
        assert b"X-S" not in head

    async def test_what_fails_inside_is_a_500(
        self, door: Door, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise ZeroDivisionError

        door.desk.work = fail
        client = await door.connect()
        assert await client.ask() == 500
        assert "ZeroDivisionError" in caplog.text
        assert await client.ask("/echo") == 200


class TestBodies:
    async def test_a_body_is_read_when_it_is_wanted(self, door: Door) -> None:
        client = await door.connect()
        body = random.Random(4).randbytes(300_000)
        head = f"POST /echo HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        client.send(head + body + CHECK)
        assert (await client.answer())[2] == body
        assert (await client.answer())[2] == b"well"

    async def test_a_client_that_waits_for_leave_gets_it(self, door: Door) -> None:
        """curl does, before it sends a body."""
        client = await door.connect()
        client.send(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        async with asyncio.timeout(WITHIN):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        assert (await client.answer())[2] == b"ab"

    async def test_a_body_nobody_wants_is_not_taken_for_a_request(self, door: Door) -> None:
        client = await door.connect()
        head = f"POST /primary HTTP/1.1\r\nContent-Length: {len(CHECK)}\r\n\r\n".encode()
        client.send(head + CHECK)
        answer = await client.rest()
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in answer

    @pytest.mark.usefixtures("impatient")
    async def test_a_body_that_does_not_come(self, door: Door) -> None:
        client = await door.connect()
        client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\na")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        await gone(door)

    async def test_a_client_that_goes_amid_its_body(self, door: Door) -> None:
        client = await door.connect()
        client.send(b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\na")
        await client.writer.drain()
        client.close()
        await gone(door)
        assert door.desk.bodies == []

    @pytest.mark.parametrize(
        ("text", "status"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0", 411),
            (b"POST /echo HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
            (b"GET /" + b"a" * 10000 + b" HTTP/1.1\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000, 431),
            (b"GET / HTTP/3.0\r\n\r\n", 505),
        ],
    )
    async def test_what_cannot_be_answered_is_told_why(
        self, door: Door, text: bytes, status: int
    ) -> None:
        client = await door.connect()
        client.send(text)
        assert (await client.rest()).startswith(b"HTTP/1.1 %d " % status)
        await gone(door)

    @pytest.mark.parametrize("seed", range(5))
    async def test_garbage(self, door: Door, seed: int) -> None:
        """Random bytes, requests cut off and run together: the server is well afterwards."""
        dice = random.Random(seed)
        for _ in range(40):
            client = await door.connect()
            good = b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + CHECK
            cut = good[: dice.randrange(len(good))] + dice.randbytes(dice.randrange(64))
            client.send(dice.choice([dice.randbytes(200), cut, cut * 3, b"\r\n\r\n" + cut]))
            if dice.random() < 0.5:
                client.writer.write_eof()
                await client.rest()
        assert await (await door.connect()).ask() == 200


class TestClientsThatHangOn:
    @pytest.mark.usefixtures("impatient")
    @pytest.mark.parametrize("text", [b"", b"GET / HT", CHECK, b"\r"])
    async def test_whoever_does_not_ask_is_dropped(self, door: Door, text: bytes) -> None:
        client = await door.connect()
        client.send(text)
        await client.rest()
        await gone(door)

    @pytest.mark.usefixtures("impatient")
    async def test_a_head_has_its_time_however_it_comes(self, door: Door) -> None:
        """One byte now and then must not keep a place for ever."""
        client = await door.connect()
        client.send(b"GET / HTTP/1.1\r\n")
        dropped = asyncio.create_task(client.rest())
        while not dropped.done():
            client.send(b"A: b\r\n")
            await asyncio.sleep(0.02)
        assert dropped.result() == b""

    @pytest.mark.usefixtures("impatient")
    async def test_whoever_does_not_take_its_answer_is_dropped(self, door: Door) -> None:
        door.desk.body = "x" * 20_000_000
        client = await door.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(CHECK * 20)
        await gone(door)
        assert len(door.desk.seen) == 1

    async def test_health_checks_are_answered_beside_hundreds_of_idle_ones(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "HEAD_SECONDS", 600)
        for number in range(600):
            await door.connect(source=f"127.0.0.{number % 3 + 2}")
        assert await (await door.connect()).ask() == 200
        assert door.server.connections <= server.CONNECTIONS
        assert door.server.counts["dropped"] == 600 + 1 - server.CONNECTIONS

    async def test_one_client_cannot_take_the_places_of_others(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HEAD_SECONDS", "IDLE_SECONDS"):
            monkeypatch.setattr(connection, name, 600)
        other = await door.connect(source="127.0.0.2")
        await other.ask()
        for _ in range(server.CONNECTIONS + 10):
            await door.connect()
        assert door.server.connections == server.CONNECTIONS_OF_ONE_CLIENT + 1
        assert await other.ask() == 200

    async def test_whoever_waits_for_an_answer_is_not_dropped_for_others(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "CONNECTIONS", 3)
        working = [await door.connect() for _ in range(3)]
        for client in working:
            client.send(b"GET /vital HTTP/1.1\r\n\r\n")

        async def is_asked() -> bool:
            return door.server._at_work == 3

        await until(is_asked, every=0.01, within=WITHIN)
        late = await door.connect()
        assert await late.rest() == b""
        door.desk.go.set()
        assert [(await client.answer())[0] for client in working] == [200] * 3


class TestWhoseTurnItIs:
    async def test_costly_ones_are_turned_away_and_others_are_answered(self, door: Door) -> None:
        waiting = [await door.connect() for _ in range(LIMIT)]
        for client in waiting:
            client.send(b"GET /page HTTP/1.1\r\n\r\n")

        async def are_asked() -> bool:
            return door.server._at_work == LIMIT

        await until(are_asked, every=0.01, within=WITHIN)
        late = await door.connect()
        late.send(b"GET /page HTTP/1.1\r\n\r\n")
        status, head, _ = await late.answer()
        assert (status, b"\r\nRetry-After: 1\r\n" in head) == (503, True)
        assert await late.ask("/primary") == 200
        late.send(b"GET /vital HTTP/1.1\r\n\r\n")
        door.desk.go.set()
        assert (await late.answer())[0] == 200
        assert [(await client.answer())[0] for client in waiting] == [200] * len(waiting)
        assert await late.ask("/page") == 200
        assert door.server.counts["shed"] == 1

    async def test_a_flood_leaves_turns_to_others(self, door: Door) -> None:
        """Requests that would take as long as 100 shares: others get a turn after each share."""
        clients = [await door.connect() for _ in range(100)]
        share = 0.004

        def work() -> None:
            end = time.perf_counter() + share / 4
            while time.perf_counter() < end:
                pass

        door.desk.work = work
        turns: list[int] = []

        async def count() -> None:
            while True:
                turns.append(len(door.desk.seen))
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for client in clients:
            client.send(CHECK * 4)
        for client in clients:
            for _ in range(4):
                assert (await client.answer())[0] == 200
        counting.cancel()
        done = [later - earlier for earlier, later in pairwise(turns)]
        assert max(done) <= 5
        assert sum(done) == 400
