# SPDX-License-Identifier: GPL-3.0-or-later
"""The few calls of etcd's JSON gateway that deployment needs. Private to the collection."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpRefused,
    HttpSilent,
    Tls,
    request_json,
)


@dataclass(frozen=True)
class Member:
    """A member as the cluster's own list has it; a member that never started has no name."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Member:
        """Build a member from one element of the gateway's list."""
        return cls(
            id=str(data["ID"]),
            name=str(data.get("name", "")),
            peer_urls=tuple(data.get("peerURLs", [])),
            client_urls=tuple(data.get("clientURLs", [])),
            learner=bool(data.get("isLearner", False)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what modules hand back."""
        return {
            "id": f"{int(self.id):x}",
            "name": self.name,
            "peer_urls": list(self.peer_urls),
            "learner": self.learner,
        }


class EtcdClient:
    """One etcd endpoint. Every method raises HttpError's children."""

    def __init__(self, url: str, timeout_seconds: float = 3.0, tls: Tls | None = None) -> None:
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.tls = tls

    def _call(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        answer = request_json(self.url + path, body, self.timeout_seconds, self.tls)
        if not isinstance(answer, dict):
            raise HttpRefused(f"{self.url}{path} answered {answer!r}; is this etcd?")
        return answer

    def version(self) -> str:
        """Return the server's version; answered without a quorum."""
        return str(self._call("/version", None).get("etcdserver", ""))

    def status(self) -> dict[str, Any]:
        """Return version, leader, dbSize, dbSizeInUse; answered without a quorum."""
        return self._call("/v3/maintenance/status", {})

    def get(self, key: str, serializable: bool = False) -> str | None:
        """Return the value of *key* or None; a serializable read needs no quorum."""
        body = {"key": base64.b64encode(key.encode()).decode(), "serializable": serializable}
        found = self._call("/v3/kv/range", body).get("kvs", [])
        return base64.b64decode(found[0].get("value", "")).decode() if found else None

    def count_keys(self) -> int:
        """Return the number of keys of the whole store, read without a quorum."""
        everything = base64.b64encode(b"\0").decode()
        body = {"key": everything, "range_end": everything, "serializable": True}
        return int(self._call("/v3/kv/range", {**body, "count_only": True}).get("count", 0))

    def members(self) -> list[Member]:
        """Return the cluster's list of members."""
        found = self._call("/v3/cluster/member/list", {}).get("members", [])
        return [Member.from_json(member) for member in found]

    def member_add(self, peer_url: str, learner: bool) -> None:
        """Register a member that will start at *peer_url*."""
        self._call("/v3/cluster/member/add", {"peerURLs": [peer_url], "isLearner": learner})

    def member_remove(self, member: Member) -> None:
        """Take *member* out of the cluster."""
        self._call("/v3/cluster/member/remove", {"ID": member.id})

    def member_promote(self, member: Member) -> None:
        """Make a learner a voter; refused by etcd until it is in step with the leader."""
        self._call("/v3/cluster/member/promote", {"ID": member.id})


@dataclass(frozen=True)
class Health:
    """What one endpoint said: `status` is healthy, unhealthy, silent or refused."""

    url: str
    status: str
    detail: str = ""
    version: str = ""
    leader: str = ""
    member_id: str = ""

    @property
    def healthy(self) -> bool:
        """Whether the endpoint answers and its cluster has a quorum."""
        return self.status == "healthy"

    def as_dict(self) -> dict[str, Any]:
        """Return what modules hand back."""
        return {
            "url": self.url,
            "status": self.status,
            "detail": self.detail,
            "version": self.version,
            "is_leader": bool(self.leader) and self.leader == self.member_id,
        }


def probe(url: str, timeout_seconds: float = 3.0, tls: Tls | None = None) -> Health:
    """Ask one endpoint for its status and for a read that needs a quorum; raises nothing."""
    client = EtcdClient(url, timeout_seconds, tls)
    try:
        status = client.status()
        leader = str(status.get("leader", "0"))
        facts = {
            "version": str(status.get("version", "")),
            "leader": leader,
            "member_id": str(status.get("header", {}).get("member_id", "")),
        }
    except HttpSilent as error:
        return Health(url, "silent", f"takes connections but gives {error}: it hangs")
    except HttpError as error:
        return Health(url, "refused", str(error))
    if leader == "0":
        return Health(
            url, "unhealthy", "has no leader: fewer than half of the members run", **facts
        )
    if status.get("isLearner"):
        return Health(url, "healthy", "learner", **facts)
    try:
        client.get("health")
    except HttpError as error:
        return Health(url, "unhealthy", f"cannot read through the quorum: {error}", **facts)
    return Health(url, "healthy", "", **facts)


def probe_all(urls: list[str], timeout_seconds: float, tls: Tls | None) -> list[Health]:
    """Probe every endpoint at the same time; a silent one costs its timeouts, not their sum."""
    if not urls:
        return []
    with ThreadPoolExecutor(max_workers=len(urls)) as pool:
        return list(pool.map(lambda url: probe(url, timeout_seconds, tls), urls))
