# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API over TLS: handshakes that end and that do not, certificates shown and renewed."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from agent.tests.door import Door, make_certificate, opened, trusting
from agent.tests.test_server import gone
from pgherd import connection
from pgherd.access_config import Access, Ctl, ServerTls
from pgherd.turns import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    """A certificate of the server's."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "first")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    """Another one."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "second")


@pytest_asyncio.fixture
async def door(tls: ServerTls) -> AsyncIterator[Door]:
    async with opened(Access(tls=tls, https_headers={"X-S": "t"})) as known:
        yield known


async def test_requests_over_tls(door: Door, tls: ServerTls) -> None:
    client = await door.connect(context=trusting(tls))
    assert [await client.ask() for _ in range(3)] == [200] * 3
    assert door.desk.seen[0].secure
    client.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    _, head, body = await client.answer()
    assert (b"\r\nX-S: t\r\n" in head, body) == (True, b"well")
    assert await client.rest() == b""


async def test_large_bodies_both_ways(door: Door, tls: ServerTls) -> None:
    client = await door.connect(context=trusting(tls))
    body = bytes(range(256)) * 3000
    client.send(f"POST /echo HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert (await client.answer())[2] == body


async def test_who_speaks_no_tls_is_closed(door: Door) -> None:
    client = await door.connect()
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert b"HTTP" not in await client.rest()
    await gone(door)


async def test_whoever_begins_a_handshake_and_stops_is_dropped(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    client = await door.connect()
    client.send(b"\x16\x03\x01\x02\x00\x01\x00")
    assert await client.rest() == b""
    await gone(door)


async def test_health_checks_are_answered_beside_hundreds_of_idle_ones(
    door: Door, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patroni's issue 3705: five of them were enough."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 600)
    context = trusting(tls)
    for number in range(500):
        shaken = number % 4 == 0
        await door.connect(source=f"127.0.0.{number % 3 + 2}", context=context if shaken else None)
    assert door.server.connections == 500
    assert await (await door.connect(context=context)).ask() == 200


async def test_a_certificate_read_again_serves_the_next_connection(
    tmp_path: Path, tls: ServerTls, other: ServerTls
) -> None:
    def install(given: ServerTls) -> None:
        assert given.certificate is not None
        assert given.key is not None
        shutil.copy(given.certificate, tmp_path / "c.pem")
        shutil.copy(given.key, tmp_path / "c.key")

    install(tls)
    access = Access(tls=ServerTls(None, str(tmp_path / "c.pem"), str(tmp_path / "c.key")))
    async with opened(access) as door:
        before = await door.connect(context=trusting(tls))
        install(other)
        door.server.reconfigure(access)
        assert await before.ask() == 200
        assert await (await door.connect(context=trusting(other))).ask() == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.connect(context=trusting(tls))


async def test_one_that_cannot_be_used_changes_nothing(
    door: Door, tls: ServerTls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door.server.reconfigure(Access(tls=replace(tls, certificate=str(tmp_path / "none"))))
    assert "certificate is not used" in caplog.text
    assert await (await door.connect(context=trusting(tls))).ask() == 200


class TestCertificatesOfClients:
    @pytest.mark.parametrize("verify", ["none", "optional", "required"])
    async def test_one_that_is_shown_is_seen(
        self, tls: ServerTls, other: ServerTls, verify: str
    ) -> None:
        wanting = replace(tls, ca=other.certificate, verify_client=verify)
        async with opened(Access(tls=wanting)) as door:
            client = await door.connect(context=trusting(tls, shows=other))
            assert await client.ask() == 200
            assert door.desk.seen[0].has_certificate is (verify != "none")

    async def test_without_one_there_is_no_connection_where_it_is_required(
        self, tls: ServerTls, other: ServerTls
    ) -> None:
        wanting = replace(tls, ca=other.certificate, verify_client="required")
        async with opened(Access(tls=wanting)) as door:
            client = await door.connect(context=trusting(tls))
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await client.rest() == b""
            assert door.desk.seen == []

    async def test_without_one_reading_goes_on_where_it_is_optional(
        self, tls: ServerTls, other: ServerTls
    ) -> None:
        wanting = replace(tls, ca=other.certificate, verify_client="optional")
        async with opened(Access(tls=wanting)) as door:
            assert await (await door.connect(context=trusting(tls))).ask() == 200
            assert not door.desk.seen[0].has_certificate


class TestOurOwnClient:
    """`Ctl.context`, with which the agents and the command line ask."""

    async def ask(self, door: Door, ctl: Ctl) -> int:
        """Ask as a client that is configured as *ctl* says."""
        return await (await door.connect(context=ctl.context())).ask()

    async def test_it_trusts_what_it_is_told_to(self, door: Door, tls: ServerTls) -> None:
        assert await self.ask(door, Ctl(ca=tls.certificate)) == 200
        assert await self.ask(door, Ctl(insecure=True)) == 200

    async def test_and_nobody_else(self, door: Door, other: ServerTls) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await self.ask(door, Ctl(ca=other.certificate))


async def test_handshakes_wait_for_their_turn(
    door: Door, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost most of all that a client can ask for, and need no password."""
    queued: list[Kind] = []
    add = door.server.turns.add

    def note(kind: Kind, work: Callable[[], None]) -> None:
        queued.append(kind)
        add(kind, work)

    monkeypatch.setattr(door.server.turns, "add", note)
    context = trusting(tls)
    clients = await asyncio.gather(*(door.connect(context=context) for _ in range(20)))
    assert queued.count(Kind.HANDSHAKE) >= 20
    assert [await client.ask() for client in clients] == [200] * 20
