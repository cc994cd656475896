# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS over bytes that somebody else carries.

asyncio's own keeps 256 kB for every connection and does its handshakes as they come; hundreds of
idle clients would cost the agent its memory, and as many handshakes at once its lease.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

RECORD: Final = 16 * 1024


class TlsStream:
    """The server's end of one connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_ready = False

    @property
    def has_certificate(self) -> bool:
        """Whether the client has shown a certificate; one that was not good ended the handshake."""
        return bool(self._object.getpeercert(binary_form=True))

    def feed(self, data: bytes) -> None:
        """Take what the client has sent."""
        self._incoming.write(data)

    def shake_hands(self) -> None:
        """Go on with the handshake as far as what has come allows; `is_ready` tells the outcome.

        :raises ssl.SSLError: it failed.
        """
        with contextlib.suppress(ssl.SSLWantReadError):
            self._object.do_handshake()
            self.is_ready = True

    def read(self) -> bytes:
        """Return what the client has said since.

        :raises ssl.SSLError: it is not what a client of TLS says, or it has said goodbye.
        """
        pieces = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self._object.read(RECORD):
                pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        """Have *data* go to the client."""
        view = memoryview(data)
        while view:
            view = view[self._object.write(view) :]

    def say_goodbye(self) -> None:
        """Tell the client that nothing will follow."""
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()

    def outgoing(self) -> bytes:
        """Return the bytes that have to go to the client now."""
        return self._outgoing.read()
