# SPDX-License-Identifier: GPL-3.0-or-later
"""What the etcd client makes of answers that no healthy etcd gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiohttp import web

from pgherd.errors import LeaseLostError, StoreError, StoreUnavailableError
from pgherd.etcd import Etcd, _prefix_end, _refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Gateway:
    """A server that answers every request with one text."""

    def __init__(self) -> None:
        self.text = "{}"
        self.status = 200
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(text=self.text, status=self.status)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    served = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    served.url = f"http://{host}:{port}"
    yield served
    await runner.cleanup()


@pytest_asyncio.fixture
async def etcd(gateway: Gateway) -> AsyncIterator[Etcd]:
    client = Etcd([gateway.url], timeout=5, hedge_delay=1)
    yield client
    await client.close()


@pytest.mark.parametrize("text", ["<html>Bad Gateway</html>", "[1]", '"text"', '{"half":'])
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_an_answer_that_is_not_etcds_is_no_answer(
    gateway: Gateway, etcd: Etcd, text: str, status: int
) -> None:
    """A proxy or a wrong port must not end the agent."""
    gateway.text, gateway.status = text, status
    with pytest.raises(StoreUnavailableError, match="JSON"):
        await etcd.range("/")
    with pytest.raises(StoreUnavailableError, match="JSON"):
        await anext(etcd.watch("/", 1))


async def test_an_empty_answer_is_no_answer(gateway: Gateway, etcd: Etcd) -> None:
    gateway.text = ""
    with pytest.raises(StoreUnavailableError, match="empty answer"):
        await etcd.range("/")


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (
            {"error": "etcdserver: requested lease not found", "code": 5},
            404,
            LeaseLostError,
        ),
        (
            {"error": {"grpc_code": 5, "message": "etcdserver: requested lease not found"}},
            404,
            LeaseLostError,
        ),
        ({"error": "etcdserver: no leader", "code": 14}, 503, StoreUnavailableError),
        ({"code": 14, "message": "etcdserver: request timed out"}, 503, StoreUnavailableError),
        ({"error": "context deadline exceeded", "code": 4}, 504, StoreUnavailableError),
        ({"error": "etcdserver: permission denied", "code": 7}, 403, StoreError),
        ({"error": "etcdserver: duplicate key given in txn request", "code": 3}, 400, StoreError),
    ],
)
def test_a_refusal_is_told_from_an_outage_and_from_a_lost_lease(
    answer: dict[str, object], status: int, kind: type[StoreError]
) -> None:
    error = _refusal(answer, status)
    assert type(error) is kind
    assert str(error)


@pytest.mark.parametrize(("prefix", "end"), [("/a/", "L2Ew"), ("a", "Yg==")])
def test_the_end_of_a_prefix_is_the_first_key_after_it(prefix: str, end: str) -> None:
    assert _prefix_end(prefix) == end
