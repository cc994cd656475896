# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster looks like now, asked of every agent. Private to the collection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._health import Seen
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    request_json,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._members import by_name

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents


def page_of(agents: Agents, member: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the agent of *member* says of itself, None when it does not answer."""
    url = f"{agents.url_of(member)}/patroni"
    try:
        page = request_json(url, None, agents.timeout_seconds, agents.tls, (503,))
    except (HttpError, ValueError):  # urllib's word for no URL at all
        return None
    return page if isinstance(page, dict) else None


def observe(agents: Agents) -> Seen:
    """Ask for the cluster, then all members at the same time; raises HttpError."""
    cluster = agents.cluster()
    found = by_name(cluster)
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        pages = pool.map(lambda member: page_of(agents, member), found.values())
        return Seen(cluster, dict(zip(found, pages)))
