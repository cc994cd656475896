# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may change something: Patroni's order, codes and texts (1.7)."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.access import CHALLENGE, DENIED, NO_CERTIFICATE, OFF, comes_from, refusal
from pgherd.access_config import Access, Login, ServerTls
from pgherd.answers import Answer
from pgherd.requests import Request

LOGIN = Login("pgherd", "op:3n")
GOOD = LOGIN.authorization
MEMBERS = ["http://127.0.0.1:8008/patroni", "http://192.0.2.2:8008/patroni", "http://[", ""]


def request(authorization: str | None = GOOD, **changes: Any) -> Request:
    """Return a request from 198.51.100.7 that shows *authorization*."""
    headers = {} if authorization is None else {"authorization": authorization}
    known: dict[str, Any] = {"remote": "198.51.100.7", "headers": headers}
    return Request("POST", "/restart", {}, **{**known, **changes})


class TestThePassword:
    async def test_who_knows_it_may(self) -> None:
        assert await refusal(request(), Access(LOGIN), MEMBERS) is None
        assert await refusal(request(GOOD.replace("B", "b", 1)), Access(LOGIN), MEMBERS) is None

    async def test_without_one_nothing_can_be_changed(self) -> None:
        assert await refusal(request(), Access(), MEMBERS) == OFF

    async def test_nothing_is_shown(self) -> None:
        answer = Answer(401, "no auth header received", CHALLENGE)
        assert await refusal(request(None), Access(LOGIN), MEMBERS) == answer

    @pytest.mark.parametrize(
        "shown",
        [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic ä",
            "Bearer " + GOOD.split()[1],
            Login("pgherd", "op:3").authorization,
            Login("pgherd", "op:3nn").authorization,
            Login("pgher", "op:3n").authorization,
            Login("", "").authorization,
        ],
    )
    async def test_something_else_is_shown(self, shown: str) -> None:
        answer = Answer(401, "not authenticated", CHALLENGE)
        assert await refusal(request(shown), Access(LOGIN), MEMBERS) == answer


class TestTheList:
    @pytest.mark.parametrize(
        ("remote", "entries", "good"),
        [
            ("198.51.100.7", ["198.51.100.7"], True),
            ("198.51.100.7", ["192.0.2.1", "198.51.100.0/24"], True),
            ("198.51.100.7", ["198.51.100.77"], False),
            ("198.51.100.7", ["2001:db8::/32"], False),
            ("2001:db8::7", ["2001:db8::/32"], True),
            ("127.0.0.1", ["localhost"], True),
            ("198.51.100.7", ["localhost"], False),
            ("198.51.100.7", ["no.such.host.invalid", "a..b", ""], False),
        ],
    )
    async def test_addresses_networks_and_names(
        self, remote: str, entries: list[str], good: bool
    ) -> None:
        access = Access(LOGIN, allowlist=tuple(entries))
        expected = None if good else DENIED
        assert await refusal(request(remote=remote), access, MEMBERS) == expected

    @pytest.mark.parametrize("remote", ["127.0.0.1", "192.0.2.2"])
    async def test_the_members_can_be_on_it(self, remote: str) -> None:
        asked = request(remote=remote)
        assert await refusal(asked, Access(LOGIN, include_members=True), MEMBERS) is None
        assert await refusal(asked, Access(LOGIN, ("198.51.100.0/24",)), MEMBERS) == DENIED

    async def test_the_members_alone(self) -> None:
        assert await refusal(request(), Access(LOGIN, include_members=True), []) == DENIED

    async def test_it_is_looked_at_first(self) -> None:
        """Who is not on it learns nothing about passwords."""
        assert await refusal(request(None), Access(LOGIN, ("192.0.2.1",)), MEMBERS) == DENIED


class TestTheCertificate:
    @pytest.mark.parametrize("verify", ["optional", "required"])
    async def test_it_is_wanted_besides_the_password(self, verify: str) -> None:
        access = Access(LOGIN, tls=ServerTls(verify_client=verify))
        assert await refusal(request(secure=True), access, MEMBERS) == NO_CERTIFICATE
        shown = request(secure=True, has_certificate=True)
        assert await refusal(shown, access, MEMBERS) is None
        without = request(None, secure=True, has_certificate=True)
        answer = await refusal(without, access, MEMBERS)
        assert answer is not None
        assert answer.status == 401

    async def test_it_is_not_wanted_otherwise(self) -> None:
        assert await refusal(request(secure=True), Access(LOGIN), MEMBERS) is None


async def test_an_empty_name_is_nobody_s_host() -> None:
    """`getaddrinfo` takes it for loopback."""
    assert not await comes_from("127.0.0.1", "")
    assert not await comes_from("127.0.0.1", None)
