# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd v3 over its JSON gateway: several endpoints, hedged requests, leases, watches.

The gateway is documented in etcd's "gRPC gateway" page: protobuf messages as JSON, bytes in base64,
64-bit integers as strings.

A request goes to the endpoint that answered last; when that one fails the next is asked at once,
and when it is merely slow the next is asked *as well* after `hedge_delay` (Dean and Barroso, "The
Tail at Scale", 2013). So a hung etcd member costs milliseconds. Requests that are not idempotent by
themselves are made so by their compares; see `Store.take_leader`.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from pgherd.errors import LeaseLostError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence

    from pgherd.access_config import Login

# How long the preferred (nearest) endpoint is left out after another one was quicker, seconds.
PREFERENCE_SECONDS = 30.0
# A watch answers only when something happens; these bound how long a dead one goes unnoticed.
WATCH_CONNECT_SECONDS = 2.0
# etcd's gRPC code for "requested lease not found" (google.rpc.Code NOT_FOUND).
NOT_FOUND = 5
# What etcd says to a token that it does not know (any more), and to none; and where it wants none.
STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")
NO_AUTHENTICATION = "authentication is not enabled"


@dataclass(frozen=True)
class KeyValue:
    """One key as etcd returned it."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    lease: int


@dataclass(frozen=True)
class Compare:
    """One condition of a transaction: *target* of *key* equals *value*.

    :param target: ``create_revision``, ``mod_revision``, ``lease`` (integers) or ``value`` (text).
    """

    key: str
    target: str
    value: int | str

    def encode(self) -> dict[str, Any]:
        encoded = _encode(self.value) if isinstance(self.value, str) else str(self.value)
        kind = {"create_revision": "CREATE", "mod_revision": "MOD", "lease": "LEASE"}
        return {
            "key": _encode(self.key),
            "target": kind.get(self.target, "VALUE"),
            "result": "EQUAL",
            self.target: encoded,
        }


@dataclass(frozen=True)
class Put:
    """Write *value* to *key*, bound to *lease* (0: to none)."""

    key: str
    value: str
    lease: int = 0

    def encode(self) -> dict[str, Any]:
        body: dict[str, Any] = {"key": _encode(self.key), "value": _encode(self.value)}
        if self.lease:
            body["lease"] = str(self.lease)
        return {"request_put": body}


@dataclass(frozen=True)
class Delete:
    """Delete *key*."""

    key: str

    def encode(self) -> dict[str, Any]:
        return {"request_delete_range": {"key": _encode(self.key)}}


@dataclass(frozen=True)
class MemberStatus:
    """What one etcd member says about itself."""

    member_id: int
    leader_id: int
    version: str


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode()


def _prefix_end(prefix: str) -> str:
    """Return the first key after all keys that begin with *prefix*, encoded."""
    raw = bytearray(prefix.encode())
    raw[-1] += 1
    return b64encode(bytes(raw)).decode()


def _decode_kv(raw: dict[str, Any]) -> KeyValue:
    return KeyValue(
        key=b64decode(raw["key"]).decode(),
        value=b64decode(raw.get("value", "")).decode(),
        create_revision=int(raw.get("create_revision", 0)),
        mod_revision=int(raw.get("mod_revision", 0)),
        lease=int(raw.get("lease", 0)),
    )


class Etcd:
    """A client of one etcd cluster.

    :param endpoints: base URLs, the nearest first.
    :param timeout: seconds a whole request may take, hedging included.
    :param hedge_delay: seconds after which the next endpoint is asked as well.
    :param tls: context for https endpoints, None for http.
    :param login: the user of etcd's own authentication, None where etcd asks for none.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float,
        hedge_delay: float,
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
    ) -> None:
        self._endpoints = list(endpoints)
        self._login = login
        self._token: str | None = None
        self._timeout = timeout
        self._hedge_delay = hedge_delay
        self._tls: ssl.SSLContext | bool = tls if tls is not None else True
        self._session: aiohttp.ClientSession | None = None
        self._preferred = 0
        self._preferred_until = 0.0
        self._moved = asyncio.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(self._endpoints)

    def reconfigure(self, endpoints: Sequence[str], *, timeout: float, hedge_delay: float) -> None:
        """Use other endpoints and bounds (seconds) for the requests to come."""
        if list(endpoints) != self._endpoints:
            self._endpoints, self._preferred = list(endpoints), 0
        self._timeout, self._hedge_delay = timeout, hedge_delay

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        """Read all keys that begin with *prefix*, linearizably.

        :return: the revision of the read and the keys.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        body = {"key": _encode(prefix), "range_end": _prefix_end(prefix)}
        answer = await self._call("/v3/kv/range", body)
        return int(answer["header"]["revision"]), [_decode_kv(kv) for kv in answer.get("kvs", ())]

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> bool:
        """Do *operations* in one transaction if all *compares* hold; tell whether they did.

        :raises StoreError: etcd refused, or no endpoint answered in time; it may have been done.
        """
        body = {
            "compare": [compare.encode() for compare in compares],
            "success": [operation.encode() for operation in operations],
        }
        answer = await self._call("/v3/kv/txn", body)
        return bool(answer.get("succeeded", False))

    async def lease_grant(self, ttl: int) -> int:
        """Return the id of a new lease of *ttl* seconds.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        answer = await self._call("/v3/lease/grant", {"TTL": str(ttl), "ID": "0"})
        return int(answer["ID"])

    async def lease_keepalive(self, lease: int) -> None:
        """Renew *lease*.

        :raises LeaseLostError: etcd does not know it any more.
        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        answer = await self._call("/v3/lease/keepalive", {"ID": str(lease)})
        if int(answer.get("result", {}).get("TTL", 0)) <= 0:
            raise LeaseLostError(f"etcd does not know lease {lease:x}")

    async def lease_revoke(self, lease: int) -> None:
        """Drop *lease* and every key bound to it; a lease that is gone already is fine.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        try:
            await self._call("/v3/lease/revoke", {"ID": str(lease)})
        except LeaseLostError:
            return

    async def member_status(self, endpoint: str) -> MemberStatus:
        """Ask the member at *endpoint*, and no other, about itself.

        :raises StoreError: it refused or did not answer in time.
        """
        answer = await self._ask_within(endpoint, "/v3/maintenance/status", {})
        return MemberStatus(
            member_id=int(answer["header"]["member_id"]),
            leader_id=int(answer.get("leader", 0)),
            version=str(answer.get("version", "")),
        )

    async def member_ids(self) -> dict[int, tuple[str, ...]]:
        """Return the client URLs of every voting member by member id.

        :raises StoreError: etcd refused, or no endpoint answered in time.
        """
        answer = await self._call("/v3/cluster/member/list", {})
        return {
            int(member["ID"]): tuple(member.get("clientURLs", ()))
            for member in answer.get("members", ())
            if not member.get("isLearner", False)
        }

    async def transfer_leadership(self, endpoint: str, target: int) -> None:
        """Have the raft leader at *endpoint* hand over to member *target*.

        :raises StoreError: it refused or did not answer in time.
        """
        path = "/v3/maintenance/transfer-leadership"
        await self._ask_within(endpoint, path, {"targetID": str(target)})

    async def moved(self) -> None:
        """Wait until another endpoint is preferred than when this was called.

        A watch on an endpoint that hangs is silent, not broken: who watches starts anew then.
        """
        self._moved.clear()
        await self._moved.wait()

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[set[str]]:
        """Yield the set of changed keys for every batch of events from *revision* on.

        Ends when etcd ends the watch; the caller reads again and starts another.

        :raises StoreError: the connection failed.
        """
        request = {
            "create_request": {
                "key": _encode(prefix),
                "range_end": _prefix_end(prefix),
                "start_revision": str(revision),
            }
        }
        endpoint = self._order()[0]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=WATCH_CONNECT_SECONDS)
        headers = self._credentials()
        try:
            async with self._open().post(
                endpoint + "/v3/watch",
                json=request,
                headers=headers,
                timeout=timeout,
                ssl=self._tls,
            ) as response:
                async for answer in _lines(response):
                    result = answer.get("result", {})
                    if result.get("canceled") or "error" in answer:
                        return
                    events = result.get("events", ())
                    if events:
                        yield {b64decode(event["kv"]["key"]).decode() for event in events}
        except (aiohttp.ClientError, OSError) as error:
            self._demote_preference(endpoint)
            raise StoreUnavailableError(f"watch on {endpoint} ended: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    def _order(self) -> list[str]:
        """Return the endpoints, the one to ask first in front."""
        if asyncio.get_running_loop().time() >= self._preferred_until:
            self._preferred = 0
        return self._endpoints[self._preferred :] + self._endpoints[: self._preferred]

    def _prefer(self, endpoint: str) -> None:
        # A request may outlive a change of the endpoints.
        index = self._endpoints.index(endpoint) if endpoint in self._endpoints else 0
        if index != self._preferred:
            self._moved.set()
            self._preferred = index
            self._preferred_until = asyncio.get_running_loop().time() + PREFERENCE_SECONDS

    def _demote_preference(self, endpoint: str) -> None:
        if endpoint in self._endpoints:
            following = (self._endpoints.index(endpoint) + 1) % len(self._endpoints)
            self._prefer(self._endpoints[following])

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the endpoints in turn, hedged; the first answer wins.

        :raises StoreError: etcd refused the request (an answer too), or nobody answered in time.
        """
        waiting = self._order()
        running: dict[asyncio.Task[dict[str, Any]], str] = {}
        deadline = asyncio.get_running_loop().time() + self._timeout
        problems: list[str] = []
        try:
            while waiting or running:
                if waiting:
                    endpoint = waiting.pop(0)
                    task = asyncio.create_task(self._ask(endpoint, path, body))
                    # Of an answer that comes too late not even the failure is of interest.
                    task.add_done_callback(_discard)
                    running[task] = endpoint
                remaining = deadline - asyncio.get_running_loop().time()
                pause = min(self._hedge_delay, remaining) if waiting else remaining
                done, _ = await asyncio.wait(
                    running, timeout=max(pause, 0), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    endpoint = running.pop(task)
                    error = task.exception()
                    if error is None:
                        self._prefer(endpoint)
                        return task.result()
                    if not isinstance(error, StoreUnavailableError):
                        raise error
                    problems.append(f"{endpoint}: {error}")
                if remaining <= 0:
                    break
        finally:
            for task in running:
                task.cancel()
        silent = [f"{endpoint}: no answer" for endpoint in running.values()]
        raise StoreUnavailableError(
            f"no etcd endpoint answered within {self._timeout} s ({'; '.join(problems + silent)})"
        )

    async def _ask_within(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask one endpoint once, for no longer than a whole request may take.

        :raises StoreError: it refused or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(endpoint, path, body)
        except TimeoutError as error:
            raise StoreUnavailableError(f"{endpoint} does not answer") from error

    async def _ask(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask one endpoint, with a token where there is a user; see `_send` for what it raises."""
        if self._login is None:
            return await self._send(endpoint, path, body)
        if self._token is None:
            await self._authenticate(endpoint, self._login)
        used = self._token
        try:
            return await self._send(endpoint, path, body)
        except StoreError as error:
            if not any(phrase in str(error) for phrase in STALE_TOKEN):
                raise
        # Tokens expire, and are forgotten by a member that is restarted.
        if self._token == used:
            await self._authenticate(endpoint, self._login)
        return await self._send(endpoint, path, body)

    async def _authenticate(self, endpoint: str, login: Login) -> None:
        """Get a token, the empty one where etcd's authentication is off.

        :raises StoreError: the name or the password is wrong, or there is no answer.
        """
        given = {"name": login.username, "password": login.password}
        self._token = None
        try:
            answer = await self._send(endpoint, "/v3/auth/authenticate", given)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            if NO_AUTHENTICATION not in str(error):
                raise
            answer = {}
        self._token = str(answer.get("token", ""))

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    async def _send(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request to one endpoint.

        :raises StoreUnavailableError: no usable answer: connection lost, 5xx, or no quorum.
        :raises LeaseLostError: etcd does not know the lease.
        :raises StoreError: etcd refused the request for good.
        """
        try:
            async with self._open().post(
                endpoint + path, json=body, headers=self._credentials(), ssl=self._tls
            ) as response:
                # A streaming call (keepalive) is answered by one line and goes on; one is enough.
                async for answer in _lines(response):
                    if "error" not in answer and response.status == 200:
                        return answer
                    raise _refusal(answer, response.status)
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnavailableError(str(error) or type(error).__name__) from error
        raise StoreUnavailableError("empty answer")


def _discard(task: asyncio.Task[dict[str, Any]]) -> None:
    if not task.cancelled():
        task.exception()


def _refusal(answer: dict[str, Any], status: int) -> StoreError:
    error = answer.get("error", {})
    details = error if isinstance(error, dict) else answer
    message = str(details.get("message", error))
    code = int(details.get("grpc_code", details.get("code", 0)) or 0)
    if code == NOT_FOUND and "lease" in message:
        return LeaseLostError(message)
    # 503 (unavailable: no leader) and 504 may be answered better by another member.
    return StoreUnavailableError(message) if status >= 500 else StoreError(message)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield each JSON document of a gateway's answer, one to a line.

    :raises StoreUnavailableError: something else answers: a proxy, or no etcd at all.
    """
    pending = b""
    async for chunk in response.content.iter_any():
        pending += chunk
        *lines, pending = pending.split(b"\n")
        for line in lines:
            if line.strip():
                yield _document(line)
    if pending.strip():
        yield _document(pending)


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise StoreUnavailableError(f"not the JSON of etcd's gateway: {line[:80]!r}") from error
    if not isinstance(document, dict):
        raise StoreUnavailableError(f"not the JSON of etcd's gateway: {line[:80]!r}")
    return document
