# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API of a cluster's agents, asked one after the other. Private to the collection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpBroken,
    HttpFailed,
    HttpRefused,
    HttpSilent,
    Reply,
    Tls,
    request,
)

# What the documentation fragment `agent` describes.
AGENT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "agents": {"type": "list", "elements": "str", "required": True, "aliases": ["url"]},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "timeout_seconds": {"type": "float", "default": 5},
    "tls": {"type": "dict", "default": {}},
}


@dataclass(frozen=True)
class Exchange:
    """One question, whoever is asked."""

    method: str
    path: str
    body: dict[str, Any] | None
    timeout_seconds: float
    tls: Tls
    accept: tuple[int, ...] = ()
    login: tuple[str, str] | None = None

    def at(self, url: str) -> tuple[Reply | None, str]:
        """Return the answer of *url*, or why it is worth asking another one.

        Raises HttpFailed for a refusal: another agent would say the same. Raises HttpSilent when
        something was to be changed: the agent that took the request may be at work. So may one
        whose connection broke (HttpBroken).
        """
        try:
            answer = request(
                url + self.path,
                self.body,
                self.timeout_seconds,
                self.tls,
                self.accept,
                self.method,
                self.login,
            )
        except HttpFailed as error:
            raise HttpFailed(f"{url}{self.path}: {error}", error.status) from error
        except (HttpSilent, HttpBroken) as error:
            if self.method != "GET":
                raise type(error)(f"{url}{self.path}: {error}") from error
            return None, f"{url}: {error}"
        except HttpRefused as error:
            return None, f"{url}: {error}"
        return answer, ""


@dataclass(frozen=True)
class Agents:
    """The agents at *urls*, of which the first that answers is as good as any other.

    login: name and password for what changes something.
    Every method raises HttpError, whose text names all agents that were tried.
    """

    urls: tuple[str, ...]
    timeout_seconds: float = 5
    tls: Tls = field(default_factory=Tls)
    login: tuple[str, str] | None = None
    # Who did not answer is asked after all others from then on.
    passed_over: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, params: dict[str, Any]) -> Agents:
        """Return the agents that a module's parameters name."""
        return cls(
            urls=tuple(url.rstrip("/") for url in params["agents"]),
            timeout_seconds=params["timeout_seconds"],
            tls=Tls(**params["tls"]),
            login=(params["username"], params["password"]) if params["password"] else None,
        )

    def get(self, path: str, accept: tuple[int, ...] = ()) -> Any:
        """Return the JSON at *path*; statuses of 400 and above count as answers if in *accept*."""
        answers = Exchange("GET", path, None, self.timeout_seconds, self.tls, accept)
        return self._first(answers).json()

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_seconds: float | None = None,
        at: str | None = None,
        accept: tuple[int, ...] = (),
    ) -> Reply:
        """Have one agent change something: that *at* a URL, else the first that can be reached.

        Statuses of 400 and above count as answers if in *accept*.
        An agent that took the request and is silent then is not passed over: it may be at work.
        """
        seconds = timeout_seconds or self.timeout_seconds
        exchange = Exchange(method, path, body, seconds, self.tls, accept, self.login)
        return self._first(exchange, () if at is None else (at.rstrip("/"),))

    def cluster(self) -> dict[str, Any]:
        """Return the members and what is said of all of them."""
        return dict(self.get("/cluster"))

    def history(self) -> list[Any]:
        """Return the timelines that ended, the oldest first."""
        return list(self.get("/history"))

    def config(self) -> dict[str, Any]:
        """Return the dynamic configuration."""
        return dict(self.get("/config"))

    @staticmethod
    def url_of(member: dict[str, Any]) -> str:
        """Return where the agent of *member* (an element of `/cluster`) listens, '' if unknown."""
        parts = urlsplit(str(member.get("api_url") or ""))
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

    def _first(self, exchange: Exchange, urls: tuple[str, ...] = ()) -> Reply:
        """Return what the first of *urls* says that answers, without them of all; may raise."""
        tried = []
        for url in urls or sorted(self.urls, key=self.passed_over.count):
            answer, problem = exchange.at(url)
            if answer is not None:
                return answer
            self.passed_over.append(url)
            tried.append(problem)
        raise HttpRefused(f"no agent answers ({'; '.join(tried) or 'none was named'})")
