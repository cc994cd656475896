# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON over HTTP with what a bare host has. Private to the collection."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any


class HttpError(Exception):
    """An HTTP exchange that did not end in a JSON answer; the text says what a reader needs."""


class HttpRefused(HttpError):
    """Nothing listens at the address, or the address cannot be reached."""


class HttpNobody(HttpRefused):
    """All who could be asked refused the connection: nothing runs there."""


class HttpBroken(HttpRefused):
    """The connection ended after the request was sent: nobody knows what became of it."""


class HttpSilent(HttpError):
    """The other side took the connection, or swallowed it, and did not answer in time."""


class HttpFailed(HttpError):
    """The other side answered with an error; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """An answer: its HTTP status, its text, and its headers by their names in lower case."""

    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> Any:
        """Return what the text says; raises HttpFailed when it is no JSON."""
        try:
            return json.loads(self.text)
        except ValueError as error:
            text = f"answered something that is not JSON: {self.text[:80]!r}"
            raise HttpFailed(text, 200) from error


@dataclass(frozen=True)
class Tls:
    """Files (PEM) of a TLS client; empty strings mean plain HTTP."""

    cacert: str = ""
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext | None:
        """Return a verifying context, or None without a CA."""
        if not self.cacert:
            return None
        context = ssl.create_default_context(cafile=self.cacert)
        if self.cert:
            context.load_cert_chain(self.cert, self.key or None)
        return context


def request_json(
    url: str,
    body: dict[str, Any] | None = None,
    timeout_seconds: float = 5.0,
    tls: Tls | None = None,
    accept: tuple[int, ...] = (),
    method: str | None = None,
    login: tuple[str, str] | None = None,
    token: str = "",
) -> Any:
    """Return the JSON that *url* answers; else as `request`."""
    return request(url, body, timeout_seconds, tls, accept, method, login, token).json()


def request(
    url: str,
    body: dict[str, Any] | None = None,
    timeout_seconds: float = 5.0,
    tls: Tls | None = None,
    accept: tuple[int, ...] = (),
    method: str | None = None,
    login: tuple[str, str] | None = None,
    token: str = "",
) -> Reply:
    """Return what *url* answers: GET without *body*, POST with it, or *method*.

    *login* is a name and a password, *token* what etcd gave for them. Statuses of 400 and above
    raise HttpFailed unless they are listed in *accept*.
    Raises HttpRefused (HttpBroken once the request was sent), HttpSilent or HttpFailed.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if login is not None:
        given = base64.b64encode(":".join(login).encode()).decode()
        headers["Authorization"] = f"Basic {given}"
    elif token:
        headers["Authorization"] = token
    asked = urllib.request.Request(url, data, headers, method=method)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # a proxy of the environment must not see cluster traffic
        urllib.request.HTTPSHandler(context=(tls or Tls()).context()),
    )
    try:
        with opener.open(asked, timeout=timeout_seconds) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, answer.read().decode(), named)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        if error.code not in accept:
            raise HttpFailed(_reason(text) or str(error), error.code) from error
        named = {name.lower(): value for name, value in error.headers.items()}
        return Reply(error.code, text, named)
    except (socket.timeout, TimeoutError) as error:
        raise HttpSilent(f"no answer within {timeout_seconds:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, (socket.timeout, TimeoutError)):
            raise HttpSilent(f"no answer within {timeout_seconds:g} s") from error
        refused = isinstance(error.reason, ConnectionRefusedError)
        raise (HttpNobody if refused else HttpRefused)(str(error.reason)) from error
    except (http.client.HTTPException, OSError) as error:
        raise HttpBroken(str(error) or type(error).__name__) from error


def _reason(text: str) -> str:
    """Return the sentence inside an error answer of etcd's gateway, or its first characters."""
    try:
        answer = json.loads(text)
    except ValueError:
        return text.strip()[:200]
    if isinstance(answer, dict):
        return str(answer.get("error") or answer.get("message") or text[:200])
    return text[:200]
