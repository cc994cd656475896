# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API: Patroni's paths, codes and bodies (release 4.1).

All of it is read-only but for `POST /failsafe`, by which leaders ask members for a promise.

Health checks answer from the loop's last view, with the lease checked at the very moment of the
answer; they cost no query. `GET /patroni` asks PostgreSQL, since an election is decided on it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from pgherd.errors import ListenError, StoreError
from pgherd.published import cluster_body, patroni_body, standby_role
from pgherd.store import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.loop import Loop
    from pgherd.model import Instance
    from pgherd.view import View

UNITS: Final = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}


def parse_bytes(text: str) -> int | None:
    """Return bytes for `1048576`, `16kB`, `10MB`; None for anything else, as Patroni does."""
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    unit = UNITS.get(match[2].lower()) if match else None
    return int(match[1]) * unit if match and unit else None


class Health:
    """Patroni's health conditions over one view."""

    def __init__(self, view: View, now: float, query: Mapping[str, str]) -> None:
        self._view = view
        self._now = now
        self._query = query
        self._instance: Instance = view.instance

    @property
    def leads(self) -> bool:
        """The key is ours, its lease is good at this moment, and PostgreSQL accepts writes.

        Patroni answers 200 as soon as it holds the key, while PostgreSQL may still be starting
        (its issue 2756); we say so only when a write can succeed.
        """
        view, lease = self._view, self._view.lease
        good = lease is not None and self._now < lease.valid_until and view.holds_key
        promised = self._now < view.failsafe_until and view.leads_by_promise
        return (good or promised) and self._instance.is_primary

    @property
    def is_replica(self) -> bool:
        instance, view = self._instance, self._view
        # Who holds the key is about to be promoted, or is being so.
        serves = instance.is_standby and not view.holds_key and not view.tags.noloadbalance
        return serves and self._lag_is_fine() and self._tags_match()

    @property
    def role(self) -> str:
        """Which kind of standby this is: replica, sync_standby or quorum_standby."""
        cluster = self._view.cluster
        return standby_role(cluster, self._view.me) if cluster else "replica"

    @property
    def is_sync(self) -> bool:
        return self.is_replica and self.role == "sync_standby"

    @property
    def is_quorum(self) -> bool:
        return self.is_replica and self.role == "quorum_standby"

    def _lag_is_fine(self) -> bool:
        limit = parse_bytes(self._query["lag"]) if "lag" in self._query else None
        if limit is None:
            return True
        return self._behind(self._instance.replayed) <= limit

    def _behind(self, position: int | None) -> int:
        optime = self._view.cluster.optime if self._view.cluster else 0
        return max(optime, self._instance.latest_end or 0) - (position or 0)

    def _tags_match(self) -> bool:
        tags = self._view.tags.published()
        for key, wanted in self._query.items():
            if key.startswith("tag_"):
                value = tags.get(key.removeprefix("tag_"))
                shown = value if isinstance(value, str) else str(value).lower()
                if value is None or shown != wanted:
                    return False
        return True

    @property
    def is_ready(self) -> bool:
        """What `/readiness` asks: the leader, or a standby that streams and keeps up."""
        if self.leads:
            return True
        limit = parse_bytes(self._query.get("lag", ""))
        limit = self._view.settings.maximum_lag_on_failover if limit is None else limit
        instance = self._instance
        applies = self._query.get("mode", "apply") == "apply"
        position = instance.replayed if applies else instance.received
        return instance.is_streaming and self._behind(position) <= limit


# Checked in this order, by substring, as Patroni does; the first that is in the path decides.
CHECKS: Final[tuple[tuple[str, Callable[[Health], bool]], ...]] = (
    ("standby_leader", lambda health: False),
    ("standby-leader", lambda health: False),
    ("leader", lambda health: health.leads),
    ("master", lambda health: health.leads),
    ("primary", lambda health: health.leads),
    ("read-write", lambda health: health.leads),
    ("replica", lambda health: health.is_replica),
    ("read-only-sync", lambda health: health.leads or health.is_sync),
    ("read-only-quorum", lambda health: health.leads or health.is_quorum),
    ("read-only", lambda health: health.leads or health.is_replica),
    ("health", lambda health: health._instance.is_running),
    ("async", lambda health: health.is_replica and health.role == "replica"),
    ("sync", lambda health: health.is_sync),
    ("quorum", lambda health: health.is_quorum),
)


def find_check(path: str) -> Callable[[Health], bool] | None:
    """Return the health check a path stands for, None for a path that is none."""
    if path.strip("/") == "":
        return lambda health: health.leads
    return next((check for word, check in CHECKS if word in path), None)


async def comes_from(remote: str | None, host: str | None) -> bool:
    """Tell whether the address *remote* is one of *host*'s."""
    if not remote or not host:
        return False
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False
    return remote in {address[4][0] for address in found}


