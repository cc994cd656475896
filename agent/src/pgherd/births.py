# SPDX-License-Identifier: GPL-3.0-or-later
"""How a data directory comes to be: the first one of a cluster, and copies of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pgherd.errors import PostgresError, StoreError
from pgherd.model import Cluster
from pgherd.settings import Settings

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.lease import LeaseKeeper
    from pgherd.model import Member, Remote
    from pgherd.postgres import Postgres
    from pgherd.store import Store

log = logging.getLogger(__name__)


async def bootstrap(config: Config, store: Store, keeper: LeaseKeeper, postgres: Postgres) -> None:
    """Create the cluster, if this member wins the race for the initialize key (R39).

    A standby cluster begins with a copy of the one that it follows. A failure gives the claim back;
    what was made is set aside for a human to look at.

    :raises PgherdError: initdb or the first start failed, or etcd refused.
    """
    lease = keeper.lease
    if lease is None or not await store.claim_initialize(lease.id):
        log.info("another member creates the cluster")
        return
    remote = Cluster(config=config.bootstrap_config).remote
    try:
        await (postgres.clone(remote) if remote else postgres.initdb(config.initdb))
    except PostgresError:
        await store.abandon_initialize(lease.id)
        raise
    try:
        await _start(config, postgres, remote)
        await _announce(config, store, lease.id, postgres)
    except (PostgresError, StoreError, asyncio.CancelledError):
        await postgres.stop_now()
        log.error("the new data directory is kept as %s", postgres.set_aside("failed"))
        await store.abandon_initialize(lease.id)
        raise


async def _start(config: Config, postgres: Postgres, remote: Remote | None) -> None:
    """Start the first member: of a standby cluster it is a standby of *remote*."""
    settings = Settings.parse(config.bootstrap_config)
    if remote is not None:
        await postgres.configure(config, {**settings.parameters, **remote.recovery_parameters})
        await postgres.start_standby(remote)
    else:
        await postgres.configure(config, settings.parameters)
        await postgres.start_primary()
    await postgres.wait_until_answering(settings.primary_start_timeout)
    if remote is None:
        await postgres.create_accounts()


async def _announce(config: Config, store: Store, lease: int, postgres: Postgres) -> None:
    [row] = await postgres.query("SELECT system_identifier::text AS id FROM pg_control_system()")
    if not await store.complete_initialize(row["id"], config.bootstrap_config, lease):
        raise StoreError("the claim to create the cluster was lost meanwhile")


async def clone(postgres: Postgres, source: Member, upstream: Member | None) -> None:
    """Copy *source* and start as a standby of *upstream*, None for the archive only.

    :raises PostgresError: the copy or the start failed.
    """
    log.info("copying the data of %s", source.name)
    await postgres.clone(source)
    await postgres.start_standby(upstream)
