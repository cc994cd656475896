# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API: Patroni's paths, codes and bodies (release 4.1).

All of it is read-only but for `POST /failsafe`, by which leaders ask members for a promise.

Health checks answer from the loop's last view, with the lease checked at the very moment of the
answer; they cost no query. `GET /patroni` asks PostgreSQL, since an election is decided on it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from pgherd import handover_requests
from pgherd.answers import Answer, Unsafe
from pgherd.errors import ListenError, StoreError
from pgherd.health_checks import Health, find_check
from pgherd.published import cluster_body, patroni_body
from pgherd.store import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.model import Instance

# What changes something, by method and first segment of the path.
UNSAFE: Final[Mapping[tuple[str, str], Unsafe]] = {
    ("POST", "switchover"): Unsafe(handover_requests.post_switchover, needs_body=True),
    ("POST", "failover"): Unsafe(handover_requests.post_failover, needs_body=True),
    ("DELETE", "switchover"): Unsafe(handover_requests.delete_switchover),
}


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
            "operations": self._operations,
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
        context = config.access.tls.context()
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
        unsafe = UNSAFE.get((request.method, path.split("/")[1]))
        if unsafe is not None:
            return self._response(await self._carry_out(unsafe, request))
        return web.Response(status=501, text="Unsupported method", content_type="text/html")

    async def _carry_out(self, unsafe: Unsafe, request: web.Request) -> Answer:
        text = await request.text()
        try:
            body = json.loads(text) if text or unsafe.needs_body else {}
        except ValueError:
            body = None
        if not isinstance(body, dict) or (unsafe.needs_body and not body):
            return Answer(400, "a JSON object is wanted")
        return await unsafe.handler(self._loop, body)

    def _response(self, answer: Answer) -> web.Response:
        if isinstance(answer.body, str):
            return web.Response(
                status=answer.status,
                text=answer.body,
                content_type="text/html",
                headers=answer.headers,
            )
        return web.Response(
            status=answer.status,
            text=dump(answer.body),
            content_type="application/json",
            headers=answer.headers,
        )

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
        behind = loop.progress.behind(instance, view.cluster, loop.effects.clock())
        return patroni_body(loop.config, view, instance, loop.decision, loop.dcs_last_seen, behind)

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

    async def _operations(self, request: web.Request) -> web.Response:
        number = request.path.strip("/").partition("/")[2]
        return self._response(await handover_requests.get_operations(self._loop, number))

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
