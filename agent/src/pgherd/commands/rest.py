# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client of the REST API for commands: one request, one answer, nothing to keep open.

It is made of the standard library's HTTP client, which loads in a few hundredths of a second; that
of the agent takes longer than a whole `pgherd list` may.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pgherd.errors import NobodyAnswersError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

# How long a question may take, and how long an action that ends when its outcome is known, seconds.
READ_SECONDS: Final = 3.0
ACTION_SECONDS: Final = 900.0
# A host that dies while an action runs says nothing; TCP asks it this often, and so many times.
KEEPALIVE_SECONDS: Final = 3
KEEPALIVE_PROBES: Final = 3


class UnreachableError(NobodyAnswersError):
    """An agent was not even reached: it cannot have done anything."""


@dataclass(frozen=True)
class Reply:
    """What an agent answered."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.status in (200, 202)

    def json(self) -> Any:
        """Return the body, None when it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    def mapping(self) -> dict[str, Any]:
        """Return the body, empty when it is no JSON object."""
        body = self.json()
        return body if isinstance(body, dict) else {}


class Rest:
    """Asks agents.

    :param tls: context for https, None for http.
    :param headers: what every request carries, `Authorization` above all.
    """

    def __init__(self, tls: ssl.SSLContext | None, headers: Mapping[str, str]) -> None:
        self._tls = tls
        self._headers = {"Connection": "close", **headers}

    def get(self, base: str, path: str, *, within: float = READ_SECONDS) -> Reply:
        """Ask the agent at *base* for *path*.

        :raises NobodyAnswersError: no answer in time.
        """
        return self._send("GET", base, path, None, within)

    def act(
        self, method: str, base: str, path: str, body: Any = None, *, within: float = ACTION_SECONDS
    ) -> Reply:
        """Have the agent at *base* do something, and wait until it says how it ended.

        :raises NobodyAnswersError: no answer in time; it may have been done.
        """
        return self._send(method, base, path, body, within)

    def _send(self, method: str, base: str, path: str, body: Any, within: float) -> Reply:
        connection = self._connection(base, min(within, READ_SECONDS))
        content = None if method == "GET" else json.dumps({} if body is None else body)
        headers = dict(self._headers)
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
        except OSError as error:
            raise UnreachableError(f"{base} {_failure(error)}") from error
        try:
            _notice_death(connection.sock)
            connection.sock.settimeout(within)
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, HTTPException) as error:
            raise NobodyAnswersError(f"{base} {_failure(error)}") from error
        finally:
            connection.close()
        return Reply(
            answer.status, text, {key.lower(): value for key, value in answer.getheaders()}
        )

    def _connection(self, base: str, within: float) -> HTTPConnection:
        url = urlsplit(base)
        host = url.hostname or ""
        if url.scheme == "https":
            return HTTPSConnection(host, url.port, timeout=within, context=self._tls)
        return HTTPConnection(host, url.port, timeout=within)


def _failure(error: Exception) -> str:
    """Say what came of a request that was not answered."""
    # Loaded with the HTTP client.
    from ssl import SSLCertVerificationError, SSLError

    if isinstance(error, SSLCertVerificationError):
        return f"shows a certificate that is not trusted ({error.verify_message}): see ctl.cacert"
    if isinstance(error, SSLError):
        return f"and we do not agree on TLS: {error.reason or error}; see ctl.certfile, ctl.cacert"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"does not answer: {reason}"


def _notice_death(connected: socket.socket) -> None:
    """Have the connection break soon after the other host has died."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def base_of(api_url: str) -> str:
    """Return the address before the path: `http://10.0.0.1:8008` of `…/patroni`."""
    url = urlsplit(api_url)
    return f"{url.scheme}://{url.netloc}"
