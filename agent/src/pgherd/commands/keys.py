# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands read and write in etcd themselves, because no agent answers or none may do it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from pgherd.errors import (
    ConfigError,
    NobodyAnswersError,
    PgherdError,
    StoreError,
    StoreUnavailableError,
)
from pgherd.etcd import Etcd
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pgherd.client_config import Client
    from pgherd.config import Config

Result = TypeVar("Result")

# How long etcd may take to answer a person, seconds.
ETCD_SECONDS = 3.0


@contextlib.asynccontextmanager
async def opened(config: Config | Client) -> AsyncIterator[Store]:
    """Give the cluster's keys, and close the connections afterwards.

    :raises ConfigError: files for TLS cannot be used.
    :raises PgherdError: a client's configuration names no etcd.
    """
    if not config.etcd_endpoints:
        raise PgherdError("this needs etcd, and etcd3.hosts is missing in the configuration")
    tls = config.etcd_tls
    try:
        context = tls.client_context()
    except OSError as error:
        named = ", ".join(path for path in (tls.ca, tls.certificate, tls.key) if path)
        reason = error.strerror or error
        raise ConfigError([f"etcd3: {named}: cannot be used: {reason}"]) from error
    etcd = Etcd(
        config.etcd_endpoints,
        timeout=ETCD_SECONDS,
        hedge_delay=config.timing.hedge_delay,
        tls=context,
        login=config.etcd_login,
    )
    try:
        yield Store(etcd, config.namespace, config.scope, config.name)
    finally:
        await etcd.close()


def with_keys(config: Config | Client, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Do *work* on the cluster's keys.

    :raises NobodyAnswersError: etcd does not answer, or is not known.
    :raises StoreError: it refuses.
    """
    if not config.etcd_endpoints:
        raise NobodyAnswersError("no agent of ctl.agents answers, and etcd3.hosts names no etcd")

    async def run() -> Result:
        async with opened(config) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except StoreUnavailableError as error:
        if not config.name:
            raise NobodyAnswersError(
                f"etcd does not answer; can this machine reach it, and does it run? {error}"
            ) from error
        raise NobodyAnswersError(
            "neither the agent on this host nor etcd answers; look at `systemctl status pgherd "
            f"etcd`: {error}"
        ) from error
    except StoreError as error:
        raise StoreError(
            f"etcd refuses: {error}; its user and password are etcd3.username and etcd3.password"
        ) from error
