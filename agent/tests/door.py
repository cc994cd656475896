# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API's server over an application that answers as a test wants, and raw clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.tests.etcd_processes import free_ports
from pgherd.access_config import Access, ServerTls
from pgherd.answers import Answer
from pgherd.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pgherd.requests import Request

WITHIN = 30.0
LIMIT = 20


@dataclass
class Desk:
    """An application: `/page` and whatever is below waits for `go`, all else is a health check."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    body: object = "well"
    work: Callable[[], None] = lambda: None
    bodies: list[bytes] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)

    def at_once(self, request: Request) -> Callable[[], Answer] | None:
        if request.segment in ("page", "vital", "echo"):
            return None
        return lambda: self._check(request)

    def _check(self, request: Request) -> Answer:
        self.seen.append(request)
        self.work()
        return Answer(200, self.body)

    def limit(self, request: Request) -> int | None:
        return LIMIT if request.segment == "page" else None

    async def answer(self, request: Request, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        if request.segment == "echo":
            self.bodies.append(await read_body())
            return Answer(200, self.bodies[-1])
        await self.go.wait()
        return Answer(200, request.path)


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Return status, head and body of the next answer that has one."""
        async with asyncio.timeout(WITHIN):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            [length] = [line for line in lines if line.startswith(b"content-length:")]
            body = await self.reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1]), head, body

    async def ask(self, path: str = "/", method: str = "GET") -> int:
        """Send a request and return the status of its answer."""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return (await self.answer())[0]

    async def rest(self) -> bytes:
        """Return what comes until the server closes."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(WITHIN):
                return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.transport.abort()


class Door:
    """A server, its application, and what connects to it."""

    def __init__(self, server: Server, desk: Desk, port: int) -> None:
        self.server = server
        self.desk = desk
        self.port = port
        self._clients: list[Client] = []

    async def connect(
        self, *, source: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> Client:
        """Connect from the loopback address *source*."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0), ssl=context
        )
        self._clients.append(Client(reader, writer))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@contextlib.asynccontextmanager
async def opened(access: Access | None = None) -> AsyncIterator[Door]:
    """Serve on a loopback port."""
    [port] = free_ports(1)
    desk = Desk()
    server = Server(desk, access or Access())
    server.start(["127.0.0.1"], port)
    door = Door(server, desk, port)
    try:
        yield door
    finally:
        door.close()
        server.stop()


def make_certificate(directory: Path, name: str) -> ServerTls:
    """Make a certificate that is signed by itself, for 127.0.0.1 and *name*."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-addext", f"subjectAltName=IP:127.0.0.1,DNS:{name}",
        "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
        "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return ServerTls(str(certificate), str(certificate), str(key))


def trusting(tls: ServerTls, *, shows: ServerTls | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts *tls*, and shows *shows*."""
    context = ssl.create_default_context(cafile=tls.certificate)
    # As Python does from 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if shows is not None and shows.certificate is not None:
        context.load_cert_chain(shows.certificate, shows.key)
    return context
