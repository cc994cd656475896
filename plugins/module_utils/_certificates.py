# SPDX-License-Identifier: GPL-3.0-or-later
"""When the certificate of a TLS server ends, asked by a handshake. Private to the collection."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Union
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._http import Tls

DAY = 86400
# Days that are left, or why the certificate is of no use.
Left = Union[float, str]


def days_left(url: str, timeout_seconds: float, tls: Tls) -> Left:
    """Return for how many days the certificate of the server at *url* is good, or what is wrong."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    context = tls.context() or ssl.create_default_context()
    try:
        plain = socket.create_connection((host, parts.port or 443), timeout_seconds)
        with plain, context.wrap_socket(plain, server_hostname=host) as wrapped:
            shown = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return f"it is refused: {error.verify_message}"
    except OSError as error:  # ssl's other errors among them
        return f"it is not shown: {error}"
    ends = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    return (ends - time.time()) / DAY


def ask_all(urls: dict[str, str], timeout_seconds: float, tls: Tls) -> dict[str, Left]:
    """Return the same for every one of *urls* (by a name) that speaks TLS, asked at once."""
    asked = {name: url for name, url in urls.items() if url.startswith("https:")}
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        found = pool.map(lambda url: days_left(url, timeout_seconds, tls), asked.values())
        return dict(zip(asked, found))
