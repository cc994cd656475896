# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the other members, all at once, with one short bound."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import aiohttp

from pgherd.settings import Tags, whole
from pgherd.view import Peer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from pgherd.access_config import Ctl
    from pgherd.model import Member

log = logging.getLogger(__name__)


class HttpPeers:
    """Peers behind `GET /patroni`; Patroni members are understood too.

    :param ctl: how we show ourselves to them.
    """

    def __init__(self, ctl: Ctl) -> None:
        self._ctl = ctl
        self._tls: ssl.SSLContext | bool = ctl.context() or True
        self._session: aiohttp.ClientSession | None = None

    def reconfigure(self, ctl: Ctl) -> None:
        """Show ourselves as *ctl* says from now on; files that cannot be used change nothing."""
        try:
            self._tls = ctl.context() or True
        except OSError as error:
            log.error("the certificates for asking other members are not used: %s", error)
        self._ctl = ctl

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, members: Mapping[str, Member], within: float) -> dict[str, Peer]:
        """Return the answers that came within *within* seconds, by member name."""
        answers = await asyncio.gather(
            *(self._ask(member, within) for member in members.values() if member.api_url)
        )
        return {peer.name: peer for peer in answers if peer is not None}

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        """Return who promised within *within* seconds to elect nobody else (`POST /failsafe`).

        With the position that each has (bytes), 0 where it is not told.
        """
        promised = await asyncio.gather(
            *(self._request_promise(member, body, within) for member in members.values())
        )
        answers = zip(members, promised, strict=True)
        return {name: position for name, position in answers if position is not None}

    async def _request_promise(
        self, member: Member, body: Mapping[str, Any], within: float
    ) -> int | None:
        try:
            async with asyncio.timeout(within), self._post(member, "/failsafe", body) as response:
                if response.status != 200:
                    text = (await response.text())[:100]
                    log.info("%s gives no promise: %d %s", member.name, response.status, text)
                    return None
                return whole(response.headers.get("lsn")) or 0
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.info("%s gives no promise: %s", member.name, str(error) or type(error).__name__)
            return None

    async def tell_poolers(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, str]:
        """Have the poolers of *members* do what *body* says (`POST /pooler`).

        :param within: seconds for their answers.
        :return: what went wrong, by member; empty for nothing.
        """
        told = await asyncio.gather(
            *(self._tell_pooler(member, body, within) for member in members.values())
        )
        return dict(zip(members, told, strict=True))

    async def _tell_pooler(self, member: Member, body: Mapping[str, Any], within: float) -> str:
        try:
            async with asyncio.timeout(within), self._post(member, "/pooler", body) as response:
                return "" if response.status == 200 else (await response.text())[:300]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return str(error) or f"no answer within {within} s"

    def _post(
        self, member: Member, path: str, body: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        url = member.api_url.removesuffix("/patroni") + path
        return self._open().post(url, json=body, ssl=self._tls, headers=self._ctl.headers)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    async def _ask(self, member: Member, within: float) -> Peer | None:
        try:
            async with asyncio.timeout(within):
                async with self._open().get(member.api_url, ssl=self._tls) as response:
                    body = await response.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.info("%s does not answer: %s", member.name, str(error) or type(error).__name__)
            return None
        try:
            return parse_peer(member.name, body)
        except (AttributeError, TypeError, ValueError) as error:
            log.info("%s gives an answer of another kind: %s", member.name, error)
            return None


def parse_peer(name: str, body: Mapping[str, Any]) -> Peer:
    """Read the body of `GET /patroni`.

    Our own agents say under `pgherd` whether they could take the lead (etcd reachable, a lease);
    for a Patroni member a running PostgreSQL without `nofailover` has to do.

    :raises AttributeError, TypeError, ValueError: it is the body of something else.
    """
    xlog = body.get("xlog") or {}
    tags = Tags.parse(body.get("tags") or {})
    positions = (xlog.get(key) for key in ("location", "received_location", "replayed_location"))
    extra = body.get("pgherd") or {}
    is_running = body.get("state") == "running"
    timeline = body.get("timeline")
    return Peer(
        name=name,
        role=str(body.get("role", "")) if is_running else "",
        timeline=int(timeline) if timeline is not None else None,
        position=max((int(position) for position in positions if position), default=0),
        can_lead=is_running and not tags.nofailover and extra.get("can_lead", True) is True,
        priority=tags.failover_priority,
        promised_to=extra.get("promised_to"),
        receives=extra.get("receives", body.get("replication_state") == "streaming") is True,
    )
