# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's client of etcd over the simulated network; its hedging is the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.tests.sim.etcd_service import EtcdService, Watcher
from pgherd.errors import LeaseLostError, StoreError, StoreUnavailableError
from pgherd.etcd import Compare, Delete, Etcd, KeyValue, MemberStatus, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pgherd.config import Config


def _host(endpoint: str) -> str:
    return endpoint.split("/")[2].partition(":")[0]


class SimEtcd(Etcd):
    """etcd as one agent sees it.

    :param host: the agent's host.
    """

    def __init__(self, service: EtcdService, host: str, config: Config) -> None:
        timing = config.timing
        super().__init__(
            config.etcd_endpoints, timeout=timing.etcd_timeout, hedge_delay=timing.hedge_delay
        )
        self._service = service
        self._host = host

    async def _ask(self, endpoint: str, path: str, body: Any) -> Any:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(answer: Any, error: StoreError | None) -> None:
            if answered.done():
                return
            if error is None:
                answered.set_result(answer)
            else:
                answered.set_exception(error)

        self._service.request(self._host, _host(endpoint), path, body, reply)
        return await answered

    async def range(self, prefix: str) -> tuple[int, list[KeyValue]]:
        answer: Any = await self._call("range", prefix)  # type: ignore[arg-type]
        return answer  # type: ignore[no-any-return]

    async def txn(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> bool:
        return bool(await self._call("txn", (compares, operations)))  # type: ignore[arg-type]

    async def lease_grant(self, ttl: int) -> int:
        number: Any = await self._call("grant", ttl)  # type: ignore[arg-type]
        return number  # type: ignore[no-any-return]

    async def lease_keepalive(self, lease: int) -> None:
        await self._call("keepalive", lease)  # type: ignore[arg-type]

    async def lease_revoke(self, lease: int) -> None:
        try:
            await self._call("revoke", lease)  # type: ignore[arg-type]
        except LeaseLostError:
            return

    async def member_status(self, endpoint: str) -> MemberStatus:
        answer: Any = await self._ask_within(endpoint, "status", None)  # type: ignore[arg-type]
        number, leader = answer
        return MemberStatus(number, leader, "3.5.0")

    async def member_ids(self) -> dict[int, tuple[str, ...]]:
        answer: Any = await self._call("members", None)  # type: ignore[arg-type]
        return answer  # type: ignore[no-any-return]

    async def transfer_leadership(self, endpoint: str, target: int) -> None:
        await self._ask_within(endpoint, "transfer", target)  # type: ignore[arg-type]

    async def watch(self, prefix: str, revision: int) -> AsyncIterator[set[str]]:
        endpoint = self._order()[0]
        pending: list[set[str] | None] = []
        came = asyncio.Event()

        def deliver(changed: set[str] | None) -> None:
            pending.append(changed)
            came.set()

        member = self._service.members[_host(endpoint)]
        watcher = Watcher(self._host, member, prefix, revision, deliver)
        self._service.watch(watcher)
        try:
            while True:
                came.clear()
                while pending:
                    changed = pending.pop(0)
                    if changed is None:
                        self._demote_preference(endpoint)
                        raise StoreUnavailableError(f"watch on {endpoint} ended")
                    yield changed
                await came.wait()
        finally:
            watcher.is_open = False
