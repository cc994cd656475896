# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab waits for at the way in: rows of a crowd, and answers at a door."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from lab.client import Client, Commit
from lab.entrance import Crowd, Entrance
from lab.errors import LabError
from lab.knocks import SSL_REQUEST, Knocks
from lab.wait import until
from lab.wire import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET: Final = Target("127.0.0.1", "u", "p")
SILENT_SECONDS: Final = 0.2


class Three(Client):
    """A client of three, each of which writes ten rows while the first one is waited for."""

    def __init__(self, crowd: list[Three]) -> None:
        super().__init__(TARGET, 1.0)
        self.crowd = crowd

    def await_row(self, wanted: int, within: float) -> None:
        if self is self.crowd[0]:
            for client in self.crowd:
                client.commits += [Commit(n, float(n), "a", "b") for n in range(10)]
        super().await_row(wanted, min(within, 0.1))


def test_rows_of_all_clients_are_waited_for_at_once() -> None:
    clients: list[Three] = []
    clients += [Three(clients) for _ in range(3)]
    crowd = Crowd(object.__new__(Entrance), TARGET, 3, 1.0, clients=list(clients))
    crowd.await_rows(10)
    with pytest.raises(LabError, match=r"21 commits .* 20, last error"):
        crowd.await_rows(11)


class Door(socketserver.StreamRequestHandler):
    """Answers PostgreSQL's first request as a server without TLS does."""

    def handle(self) -> None:
        if self.rfile.read(len(SSL_REQUEST)) == SSL_REQUEST:
            self.wfile.write(b"N")


class Doors(socketserver.ThreadingTCPServer):
    """May be opened again where it was."""

    allow_reuse_address = True
    daemon_threads = True


class House:
    """A door that is opened and closed."""

    def __init__(self) -> None:
        self.port = 0

    def open(self) -> None:
        self.server = Doors(("127.0.0.1", self.port), Door)
        self.port = int(self.server.server_address[1])
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def house() -> Iterator[House]:
    found = House()
    found.open()
    yield found
    found.close()


def test_the_time_without_an_answer_is_known(house: House) -> None:
    with Knocks("127.0.0.1", house.port) as door:
        begun = time.monotonic()
        house.close()
        until(lambda: time.monotonic() - door.answers[-1] > SILENT_SECONDS, 10, "silence")
        house.open()
        end = door.await_answer(time.monotonic())
    assert door.longest(begun, end) >= SILENT_SECONDS


def test_a_door_where_nobody_answers_is_an_error(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.knocks.ANSWER_SECONDS_MAX", 0.1)
    house.close()
    with pytest.raises(LabError, match="An answer at"), Knocks("127.0.0.1", house.port):
        pass
    house.open()
