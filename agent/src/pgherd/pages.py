# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the REST API that only tell: Patroni's bodies and codes (release 4.1)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgherd.answers import Answer
from pgherd.errors import StoreError
from pgherd.handover_requests import get_operations
from pgherd.health_checks import Health, find_check
from pgherd.published import cluster_body, patroni_body

if TYPE_CHECKING:
    from pgherd.loop import Loop
    from pgherd.model import Instance
    from pgherd.requests import Request

log = logging.getLogger(__name__)


def node_body(loop: Loop, instance: Instance) -> dict[str, Any]:
    """Return the body of `GET /patroni` and of every health check.

    :param instance: the instance as it is now, newer than the last view perhaps.
    """
    # A promise given since the last round counts for whoever asks now.
    promised = loop.failsafe.promised_to(loop.effects.clock())
    view = replace(loop.view, promised_to=promised)
    behind = loop.progress.behind(instance, view.cluster, loop.effects.clock())
    body = patroni_body(loop.config, view, instance, loop.decision, loop.dcs_last_seen, behind)
    if loop.archiver() and instance.is_running:
        body["pgherd"]["archiver"] = dict(loop.archiver())
    return body


def _judge(loop: Loop, request: Request) -> Health:
    return Health(loop.view, loop.effects.clock(), request.query)


def health(loop: Loop, request: Request) -> Answer:
    """Answer from the last view, with the lease checked at this moment; it costs no query."""
    check = find_check(request.path)
    good = check is not None and check(_judge(loop, request))
    # Only a GET brings the body along; most balancers ask otherwise.
    body = node_body(loop, loop.view.instance) if request.method == "GET" else ""
    return Answer(200 if good else 503, body)


def liveness(loop: Loop, request: Request) -> Answer:
    """200 while the loop makes its rounds; systemd's watchdog ends one that does not."""
    age = loop.effects.clock() - loop.view.now
    limit = loop.config.timing.lease_ttl + loop.config.timing.loop_interval
    return Answer(200 if age < limit else 503, "")


def readiness(loop: Loop, request: Request) -> Answer:
    """200 on the leader, and on a standby that streams and keeps up."""
    return Answer(200 if _judge(loop, request).is_ready else 503, "")


def history(loop: Loop, request: Request) -> Answer:
    """Return the timelines and who began them."""
    cluster = loop.view.cluster
    return Answer(200, [list(row) for row in cluster.history] if cluster else [])


def failsafe(loop: Loop, request: Request) -> Answer:
    """Return the members that a leader without etcd asks for promises."""
    cluster = loop.view.cluster
    if cluster is None or not cluster.settings.failsafe_mode:
        return Answer(502, "Failsafe mode is not enabled.")
    return Answer(200, cluster.failsafe)


async def patroni(loop: Loop) -> Answer:
    """Ask PostgreSQL itself, since an election is decided on the answer."""
    return Answer(200, node_body(loop, await loop.effects.postgres.observe()))


async def cluster(loop: Loop) -> Answer:
    """Answer from a fresh read of etcd, so a script sees what is, not what was."""
    try:
        found = await loop.effects.store.load()
    except StoreError as error:
        return Answer(503, f"etcd does not answer: {error}")
    return Answer(200, cluster_body(found, loop.config.scope, loop.config.endpoints))


async def configuration(loop: Loop) -> Answer:
    """Return the dynamic configuration as it is stored, so that who changed it finds the change.

    While etcd is silent, or the key has gone, it is the one in force here.
    """
    known = loop.view.cluster
    try:
        known = loop.dynamic.complete(await loop.effects.store.load())
    except StoreError as error:
        log.info("answering with the configuration in force: %s", error)
    if known is None or known.config is None:
        return Answer(502, "no configuration in etcd")
    return Answer(200, known.config)


async def operations(loop: Loop, request: Request) -> Answer:
    """Return the operations of late, or the one whose id the path ends with."""
    return await get_operations(loop, request.path.strip("/").partition("/")[2])
