# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates are asked of real TLS servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._certificates import (
    ask_all,
    days_left,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import Tls

from agent.tests.door import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgherd.access_config import ServerTls


@contextlib.contextmanager
def serving(tls: ServerTls | None, exchanges: int = 1) -> Iterator[str]:
    """Serve so many handshakes with *tls*, or close at once without; give the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls is not None:
        context.load_cert_chain(str(tls.certificate), tls.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(exchanges):
                taken, _ = listening.accept()
                with taken:
                    if tls is not None:
                        with (
                            contextlib.suppress(OSError),
                            context.wrap_socket(taken, server_side=True),
                        ):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.fixture
def tls(tmp_path: Path) -> ServerTls:
    """A certificate that is good for two days."""
    return make_certificate(tmp_path, "server")


def test_the_days_that_are_left_are_told(tls: ServerTls) -> None:
    with serving(tls) as url:
        left = days_left(url, 5, Tls(cacert=str(tls.certificate)))
    assert isinstance(left, float)
    assert 1.9 < left <= 2


def test_one_of_a_stranger_is_refused(tls: ServerTls) -> None:
    with serving(tls) as url:
        assert "it is refused: self" in str(days_left(url, 5, Tls()))


def test_who_shows_none_is_told() -> None:
    with serving(None) as url:
        assert "it is not shown" in str(days_left(url, 5, Tls()))


def test_only_those_who_speak_tls_are_asked(tls: ServerTls) -> None:
    mine = Tls(cacert=str(tls.certificate))
    assert ask_all({"plain": "http://127.0.0.1:1"}, 5, mine) == {}
    with serving(tls) as url:
        assert ask_all({"plain": "http://127.0.0.1:1", "good": url}, 5, mine).keys() == {"good"}
