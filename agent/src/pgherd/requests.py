# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1 on the wire: the head of a request read, an answer written; pure.

Little of HTTP is understood on purpose: a body has a `Content-Length` or is refused, and whatever
is ambiguous is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from pgherd.store import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.answers import Answer

# Bytes.
LINE_LIMIT: Final = 8 * 1024
HEAD_LIMIT: Final = 16 * 1024
BODY_LIMIT: Final = 1024 * 1024
HEADERS_LIMIT: Final = 100
QUERY_FIELDS_LIMIT: Final = 50

END: Final = re.compile(rb"\r?\n\r?\n")
REQUEST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(\d)\.(\d)")
HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
BODILESS: Final = ("HEAD", "OPTIONS")


class BadRequestError(Exception):
    """What came is no request that can be answered.

    :param status: the code to answer with before the connection is closed.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True)
class Request:
    """The head of one request.

    :param path: decoded, with exactly one leading slash: clients of Patroni send `//leader`.
    :param query: the first value of each key, as Patroni takes them.
    :param headers: by name in small letters.
    :param length: of the body, None when none was announced.
    :param remote: the client's address.
    :param secure: it came over TLS, and *has_certificate*: the client has shown one.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    length: int | None = None
    remote: str = ""
    secure: bool = False
    has_certificate: bool = False
    is_http_1_0: bool = False

    @property
    def segment(self) -> str:
        """The first segment of the path, by which it is routed."""
        return self.path.split("/", 2)[1]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants the connection for more requests."""
        options = self.headers.get("connection", "").lower()
        return "keep-alive" in options if self.is_http_1_0 else "close" not in options


def head_end(received: bytes | bytearray) -> int | None:
    """Return where the head ends and the body begins, None while there is more to come.

    :raises BadRequestError: it is too long already.
    """
    found = END.search(received)
    if (found.start() if found else len(received)) > HEAD_LIMIT:
        raise BadRequestError(431, "the head of a request must not be longer than 16 kB")
    return found.end() if found else None


def parse_head(
    head: bytes, *, remote: str = "", secure: bool = False, has_certificate: bool = False
) -> Request:
    """Read the head of a request, empty line included.

    :raises BadRequestError: it cannot be read, or asks for what is not done here.
    """
    # Latin-1 maps every byte, so nothing can go wrong before the expressions look.
    first, *lines = re.split("\r?\n", head.decode("latin-1").rstrip("\r\n"))
    line = REQUEST_LINE.fullmatch(first)
    if len(first) > LINE_LIMIT:
        raise BadRequestError(414, "the request line must not be longer than 8 kB")
    if line is None:
        raise BadRequestError(400, "this is no HTTP/1 request")
    if line[3] != "1":
        raise BadRequestError(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = _headers(lines)
    path, query = _target(line[2])
    return Request(
        method=line[1],
        path=path,
        query=query,
        headers=headers,
        length=_length(headers),
        remote=remote,
        secure=secure,
        has_certificate=has_certificate,
        is_http_1_0=line[4] == "0",
    )


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADERS_LIMIT:
        raise BadRequestError(431, "a request must not have more than 100 headers")
    headers: dict[str, str] = {}
    for line in lines:
        header = HEADER.fullmatch(line)
        if header is None:
            raise BadRequestError(400, "a header cannot be read")
        name, value = header[1].lower(), header[2]
        if name in headers and name in ("content-length", "host", "authorization"):
            raise BadRequestError(400, f"{name} is given twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _target(target: str) -> tuple[str, dict[str, str]]:
    # A proxy may send the whole URL.
    target = re.sub(r"^https?://[^/?]*", "", target, flags=re.IGNORECASE)
    raw_path, _, raw_query = target.partition("#")[0].partition("?")
    path = "/" + unquote(raw_path, errors="replace").lstrip("/")
    try:
        fields = parse_qsl(
            raw_query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_LIMIT, errors="replace"
        )
    except ValueError as error:
        raise BadRequestError(400, "the query cannot be read") from error
    return path, dict(reversed(fields))


def _length(headers: Mapping[str, str]) -> int | None:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "a body needs a Content-Length")
    text = headers.get("content-length")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise BadRequestError(400, "Content-Length is no number")
    if int(text) > BODY_LIMIT:
        raise BadRequestError(413, "a body must not be larger than 1 MB")
    return int(text)


def content_of(body: Any) -> tuple[bytes, str]:
    """Return the bytes of an answer's body and their type."""
    if isinstance(body, bytes):
        return body, "text/plain; charset=utf-8"
    if isinstance(body, str):
        return body.encode(errors="replace"), "text/html; charset=utf-8"
    return dump(body).encode(), "application/json"


def render(
    answer: Answer, request: Request | None, extra: Mapping[str, str], *, keeps_alive: bool
) -> bytes:
    """Return an answer as it goes over the wire.

    :param request: None when it could not be read.
    :param extra: headers that every answer has.
    """
    content, content_type = content_of(answer.body)
    method = request.method if request else ""
    if method == "OPTIONS":
        content = b""
    version = "1.0" if request and request.is_http_1_0 else "1.1"
    phrase = HTTPStatus(answer.status).phrase
    headers = {
        **extra,
        "Content-Type": content_type,
        "Content-Length": str(len(content)),
        "Connection": "keep-alive" if keeps_alive else "close",
        **answer.headers,
    }
    lines = [f"HTTP/{version} {answer.status} {phrase}"]
    # A value may repeat what a client has sent.
    lines += [f"{name}: {CONTROL.sub(' ', value)}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")
    return head if method in BODILESS else head + content