class Api:
    """Serves one loop's state."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._pages = {
            "patroni": self._patroni,
            "cluster": self._cluster,
            "history": self._history,
            "config": self._config,
            "failsafe": self._failsafe,
            "liveness": self._liveness,
            "readiness": self._readiness,
            "metrics": self._metrics,
        }

    async def start(self) -> None:
        """Listen.

        :raises ListenError: the address cannot be used.
        """
        config = self._loop.config
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=15)
        await self._runner.setup()
        everywhere = config.listen_host in ("0.0.0.0", "::", "*")
        # Loopback as well, so that `pgherd list` and local probes need no address.
        hosts = None if everywhere else sorted({config.listen_host, "127.0.0.1"})
        context = config.rest_tls.server_context()
        assert self._runner.server is not None
        try:
            server = await asyncio.get_running_loop().create_server(
                self._runner.server, hosts, config.listen_port, ssl=context
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(config.listen_host, config.listen_port, reason) from error
        self._server = server

    async def stop(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _dispatch(self, request: web.Request) -> web.Response:
        # Clients of Patroni send `//leader`; leading slashes count once.
        path = "/" + request.path.lstrip("/")
        page = self._pages.get(path.split("/")[1])
        # Patroni takes HEAD of a page for a health check and says 503; probes mean the page.
        if request.method in ("GET", "HEAD") and page is not None:
            return await page(request)
        if request.method == "POST" and path == "/failsafe":
            return await self._promise(request)
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return await self._health(request, path)
        return web.Response(status=501, text="Unsupported method", content_type="text/html")

    async def _health(self, request: web.Request, path: str) -> web.Response:
        check = find_check(path)
        good = check is not None and check(self._judge(request))
        status = 200 if good else 503
        if request.method != "GET":
            return web.Response(status=status)
        return self._json(self._body(self._loop.view.instance), status)

    def _judge(self, request: web.Request) -> Health:
        loop = self._loop
        return Health(loop.view, loop.effects.clock(), request.query)

    def _body(self, instance: Instance) -> dict[str, Any]:
        loop = self._loop
        # A promise given since the last round counts for whoever asks now.
        promised = loop.failsafe.promised_to(loop.effects.clock())
        view = replace(loop.view, promised_to=promised)
        return patroni_body(loop.config, view, instance, loop.decision, loop.dcs_last_seen)

    def _json(self, body: Any, status: int = 200) -> web.Response:
        return web.Response(status=status, text=dump(body), content_type="application/json")

    async def _patroni(self, request: web.Request) -> web.Response:
        return self._json(self._body(await self._loop.effects.postgres.observe()))

    async def _cluster(self, request: web.Request) -> web.Response:
        """Answer from a fresh read of etcd, so a script sees what is, not what was."""
        try:
            cluster = await self._loop.effects.store.load()
        except StoreError as error:
            return web.Response(status=503, text=f"etcd does not answer: {error}")
        return self._json(cluster_body(cluster, self._loop.config.scope))

    async def _history(self, request: web.Request) -> web.Response:
        cluster = self._loop.view.cluster
        return self._json([list(row) for row in cluster.history] if cluster else [])

    async def _config(self, request: web.Request) -> web.Response:
        cluster = self._loop.view.cluster
        if cluster is None or cluster.config is None:
            return web.Response(status=502, text="no configuration in etcd")
        return self._json(cluster.config)

    async def _failsafe(self, request: web.Request) -> web.Response:
        cluster = self._loop.view.cluster
        if cluster is None or not cluster.settings.failsafe_mode:
            return web.Response(status=502, text="Failsafe mode is not enabled.")
        return self._json(cluster.failsafe)

    async def _promise(self, request: web.Request) -> web.Response:
        """Answer a leader that etcd does not hear.

        Only the host that the cluster knows under that leader's name is listened to.
        """
        try:
            body = await request.json()
            leader = str(body["name"])
            conn_url = "" if body.get("standing") else str(body.get("conn_url", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return web.Response(status=400, text="a JSON object with `name` is wanted")
        view = self._loop.view
        url = view.cluster.failsafe.get(leader, "") if view.cluster else ""
        if not await comes_from(request.remote, urlsplit(url).hostname):
            return web.Response(status=403, text=f"{request.remote} is not {leader}")
        status, text = self._loop.failsafe.promise(view, leader, conn_url)
        headers = {"lsn": str(view.instance.position)} if status == 200 else {}
        return web.Response(status=status, text=text, headers=headers)

    async def _liveness(self, request: web.Request) -> web.Response:
        """200 while the loop makes its rounds; systemd's watchdog ends one that does not."""
        age = self._loop.effects.clock() - self._loop.view.now
        limit = self._loop.config.timing.lease_ttl + self._loop.config.timing.loop_interval
        return web.Response(status=200 if age < limit else 503)

    async def _readiness(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._judge(request).is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        # Imported when first asked for: an agent nobody scrapes need not hold the library.
        from pgherd.metrics import exposition

        return web.Response(body=exposition(self._loop), content_type="text/plain")
