# SPDX-License-Identifier: GPL-3.0-or-later
"""How a data directory comes to be: the first one of a cluster, and copies of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError, StoreError
from pgherd.methods import recover, run_post_init
from pgherd.model import Cluster
from pgherd.settings import Settings

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.lease import LeaseKeeper
    from pgherd.model import Member, Remote
    from pgherd.postgres import Postgres
    from pgherd.store import Store

log = logging.getLogger(__name__)

Tell = Callable[[str], None]

# Patroni's words (patroni.md 1.4).
INITDB: Final = "initializing new cluster"
INITDB_FAILED: Final = "initdb failed"
CUSTOM: Final = "running custom bootstrap script"
CUSTOM_FAILED: Final = "custom bootstrap failed"
CUSTOM_STARTING: Final = "starting after custom bootstrap"
# A restored cluster may have weeks of WAL to replay, seconds.
RECOVERY_SECONDS: Final = 14 * 86400.0


async def bootstrap(
    config: Config, store: Store, keeper: LeaseKeeper, postgres: Postgres, tell: Tell
) -> None:
    """Create the cluster, if this member wins the race for the initialize key (R39).

    A standby cluster begins with a copy of the one that it follows. A failure gives the claim back;
    what was made is set aside for a human to look at.

    :param tell: is told how far it is, in Patroni's words for the state of a member.
    :raises PgherdError: a step failed, or etcd refused.
    """
    lease = keeper.lease
    if lease is None or not await store.claim_initialize(lease.id):
        log.info("another member creates the cluster")
        return
    remote = Cluster(config=config.bootstrap_config).remote
    try:
        await _make_data(config, postgres, remote, tell)
    except (PostgresError, asyncio.CancelledError):
        # What it left half done it has removed.
        await store.abandon_initialize(lease.id)
        raise
    try:
        if remote is not None:
            await _start_standby(config, postgres, remote)
        else:
            await _start_primary(config, postgres, tell)
        await _announce(config, store, lease.id, postgres)
    except (PostgresError, StoreError, asyncio.CancelledError):
        await postgres.stop_now()
        log.error("the new data directory is kept as %s", postgres.set_aside("failed"))
        await store.abandon_initialize(lease.id)
        raise
    tell("")


async def _make_data(config: Config, postgres: Postgres, remote: Remote | None, tell: Tell) -> None:
    tell(CUSTOM if config.method else INITDB)
    try:
        if remote is not None:
            await postgres.clone(remote)
        elif config.method is not None:
            await postgres.bootstrap(config.method)
        else:
            await postgres.initdb(config.initdb)
    except PostgresError:
        tell(CUSTOM_FAILED if config.method else INITDB_FAILED)
        raise


async def _start_standby(config: Config, postgres: Postgres, remote: Remote) -> None:
    """Start the first member of a standby cluster, as a standby of *remote*."""
    settings = Settings.parse(config.bootstrap_config)
    await postgres.configure(config, {**settings.parameters, **remote.recovery_parameters})
    await postgres.start_standby(remote)
    await postgres.wait_until_answering(settings.start_seconds)


async def _start_primary(config: Config, postgres: Postgres, tell: Tell) -> None:
    """Start the first primary of a cluster, recovering first if it was restored."""
    settings, method = Settings.parse(config.bootstrap_config), config.method
    if method is not None:
        tell(CUSTOM_STARTING)
    await postgres.configure(config, settings.parameters)
    if method is not None and (method.recovery is not None or method.keeps_recovery):
        # Without an action the server would stop at the target and wait for somebody.
        promote = {"recovery_target_action": "promote"}
        recovery = {**promote, **method.recovery} if method.recovery else {}
        await recover(postgres, recovery, RECOVERY_SECONDS)
        await postgres.configure(config, settings.parameters)
    else:
        await postgres.start_primary()
        await postgres.wait_until_answering(settings.start_seconds)
    await postgres.create_accounts()
    if config.post_init:
        await run_post_init(postgres, config.post_init)


async def _announce(config: Config, store: Store, lease: int, postgres: Postgres) -> None:
    [row] = await postgres.query("SELECT system_identifier::text AS id FROM pg_control_system()")
    if not await store.complete_initialize(row["id"], config.bootstrap_config, lease):
        raise StoreError("the claim to create the cluster was lost meanwhile")


async def clone(postgres: Postgres, source: Member | None, upstream: Member | None) -> None:
    """Copy *source* and start as a standby of *upstream*, None for the archive only.

    :param source: None when there is nobody to copy, but a backup.
    :raises PostgresError: the copy or the start failed.
    """
    log.info("copying the data of %s", source.name if source else "a backup")
    await postgres.clone(source)
    await postgres.start_standby(upstream)
