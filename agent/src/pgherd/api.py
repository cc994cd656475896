# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API: which path and method is answered by what. Patroni's paths (release 4.1).

docs/openapi.yml describes all of it; a test holds the two together.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pgherd import handover_requests, pages, pooler_pages
from pgherd.access import comes_from, refusal, shows_login
from pgherd.answers import Answer, Unsafe
from pgherd.config_requests import CONFIG_REQUESTS
from pgherd.reinitialize import post_reinitialize, post_reload
from pgherd.requests import HEAD_LIMIT
from pgherd.restarts import delete_restart, post_restart
from pgherd.rolls import delete_rolling_restart, post_rolling_restart
from pgherd.server import Server
from pgherd.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pgherd.access_config import Access
    from pgherd.loop import Loop
    from pgherd.requests import Request

    QuickPage = Callable[[Loop, Request], Answer]
    Page = Callable[[Loop, Request], Awaitable[Answer]]
    SharedPage = Callable[[Loop], Awaitable[Answer]]

# What changes something, by method and first segment of the path.
UNSAFE: Final[Mapping[tuple[str, str], Unsafe]] = {
    ("POST", "switchover"): Unsafe(handover_requests.post_switchover, needs_body=True),
    ("POST", "failover"): Unsafe(handover_requests.post_failover, needs_body=True),
    ("DELETE", "switchover"): Unsafe(handover_requests.delete_switchover),
    ("POST", "restart"): Unsafe(post_restart),
    ("POST", "rolling_restart"): Unsafe(post_rolling_restart),
    ("DELETE", "rolling_restart"): Unsafe(delete_rolling_restart),
    ("POST", "reload"): Unsafe(post_reload),
    ("POST", "reinitialize"): Unsafe(post_reinitialize),
    ("DELETE", "restart"): Unsafe(delete_restart),
    ("POST", "pooler"): Unsafe(pooler_pages.post_pooler, needs_body=True),
    **CONFIG_REQUESTS,
}

# All others are by the first segment of the path. Pages that tell what is known already:
QUICK: Final[Mapping[str, QuickPage]] = {
    "history": pages.history,
    "failsafe": pages.failsafe,
    "liveness": pages.liveness,
    "readiness": pages.readiness,
    "pooler": pooler_pages.pooler,
}
# Of these OPTIONS asks the same as GET, as of Patroni's health checks: balancers ask so.
CHECKS: Final = ("pooler",)
# Pages for which somebody is asked:
PAGES: Final[Mapping[str, Page]] = {"operations": pages.operations}
# Pages that are the same for all who ask, and made once for those who ask at the same time:
SHARED: Final[Mapping[str, SharedPage]] = {
    "patroni": pages.patroni,
    "cluster": pages.cluster,
    "config": pages.configuration,
}

READING: Final = ("GET", "HEAD", "OPTIONS")
# Requests under way from which on others are turned away.
READERS_AT_ONCE: Final = 64
ALL_AT_ONCE: Final = 128
NESTING_LIMIT: Final = 32
WANTS_OBJECT: Final = Answer(400, "a JSON object is wanted")


