# SPDX-License-Identifier: GPL-3.0-or-later
"""One PgBouncer of this host, through its console.

The console speaks PostgreSQL's protocol, simple queries only, and asks for no password where both
ends of a Unix socket are the same user's. It is spoken here without libpq: what waits there must
be left by closing the connection, and libpq's clients would try to cancel it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from typing import TYPE_CHECKING, Final

from pgherd.errors import PoolerError
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgherd.pooler_config import PoolerSocket

log = logging.getLogger(__name__)

# A command that does not wait for clients is answered well within this, seconds.
ANSWER_SECONDS: Final = 2.0
# A server connection that is just being made fails when a pause begins, and PgBouncer refuses new
# clients then until another one was made; so a pause begins when there is none. Seconds.
LOGINS_SECONDS: Final = 0.1
LOGINS_PAUSE: Final = 0.002
PROTOCOL: Final = 196608
HEADER: Final = struct.Struct("!cI")
NOT_PAUSED: Final = "not paused"
PAUSED_ALREADY: Final = "already"

Row = dict[str, str]


class Console(asyncio.Protocol):
    """One connection to the console; one command at a time.

    :param on_lost: called when it has ended.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._names: list[str] = []
        self._rows: list[Row] = []
        self._problem = ""
        self._answer: asyncio.Future[list[Row]] | None = None
        self._has_ended = False

    @classmethod
    async def open(cls, socket: PoolerSocket, on_lost: Callable[[], None]) -> Console:
        """Connect to the console of the PgBouncer at *socket*.

        :raises PoolerError: nobody listens there, or lets us in.
        """
        path = f"{socket.socket_directory}/.s.PGSQL.{socket.port}"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, console = await asyncio.get_running_loop().create_unix_connection(
                    lambda: cls(on_lost), path
                )
        except (OSError, TimeoutError) as error:
            reason = str(error) or "no answer"
            raise PoolerError(f"PgBouncer cannot be reached at {path}: {reason}") from error
        parameters = b"user\0pgbouncer\0database\0pgbouncer\0application_name\0pgherd\0\0"
        packet = struct.pack("!II", len(parameters) + 8, PROTOCOL) + parameters
        try:
            await console._send(packet, ANSWER_SECONDS)
        except PoolerError:
            console.close()
            raise
        return console

    @property
    def is_open(self) -> bool:
        return not self._has_ended

    async def command(self, text: str, within: float = ANSWER_SECONDS) -> list[Row]:
        """Have *text* carried out; return the rows of its answer.

        :raises PoolerError: it is refused, or not answered within so many seconds; the connection
            is of no use any more then.
        """
        return await self._send(_query(text), within)

    def begin(self, text: str) -> asyncio.Future[list[Row]]:
        """Have *text* carried out; return what its answer will be, which may take long."""
        answer = self._begin(_query(text))
        # Nobody may be left to hear that it failed.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return answer

    def _begin(self, packet: bytes) -> asyncio.Future[list[Row]]:
        self._answer = asyncio.get_running_loop().create_future()
        if self._has_ended or self._transport is None:
            self._answer.set_exception(PoolerError("PgBouncer has closed the connection"))
        else:
            self._names, self._rows, self._problem = [], [], ""
            self._transport.write(packet)
        return self._answer

    async def _send(self, packet: bytes, within: float) -> list[Row]:
        try:
            async with asyncio.timeout(within):
                return await self._begin(packet)
        except TimeoutError as error:
            self.close()
            raise PoolerError(f"PgBouncer's console gives no answer within {within} s") from error

    def close(self) -> None:
        """Close the connection; what waits on it is given up."""
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self._fail("PgBouncer has closed the connection")
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._buffer)
            if len(self._buffer) < length + 1:
                return
            body = bytes(self._buffer[HEADER.size : length + 1])
            del self._buffer[: length + 1]
            self._take(kind, body)

    def _take(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"T":
                self._names = _names(body)
            case b"D":
                self._rows.append(dict(zip(self._names, _values(body), strict=False)))
            case b"E":
                self._problem = _message(body)
            case b"R" if body[:4] != bytes(4):
                self._fail("PgBouncer asks for a password: it does not run as our user")
                self.close()
            case b"Z":
                self._end()

    def _end(self) -> None:
        if self._problem:
            self._fail(self._problem)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(self._rows)

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(PoolerError(self._problem or reason))


def _query(text: str) -> bytes:
    body = text.encode() + b"\0"
    return b"Q" + struct.pack("!I", len(body) + 4) + body


def _names(body: bytes) -> list[str]:
    """Return the names of the columns that a row description tells."""
    names, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode(errors="replace"))
        # Table, column, type, length, modifier and format follow.
        at = end + 1 + 18
    return names


