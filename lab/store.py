# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's etcd, by etcdctl on one of its hosts: dynamic settings, and who leads the raft."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.hosts import Lab


def parse(text: str) -> dict[str, Any]:
    """Return the mapping that etcdctl printed, after its warnings if any; empty for nothing."""
    found: dict[str, Any] = json.loads(text.strip().rpartition("\n")[2] or "{}")
    return found


@dataclass(frozen=True)
class Store:
    """Every method raises LabError when etcd cannot be asked."""

    lab: Lab

    def config(self) -> dict[str, Any]:
        """Return the cluster's dynamic settings."""
        return self._get("config")

    def quorum(self) -> tuple[frozenset[str], int]:
        """Return the standbys that may vote, and the number that an election must exceed."""
        sync = self._get("sync")
        voters = sync.get("sync_standby") or ""
        return frozenset(filter(None, voters.split(","))), sync.get("quorum") or 0

    def patch(self, settings: Mapping[str, object]) -> dict[str, Any]:
        """Set *settings*, None takes one away; return all as they were before."""
        before = self.config()
        after = {k: v for k, v in {**before, **settings}.items() if v is not None}
        if after != before:
            self.put(after)
        return before

    def put(self, settings: Mapping[str, object]) -> None:
        """Make *settings* all the dynamic settings there are."""
        text = json.dumps(settings, separators=(",", ":"))
        self._etcdctl("put", f"/service/{CLUSTER_NAME}/config", text)

    def granted_seconds(self) -> dict[str, int]:
        """Return how long the lease of each member's key lasts without being renewed, by member."""
        prefix = f"/service/{CLUSTER_NAME}/members/"
        rows = parse(self._etcdctl("get", "--prefix", "--write-out=json", prefix)).get("kvs", [])
        found = {}
        for row in rows:
            name = base64.b64decode(row["key"]).decode().removeprefix(prefix)
            words = ["lease", "timetolive", "--write-out=json", f"{row.get('lease', 0):x}"]
            found[name] = int(parse(self._etcdctl(*words)).get("granted-ttl", 0))
        return found

    def raft_leader(self) -> str:
        """Return the host whose etcd leads."""
        names = {status["member"]: host for host, status in self._statuses().items()}
        leader = next(iter(self._statuses().values()))["leader"]
        if leader not in names:
            raise LabError("etcd has no leader among the members that answer.")
        return names[leader]

    def lead_raft(self, host: str) -> None:
        """Make *host*'s etcd the leader."""
        current = self.raft_leader()
        if current != host:
            member = self._statuses()[host]["member"]
            self._etcdctl("move-leader", f"{member:x}", on=current)
            self.lab.progress.line(host, f"etcd's leader, taken over from {current}")

    def _get(self, key: str) -> dict[str, Any]:
        """Return the mapping in a key of the cluster, an empty one for a key that is not there."""
        text = self._etcdctl("get", "--print-value-only", f"/service/{CLUSTER_NAME}/{key}")
        return parse(text)

    def _statuses(self) -> dict[str, dict[str, int]]:
        """Return member and leader, as numbers, by host of those that answer."""
        found = {}
        text = self._etcdctl("endpoint", "status", "-w", "json", check=False)
        start = text.find("[{")
        rows = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else []
        hosts = {self._url(host): host for host in MEMBERS}
        for row in rows:
            status = row["Status"]
            member = status["header"]["member_id"]
            found[hosts[row["Endpoint"]]] = {"member": member, "leader": status["leader"]}
        if not found:
            raise LabError(f"etcd says nothing of itself: {text.strip()}")
        return found

    def _url(self, host: str) -> str:
        return f"http://{self.lab.settings.address(host)}:2379"

    def _etcdctl(self, *words: str, on: str | None = None, check: bool = True) -> str:
        """Run etcdctl against all members, or the one *on* a host; return what it prints."""
        endpoints = ",".join(self._url(host) for host in ([on] if on else MEMBERS))
        running = [status.name for status in self.lab.status() if status.state == "running"]
        host = next((name for name in MEMBERS if name in running), MEMBERS[0])
        command = ["etcdctl", "--command-timeout=20s", f"--endpoints={endpoints}", *words]
        return self.lab.exec(host, command, check=check)[1]
