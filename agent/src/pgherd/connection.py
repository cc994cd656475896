# SPDX-License-Identifier: GPL-3.0-or-later
"""One client of the REST API: its bytes in, its answers out, and how long it may take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from pgherd.answers import Answer
from pgherd.requests import HEAD_LIMIT, BadRequestError, head_end, parse_head, render
from pgherd.turns import Kind

if TYPE_CHECKING:
    from pgherd.requests import Request
    from pgherd.server import Server
    from pgherd.tls_stream import TlsStream

log = logging.getLogger(__name__)

# Seconds a client has for the head of a request, the handshake before it included; for a body; for
# taking an answer; between requests (longer than other agents keep a connection, so that none asks
# on one that ends just then); and for hearing why nothing more is read from it.
HEAD_SECONDS: Final = 5.0
BODY_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 2.0


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "the first byte of a request"
    HEAD = "the rest of its head"
    WORK = "our answer"
    BODY = "the rest of its body"
    ANSWER = "the client to take the answer"
    LINGER = "the client to close"


class Connection(asyncio.Protocol):
    """One connection.

    :param remote: the client's address.
    :param tls: None without TLS.
    :ivar deadline: when its time is over, in the event loop's seconds; None while we work.
    """

    def __init__(self, server: Server, remote: str, tls: TlsStream | None) -> None:
        self.remote = remote
        self.phase = Phase.HEAD
        self._server = server
        self._tls = tls
        self.deadline: float | None = server.now() + HEAD_SECONDS
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._shaking = False
        self._is_full = False
        self._body: asyncio.Future[bytes] | None = None
        self._unread = 0
        self._closes = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # We are told when all of an answer has gone.
        self._transport.set_write_buffer_limits(high=0)
        if not self._server.knows(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.forget(self)
        if self._body is not None and not self._body.done():
            self._body.set_exception(ConnectionResetError())

    def eof_received(self) -> bool:
        # A client may close its side having asked: it gets its answer.
        if self.phase in (Phase.WORK, Phase.ANSWER):
            self._closes = True
            return self._tls is None
        return False

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self.phase is Phase.ANSWER:
            self._go_on()

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.LINGER:
            return
        if self._tls is None:
            self._buffer += data
            self._look()
            return
        self._tls.feed(data)
        if self._tls.is_ready:
            self._decrypt()
        elif not self._shaking:
            self._shaking = True
            self._server.turns.add(Kind.HANDSHAKE, self._shake_hands)

    # TLS

    def _shake_hands(self) -> None:
        self._shaking = False
        if self._tls is None or self._transport is None:
            return
        try:
            self._tls.shake_hands()
        except ssl.SSLError as error:
            log.debug("%s: %s", self.remote, error)
            self._flush()
            self._transport.close()
            return
        self._flush()
        if self._tls.is_ready:
            self._decrypt()

    def _decrypt(self) -> None:
        assert self._tls is not None
        try:
            self._buffer += self._tls.read()
        except ssl.SSLError as error:
            log.debug("%s: %s", self.remote, error)
            self.abort()
            return
        self._flush()
        self._look()

    def _send(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tls is None:
            self._transport.write(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            log.debug("%s: %s", self.remote, error)
            self.abort()
        self._flush()

    def _flush(self) -> None:
        if self._tls is not None and self._transport is not None:
            outgoing = self._tls.outgoing()
            if outgoing:
                self._transport.write(outgoing)

    # Requests

    def _look(self) -> None:
        """See what can be done with what has come."""
        if self.phase in (Phase.IDLE, Phase.HEAD):
            self._look_for_head()
        elif self.phase is Phase.BODY:
            self._look_for_body()
        elif len(self._buffer) > HEAD_LIMIT and self._transport is not None:
            # It sends on while it waits for its answer.
            self._transport.pause_reading()

    def _look_for_head(self) -> None:
        if not self._buffer:
            return
        if self.phase is Phase.IDLE:
            self._enter(Phase.HEAD, HEAD_SECONDS)
        try:
            end = head_end(self._buffer)
            if end is None:
                return
            tls = self._tls
            request = parse_head(
                bytes(self._buffer[:end]),
                remote=self.remote,
                secure=tls is not None,
                has_certificate=tls is not None and tls.has_certificate,
            )
        except BadRequestError as error:
            self._closes = True
            self._answer(Answer(error.status, error.text), None)
            return
        del self._buffer[:end]
        self._unread = request.length or 0
        self._enter(Phase.WORK, None)
        self._server.serve(self, request)

    async def read_body(self, request: Request) -> bytes:
        """Return the body of the request under way.

        :raises TimeoutError, ConnectionError: it does not come.
        """
        if not self._unread:
            return b""
        if request.headers.get("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body = asyncio.get_running_loop().create_future()
        self._enter(Phase.BODY, BODY_SECONDS)
        if self._transport is None:
            raise ConnectionResetError
        self._transport.resume_reading()
        self._look_for_body()
        try:
            return await self._body
        finally:
            self._body = None
            if self._transport is not None:
                self._enter(Phase.WORK, None)

    def _look_for_body(self) -> None:
        if self._body is None or self._body.done() or len(self._buffer) < self._unread:
            return
        body = bytes(self._buffer[: self._unread])
        del self._buffer[: self._unread]
        self._unread = 0
        self._body.set_result(body)

    def answer(self, answer: Answer, request: Request) -> None:
        """Give the answer to the request under way; nothing happens when the client has gone."""
        # What is left of a body nobody wanted is not looked through for the next request.
        self._closes = self._closes or not request.keeps_alive or self._unread > 0
        self._answer(answer, request)

    def _answer(self, answer: Answer, request: Request | None) -> None:
        if self._transport is None:
            return
        extra = self._server.headers(secure=self._tls is not None)
        self._enter(Phase.ANSWER, ANSWER_SECONDS)
        self._send(render(answer, request, extra, keeps_alive=not self._closes))
        if not self._is_full:
            self._go_on()

    def _go_on(self) -> None:
        """The answer has gone; wait for the next request, or for the end."""
        if self._transport is None:
            return
        if self._closes:
            self._linger()
            return
        self._enter(Phase.IDLE, IDLE_SECONDS)
        self._transport.resume_reading()
        self._look()

    def _linger(self) -> None:
        """Close; a client that still sends would lose our answer if we did so at once."""
        assert self._transport is not None
        if self._tls is not None:
            self._tls.say_goodbye()
            self._flush()
        if not self._unread and not self._buffer:
            self._transport.close()
            self._enter(Phase.LINGER, LINGER_SECONDS)
            return
        self._buffer.clear()
        self._enter(Phase.LINGER, LINGER_SECONDS)
        self._transport.resume_reading()
        with contextlib.suppress(OSError):
            self._transport.write_eof()

    def _enter(self, phase: Phase, within: float | None) -> None:
        self.phase = phase
        self.deadline = None if within is None else self._server.now() + within

    # Ends

    @property
    def can_be_dropped(self) -> bool:
        """Whether it keeps a place without having asked for anything."""
        return self.phase in (Phase.IDLE, Phase.HEAD, Phase.LINGER)

    def expire(self) -> None:
        """Its time is over."""
        if self._body is not None and not self._body.done():
            self._body.set_exception(TimeoutError())
            self.deadline = None
            return
        self.abort()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
