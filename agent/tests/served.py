# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API of a loop on a loopback port, and a client of it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from agent.tests.etcd_processes import free_ports
from agent.tests.fakes import Rig
from pgherd.api import Api
from pgherd.decide import decide
from pgherd.model import Instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgherd.view import View


class Served:
    """A loop's API on a loopback port, and a client of it."""

    def __init__(self, rig: Rig, url: str, session: aiohttp.ClientSession) -> None:
        self.rig = rig
        self._url = url
        self._session = session

    def show(self, seen: View) -> None:
        """Have the API answer for *seen*."""
        self.rig.loop.view = seen
        self.rig.loop.decision = decide(seen)
        self.rig.postgres.instance = seen.instance

    async def status(self, path: str, method: str = "GET") -> int:
        async with self._session.request(method, self._url + path) as response:
            return response.status

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Return status, content type and text."""
        async with self._session.request(method, self._url + path) as response:
            return response.status, response.content_type, await response.text()

    async def ask_for_promise(self, body: Any) -> tuple[int, str, str | None]:
        """Return status, text and the header `lsn` of the answer to a leader's request."""
        async with self._session.post(self._url + "/failsafe", json=body) as response:
            return response.status, await response.text(), response.headers.get("lsn")

    async def change(
        self, path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> tuple[int, str]:
        """Return status and text of the answer to a method that changes something."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        url = self._url + path
        async with self._session.request(method, url, data=data, headers=headers) as response:
            return response.status, await response.text()

    async def json(self, path: str) -> Any:
        async with self._session.get(self._url + path) as response:
            assert response.content_type == "application/json"
            return await response.json()


@contextlib.asynccontextmanager
async def serving(directory: Path, **restapi: Any) -> AsyncIterator[Served]:
    """Serve a loop whose files are below *directory*; *restapi* is added to that section."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    rest = {"listen": address, "connect_address": address, **restapi}
    rig = Rig(directory, Instance(), restapi=rest)
    api = Api(rig.loop)
    api.start()
    async with aiohttp.ClientSession() as session:
        yield Served(rig, f"http://{address}", session)
    api.stop()