def parse_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that *body* is, None when it is none.

    What Python reads beyond JSON (NaN), what is no text (lone surrogates) and what is nested too
    deep would only fail later, or be stored for others to fail on.
    """
    try:
        value = json.loads(body, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not _is_deep(value) else None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(NESTING_LIMIT):
        level = [each for outer in level for each in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class Api:
    """Serves one loop's state."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._server = Server(self, loop.config.access)
        self._shared = {name: Shared(partial(page, loop)) for name, page in SHARED.items()}
        self._shared["metrics"] = Shared(self._metrics)

    def start(self) -> None:
        """Listen.

        :raises ListenError: the address cannot be used.
        :raises OSError: a file of the certificate cannot be used.
        """
        config = self._loop.config
        everywhere = config.listen_host in ("0.0.0.0", "::", "*")
        # Loopback as well, so that `pgherd list` and local probes need no address.
        hosts = ["*"] if everywhere else sorted({config.listen_host, "127.0.0.1"})
        self._server.start(hosts, config.listen_port)

    def reconfigure(self, access: Access) -> None:
        """Serve as *access* says from now on; certificates are read again."""
        self._server.reconfigure(access)

    def stop(self) -> None:
        """Stop listening and drop what is open."""
        self._server.stop()

    # What the server asks

    def at_once(self, request: Request) -> Callable[[], Answer] | None:
        """Return what gives the answer when that costs next to nothing, None for all others."""
        segment, method = request.segment, request.method
        if method not in READING:
            known = (method, segment) in UNSAFE or (method, request.path) == ("POST", "/failsafe")
            return None if known else lambda: Answer(501, "Unsupported method")
        # Patroni takes HEAD of a page for a health check and says 503; probes mean the page.
        if method != "OPTIONS" and (segment in self._shared or segment in PAGES):
            return None
        asks_page = method != "OPTIONS" or segment in CHECKS
        page = QUICK.get(segment, pages.health) if asks_page else pages.health
        return partial(page, self._loop, request)

    def limit(self, request: Request) -> int | None:
        """Return how many requests may be under way when this one comes; None for any number.

        What is shared costs the same for many, and elections hang on `/patroni` and `/failsafe`.
        Whoever only reads does not keep those out who have to change something.
        """
        if request.segment in self._shared or request.segment == "failsafe":
            return None
        return READERS_AT_ONCE if request.method in READING else ALL_AT_ONCE

    async def answer(self, request: Request, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Answer what takes its time."""
        if request.method in READING:
            shared = self._shared.get(request.segment)
            if shared is not None:
                return await shared.get()
            return await PAGES[request.segment](self._loop, request)
        if request.segment == "failsafe":
            return await self._promise(request, read_body)
        cluster = self._loop.view.cluster
        urls = [member.api_url for member in cluster.members.values()] if cluster else []
        refused = await refusal(request, self._loop.config.access, urls)
        if refused is not None:
            return refused
        unsafe = UNSAFE[request.method, request.segment]
        if request.length is None and unsafe.needs_body:
            return Answer(411, "a body with a Content-Length is wanted")
        content = await read_body()
        body = parse_object(content) if content or unsafe.needs_body else {}
        if body is None or (unsafe.needs_body and not body):
            return WANTS_OBJECT
        return await unsafe.handler(self._loop, body)

    async def _promise(self, request: Request, read_body: Callable[[], Awaitable[bytes]]) -> Answer:
        """Answer a leader that etcd does not hear.

        Only the host that the cluster knows under that leader's name is listened to, or who has
        the password; the allowlist is not asked, for safety must not hang on it.
        """
        if (request.length or 0) > HEAD_LIMIT:
            return Answer(413, "that is too long for a request of a promise")
        body = parse_object(await read_body())
        if body is None or "name" not in body:
            return Answer(400, "a JSON object with `name` is wanted")
        leader = str(body["name"])
        conn_url = "" if body.get("standing") else str(body.get("conn_url", ""))
        view = self._loop.view
        url = view.cluster.failsafe.get(leader, "") if view.cluster else ""
        login = self._loop.config.access.login
        is_trusted = bool(url) and login is not None and shows_login(request, login)
        if not is_trusted and not await comes_from(request.remote, urlsplit(url).hostname):
            return Answer(403, f"{request.remote} is not {leader}")
        slots = body.get("slots")
        status, text = self._loop.failsafe.promise(view, leader, conn_url, slots)
        return Answer(status, text, {"lsn": str(view.instance.position)} if status == 200 else {})

    async def _metrics(self) -> Answer:
        # Imported when first asked for: an agent nobody scrapes need not hold the library.
        from pgherd.metrics import exposition

        return Answer(200, exposition(self._loop, self._server))
