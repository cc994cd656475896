# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API's door: who gets in, how many, and whose turn it is.

A client that hangs on without asking keeps a place until somebody else needs it; one that asks too
much waits, and only for pages, never for health checks. The limits are told in docs/api.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from pgherd import PATRONI_VERSION, __version__
from pgherd.answers import Answer
from pgherd.connection import Connection
from pgherd.errors import ListenError
from pgherd.tls_stream import TlsStream
from pgherd.turns import Kind, Turns

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine

    from pgherd.access_config import Access
    from pgherd.requests import Request

log = logging.getLogger(__name__)

CONNECTIONS: Final = 512
CONNECTIONS_OF_ONE_CLIENT: Final = 256
# Connections taken in one turn of the event loop, and how many the kernel holds meanwhile.
ACCEPTED_AT_ONCE: Final = 16
BACKLOG: Final = 1024
SWEEP_SECONDS: Final = 0.5
# When there are no descriptors left.
PAUSE_SECONDS: Final = 0.5
BUSY: Final = Answer(503, "too many requests at once", {"Retry-After": "1"})
BROKEN: Final = Answer(500, "internal error; the agent's log has more")
SERVER_NAMES: Final = {
    "original": f"pgherd/{__version__} (Patroni {PATRONI_VERSION})",
    "minimal": f"pgherd/{__version__}",
    "productonly": "pgherd",
}


class App(Protocol):
    """What answers."""

    def at_once(self, request: Request) -> Callable[[], Answer] | None:
        """Return what gives the answer when that costs next to nothing, None for all others."""

    def limit(self, request: Request) -> int | None:
        """Return how many may be under way when it comes; None for any number."""

    async def answer(self, request: Request, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Return the answer; *read_body* raises TimeoutError or ConnectionError."""


class Server:
    """Listens, and has *app* answer.

    :ivar counts: requests answered by code, under `shed` the ones turned away, under `dropped` the
        connections closed for others.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.turns = Turns()
        self.counts: Counter[str] = Counter()
        self._app = app
        self._access = access
        self._context: ssl.SSLContext | None = None
        self._listeners: list[socket.socket] = []
        # In the order in which they came.
        self._connections: dict[Connection, None] = {}
        self._clients: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_work = 0
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many clients there are."""
        return len(self._connections)

    def now(self) -> float:
        """Return the event loop's seconds."""
        return asyncio.get_running_loop().time()

    # Beginning and end

    def start(self, hosts: list[str], port: int) -> None:
        """Listen on *hosts*; `*` is every address of the machine.

        :raises ListenError: an address cannot be used.
        :raises OSError: a file of the certificate cannot be used.
        """
        self._context = self._access.tls.context()
        for host in hosts:
            try:
                self._listeners += _listen(host, port)
            except OSError as error:
                self.stop()
                raise ListenError(host, port, error.strerror or str(error)) from error
        for listener in self._listeners:
            self._accept_from(listener)
        self._sweep()

    def reconfigure(self, access: Access) -> None:
        """Serve new connections as *access* says; certificates are read again.

        Where they cannot be used, the ones from before stay.
        """
        try:
            self._context = access.tls.context()
        except OSError as error:
            log.error("the REST API's certificate is not used: %s", error)
        self._access = access

    def stop(self) -> None:
        """Stop listening and drop what is open."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()

    # Connections

    def _accept_from(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection to the REST API can be taken: %s", error)
                events = asyncio.get_running_loop()
                events.remove_reader(listener)
                events.call_later(PAUSE_SECONDS, self._accept_from, listener)
                return
            self._take(client, str(address[0]))

    def _take(self, client: socket.socket, remote: str) -> None:
        if not self._has_room(remote):
            self.counts["dropped"] += 1
            client.close()
            return
        client.setblocking(False)
        tls = TlsStream(self._context) if self._context is not None else None
        connection = Connection(self, remote, tls)
        self._connections[connection] = None
        self._clients[remote] += 1
        self._run(self._attach(client, connection))

    async def _attach(self, client: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client)
        except OSError:
            self.forget(connection)
            client.close()

    def _has_room(self, remote: str) -> bool:
        """Make room for one more, at the cost of whoever has hung on for longest, its own first."""
        if self._clients[remote] >= CONNECTIONS_OF_ONE_CLIENT:
            return self._drop_one(remote)
        return len(self._connections) < CONNECTIONS or self._drop_one(None)

    def _drop_one(self, remote: str | None) -> bool:
        for connection in self._connections:
            if connection.can_be_dropped and remote in (None, connection.remote):
                self.counts["dropped"] += 1
                self.forget(connection)
                connection.abort()
                return True
        return False

    def knows(self, connection: Connection) -> bool:
        """Whether the connection has not been dropped yet."""
        return connection in self._connections

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        if connection in self._connections:
            del self._connections[connection]
            self._clients[connection.remote] -= 1
            if not self._clients[connection.remote]:
                del self._clients[connection.remote]

    def _sweep(self) -> None:
        now = self.now()
        for connection in list(self._connections):
            if connection.deadline is not None and connection.deadline < now:
                connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def headers(self, *, secure: bool) -> dict[str, str]:
        """Return what every answer has."""
        access = self._access
        own = {"Server": SERVER_NAMES[access.server_tokens], **access.http_headers}
        return {**own, **access.https_headers} if secure else own

    # Requests

    def serve(self, connection: Connection, request: Request) -> None:
        """Have *request* answered when its turn comes."""
        check = self._app.at_once(request)
        if check is not None:
            self.turns.add(Kind.CHECK, partial(self._check, connection, request, check))
            return
        limit = self._app.limit(request)
        if limit is not None and self._at_work >= limit:
            self.counts["shed"] += 1
            self._reply(connection, request, BUSY)
        else:
            self._at_work += 1
            self.turns.add(Kind.PAGE, partial(self._begin, connection, request))

    def _check(self, connection: Connection, request: Request, check: Callable[[], Answer]) -> None:
        try:
            answer = check()
        except Exception:
            log.exception("%s %s", request.method, request.path)
            answer = BROKEN
        self._reply(connection, request, answer)

    def _begin(self, connection: Connection, request: Request) -> None:
        self._run(self._work(connection, request))

    async def _work(self, connection: Connection, request: Request) -> None:
        try:
            answer = await self._app.answer(request, partial(connection.read_body, request))
        except TimeoutError:
            answer = Answer(408, "the body did not come")
        except ConnectionError:
            return
        except Exception:
            log.exception("%s %s", request.method, request.path)
            answer = BROKEN
        finally:
            self._at_work -= 1
        self._reply(connection, request, answer)

    def _reply(self, connection: Connection, request: Request, answer: Answer) -> None:
        self.counts[str(answer.status)] += 1
        connection.answer(answer, request)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on *host*; on all addresses where it is `*`."""
    if host == "*":
        listeners = [_socket(socket.AF_INET, "0.0.0.0", port)]
        # A machine may have no IPv6.
        with contextlib.suppress(OSError):
            listeners.append(_socket(socket.AF_INET6, "::", port))
        return listeners
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    places = {(family, str(address[0])) for family, _, _, _, address in found}
    return [_socket(family, address, port) for family, address in sorted(places)]


def _socket(family: int, address: str, port: int) -> socket.socket:
    listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener
