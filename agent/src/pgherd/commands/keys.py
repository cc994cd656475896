# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands read and write in etcd themselves, because no agent answers or none may do it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from pgherd.errors import NobodyAnswersError, StoreUnavailableError
from pgherd.etcd import Etcd
from pgherd.published import cluster_body
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pgherd.config import Config

Result = TypeVar("Result")

# How long etcd may take to answer a person, seconds.
ETCD_SECONDS = 3.0


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    """Give the cluster's keys, and close the connections afterwards."""
    etcd = Etcd(
        config.etcd_endpoints,
        timeout=ETCD_SECONDS,
        hedge_delay=config.timing.hedge_delay,
        tls=config.etcd_tls.client_context(),
    )
    try:
        yield Store(etcd, config.namespace, config.scope, config.name)
    finally:
        await etcd.close()


def with_keys(config: Config, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Do *work* on the cluster's keys.

    :raises NobodyAnswersError: etcd does not answer.
    :raises StoreError: it refuses.
    """

    async def run() -> Result:
        async with opened(config) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except StoreUnavailableError as error:
        raise NobodyAnswersError(
            f"neither the agent on this host nor etcd answers ({error}); look at "
            "`systemctl status pgherd etcd`"
        ) from error


def read_cluster(config: Config) -> dict[str, Any]:
    """Return what `GET /cluster` would, from a fresh read of etcd.

    :raises NobodyAnswersError: it does not answer.
    """

    async def read(store: Store) -> dict[str, Any]:
        return cluster_body(await store.load(), config.scope)

    return with_keys(config, read)
