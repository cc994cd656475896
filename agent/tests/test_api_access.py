# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes something: who may ask for it, and what a request has to look like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio

from agent.tests.builders import ME, cluster, primary, view
from agent.tests.served import Served, serving
from agent.tests.test_api_safety import PROMISING
from pgherd import api
from pgherd.access_config import Login
from pgherd.answers import Answer, Unsafe
from pgherd.requests import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pgherd.loop import Loop

ACCOUNT: Final = {"username": "pgherd", "password": "op3n"}
GOOD: Final = Login(**ACCOUNT).authorization
WRONG: Final = Login("pgherd", "closed").authorization


async def show(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Answer with what was asked."""
    return Answer(200, dict(body))


@pytest.fixture(autouse=True)
def two_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two methods that only show their bodies."""
    table = {("POST", "wanting"): Unsafe(show, needs_body=True), ("POST", "plain"): Unsafe(show)}
    monkeypatch.setattr(api, "UNSAFE", table)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, authentication=ACCOUNT) as known:
        known.show(view(primary(), cluster=cluster(ME)))
        yield known


class TestWho:
    async def test_with_the_password(self, served: Served) -> None:
        assert await served.change("/plain", Authorization=GOOD) == (200, "{}")

    async def test_without_it(self, served: Served) -> None:
        assert await served.change("/plain") == (401, "no auth header received")
        assert await served.change("/plain", Authorization=WRONG) == (401, "not authenticated")

    async def test_reading_is_open(self, served: Served) -> None:
        assert await served.status("/patroni") == 200

    async def test_nobody_where_no_password_is_configured(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as served:
            answer = (403, "unsafe methods are off: set restapi.authentication")
            assert await served.change("/plain", Authorization=GOOD) == answer

    async def test_nobody_from_elsewhere(self, tmp_path: Path) -> None:
        rest = {"authentication": ACCOUNT, "allowlist": ["192.0.2.0/24"]}
        async with serving(tmp_path, **rest) as served:
            answer = (403, "Access is denied")
            assert await served.change("/plain", Authorization=GOOD) == answer
            assert await served.status("/patroni") == 200

    async def test_who_may_not_is_not_listened_to(self, served: Served) -> None:
        """The body is not even read."""
        assert (await served.change("/wanting", b"x" * 900_000))[0] == 401


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"1",
            b"null",
            b'"a"',
            b"{}",
            b"\xff",
            b"[" * 100_000,
            b'{"a":NaN}',
            b'{"a":"\\ud800"}',
            b'{"a":' * 40 + b"1" + b"}" * 40,
            b'{"a":' * 5000,
        ],
    )
    async def test_an_object_is_wanted(self, served: Served, body: bytes) -> None:
        answer = await served.change("/wanting", body, Authorization=GOOD)
        assert answer == (400, "a JSON object is wanted")

    async def test_an_object_is_taken(self, served: Served) -> None:
        assert await served.change("/wanting", {"a": 1}, Authorization=GOOD) == (200, '{"a":1}')
        assert await served.change("/plain", {"a": 1}, Authorization=GOOD) == (200, '{"a":1}')

    @pytest.mark.parametrize("body", [b"[]", b"{"])
    async def test_what_is_there_has_to_be_one_also_where_none_is_needed(
        self, served: Served, body: bytes
    ) -> None:
        assert (await served.change("/plain", body, Authorization=GOOD))[0] == 400
        assert (await served.change("/plain", {}, Authorization=GOOD))[0] == 200


class TestPromises:
    """POST /failsafe: section 7 number 13, Patroni's 3096."""

    ASKING: Final = {"name": "pg1", "conn_url": "x", "api_url": "y"}

    async def test_the_allowlist_is_not_asked(self, tmp_path: Path) -> None:
        async with serving(tmp_path, allowlist=["192.0.2.77"]) as served:
            served.show(view(cluster=PROMISING))
            status, text, _ = await served.ask_for_promise({"name": "pg2"})
            assert (status, text) != (403, "Access is denied")
            assert status in (200, 409)

    async def test_the_password_stands_for_the_address(self, served: Served) -> None:
        """Between the members may be something that hides addresses; pg1's is another one here."""
        served.show(view(cluster=PROMISING))
        assert (await served.change("/failsafe", self.ASKING))[0] == 403
        assert (await served.change("/failsafe", self.ASKING, Authorization=WRONG))[0] == 403
        status, text = await served.change("/failsafe", self.ASKING, Authorization=GOOD)
        assert (status, text) in [(200, "Accepted"), (409, text)]
        stranger = {"name": "pg9"}
        assert (await served.change("/failsafe", stranger, Authorization=GOOD))[0] == 403

    async def test_a_long_request_is_not_read(self, served: Served) -> None:
        assert (await served.change("/failsafe", b" " * 20_000))[0] == 413


class TestPagesForMany:
    async def test_one_query_answers_all_who_ask_at_once(self, served: Served) -> None:
        """GET /patroni: many clients must not cost PostgreSQL many queries."""
        count = 0
        observe = served.rig.postgres.observe

        async def counted() -> Any:
            nonlocal count
            count += 1
            return await observe()

        served.rig.postgres.observe = counted  # type: ignore[method-assign]
        page = api.Api(served.rig.loop)._shared["patroni"]
        await asyncio.gather(*(page.get() for _ in range(100)))
        assert count == 1

    async def test_those_who_change_something_are_kept_out_last(self, served: Served) -> None:
        limit = api.Api(served.rig.loop).limit
        limits = [
            limit(Request(method, path, {}, {}))
            for method, path in [
                ("GET", "/operations"), ("POST", "/restart"), ("GET", "/patroni"),
                ("POST", "/failsafe"),
            ]
        ]  # fmt: skip
        assert limits == [api.READERS_AT_ONCE, api.ALL_AT_ONCE, None, None]
        assert api.READERS_AT_ONCE < api.ALL_AT_ONCE
