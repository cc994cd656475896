# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd whose own authentication is on: users, tokens, and what goes without them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from pgherd.access_config import Login
from pgherd.errors import StoreError
from pgherd.etcd import Etcd, Put, _encode, _prefix_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Login("root", "r00t")
HERD = Login("herd", "s3cret")
KEY = "/service/demo/leader"


@contextlib.asynccontextmanager
async def client(endpoints: tuple[str, ...], login: Login | None = None) -> AsyncIterator[Etcd]:
    etcd = Etcd(endpoints, timeout=5, hedge_delay=0.2, login=login)
    try:
        yield etcd
    finally:
        await etcd.close()


@contextlib.asynccontextmanager
async def guarding(real_etcd: Etcd) -> AsyncIterator[tuple[str, ...]]:
    """Give the endpoints of an etcd where the user of HERD may use what is below /service/demo/."""
    steps: list[tuple[str, dict[str, Any]]] = [
        ("user/add", {"name": ROOT.username, "password": ROOT.password}),
        ("user/grant", {"user": ROOT.username, "role": "root"}),
        ("role/add", {"name": "demo"}),
        (
            "role/grant",
            {
                "name": "demo",
                "perm": {
                    "permType": "READWRITE",
                    "key": _encode("/service/demo/"),
                    "range_end": _prefix_end("/service/demo/"),
                },
            },
        ),
        ("user/add", {"name": HERD.username, "password": HERD.password}),
        ("user/grant", {"user": HERD.username, "role": "demo"}),
        ("enable", {}),
    ]
    ended = [
        ("disable", {}),
        ("user/delete", {"name": HERD.username}),
        ("user/delete", {"name": ROOT.username}),
        ("role/delete", {"role": "demo"}),
    ]
    # One endpoint only: what is hedged may be done twice, and a user is added once.
    async with client(real_etcd.endpoints[:1], ROOT) as root:
        with contextlib.suppress(StoreError):
            await root._call("/v3/auth/role/add", {"name": "root"})
        for path, body in steps:
            await root._call(f"/v3/auth/{path}", body)
        try:
            yield real_etcd.endpoints
        finally:
            for path, body in ended:
                await root._call(f"/v3/auth/{path}", body)


@pytest_asyncio.fixture
async def guarded(real_etcd: Etcd) -> AsyncIterator[tuple[str, ...]]:
    async with guarding(real_etcd) as endpoints:
        yield endpoints


async def test_a_user_does_what_its_roles_allow(guarded: tuple[str, ...]) -> None:
    async with client(guarded, HERD) as etcd:
        lease = await etcd.lease_grant(60)
        assert await etcd.txn([], [Put(KEY, "pg1", lease)])
        await etcd.lease_keepalive(lease)
        revision, found = await etcd.range("/service/demo/")
        assert [each.value for each in found] == ["pg1"]
        watch = etcd.watch("/service/demo/", revision + 1)
        change = asyncio.ensure_future(anext(watch))
        await etcd.txn([], [Put(KEY, "pg2")])
        assert await change == {KEY}
        with pytest.raises(StoreError, match="permission denied"):
            await etcd.range("/else/")
        await etcd.lease_revoke(lease)


@pytest.mark.parametrize("login", [None, Login("herd", "wrong")])
async def test_nobody_else_gets_in(guarded: tuple[str, ...], login: Login | None) -> None:
    async with client(guarded, login) as etcd:
        with pytest.raises(StoreError):
            await etcd.range("/service/demo/")


async def test_a_token_that_etcd_has_forgotten_is_replaced(guarded: tuple[str, ...]) -> None:
    """It lives for five minutes, and not beyond a restart of the member."""
    async with client(guarded, HERD) as etcd:
        await etcd.range("/service/demo/")
        etcd._token = "forgotten.1"
        await etcd.range("/service/demo/")
        assert etcd._token != "forgotten.1"


async def test_a_user_is_no_obstacle_where_authentication_is_off(real_etcd: Etcd) -> None:
    async with client(real_etcd.endpoints, HERD) as etcd:
        await etcd.txn([], [Put(KEY, "pg1")])
        await etcd.range("/service/demo/")


async def test_it_may_be_switched_on_under_a_client(real_etcd: Etcd) -> None:
    async with client(real_etcd.endpoints, HERD) as etcd:
        await etcd.range("/service/demo/")
        async with guarding(real_etcd):
            await etcd.range("/service/demo/")