def _values(body: bytes) -> list[str]:
    """Return the fields of one row; null is an empty text."""
    values, at = [], 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        values.append(body[at : at + max(length, 0)].decode(errors="replace"))
        at += max(length, 0)
    return values


def _message(body: bytes) -> str:
    """Return the sentence in an error's fields."""
    fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
    return fields.get(b"M", b"an error").decode(errors="replace")


class PgBouncer:
    """One PgBouncer: whether it answers, and its commands.

    :param socket: where its console is.
    :param on_lost: called when the connection to its console has ended.
    """

    def __init__(self, socket: PoolerSocket, on_lost: Callable[[], None]) -> None:
        self.socket = socket
        self._on_lost = on_lost
        self._console: Console | None = None
        self._pausing: Console | None = None

    @property
    def is_up(self) -> bool:
        return self._console is not None and self._console.is_open

    async def connect(self) -> None:
        """Connect to the console unless we are connected.

        :raises PoolerError: it does not answer.
        """
        if not self.is_up:
            self._console = await Console.open(self.socket, self._on_lost)

    def close(self) -> None:
        """Close all connections."""
        for console in (self._console, self._pausing):
            if console is not None:
                console.close()
        self._console = self._pausing = None

    async def _command(self, text: str) -> list[Row]:
        await self.connect()
        assert self._console is not None
        return await self._console.command(text)

    async def look(self) -> None:
        """Ask for something that costs nothing.

        :raises PoolerError: there is no answer.
        """
        await self._command("SHOW VERSION")

    async def reload(self) -> None:
        """Have the configuration read again.

        Connections to servers that are no target any more end as soon as their transaction does.

        :raises PoolerError: it does not answer, or has something against the files.
        """
        await self._command("RELOAD")

    async def begin_pause(self) -> asyncio.Future[list[Row]]:
        """Let no transaction begin; return what is done when those under way have ended.

        :raises PoolerError: it does not answer.
        """
        self._drop_pausing()
        console = self._pausing = await Console.open(self.socket, lambda: None)

        async def is_calm() -> bool:
            return not await _logs_in(console)

        with contextlib.suppress(TimeoutError):
            await until(is_calm, every=LOGINS_PAUSE, within=LOGINS_SECONDS)
        return console.begin("PAUSE")

    async def resume(self) -> None:
        """Let transactions begin again, whether or not the pause was complete.

        :raises PoolerError: it does not answer.
        """
        try:
            await self._command("RESUME")
        except PoolerError as error:
            if NOT_PAUSED not in str(error):
                raise
        finally:
            # A pause that waits would wait for ever; a connection that is closed has it resumed.
            self._drop_pausing()

    async def holders(self) -> list[Row]:
        """Return the connections to servers on which a transaction is under way.

        :raises PoolerError: it does not answer.
        """
        servers = await self._command("SHOW SERVERS")
        return [row for row in servers if row.get("state", "").startswith("active")]

    def _drop_pausing(self) -> None:
        if self._pausing is not None:
            self._pausing.close()
            self._pausing = None


async def _logs_in(console: Console) -> bool:
    """Tell whether a connection to a server is being made."""
    pools = await console.command("SHOW POOLS")
    return any(row.get("sv_login", "0") != "0" for row in pools)
