# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor knows before it looks closer: the cluster, and the members' own words."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pgherd.commands.listing import with_lag
from pgherd.commands.look import nodes_of
from pgherd.commands.session import leader_of
from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from pgherd.commands.session import Session
    from pgherd.config import Config


class Patient:
    """This host and its cluster, asked once; read by checks that run side by side."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.config: Config = session.config

    def look(self) -> int:
        """Ask for everything here, so that checks find it answered; return how many members are."""
        return len(self.nodes)

    @cached_property
    def cluster(self) -> dict[str, Any]:
        """`GET /cluster`, empty when nobody answers."""
        try:
            return self.session.cluster()
        except PgherdError:
            return {"members": []}

    @cached_property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """`GET /patroni` of every member, empty where it does not answer."""
        return nodes_of(self.session, list(self.cluster["members"]))

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def node(self) -> dict[str, Any]:
        """This host's own `GET /patroni`."""
        return self.nodes.get(self.name) or self.session.node({"api_url": self.config.api_url})

    @property
    def members(self) -> list[dict[str, Any]]:
        """The members, each standby with its lag as the leader sees it."""
        leader = leader_of(self.cluster)
        node = self.nodes.get(str(leader["name"]), {}) if leader else {}
        return list(with_lag(self.cluster, node)["members"])

    @property
    def peers(self) -> list[dict[str, Any]]:
        return [row for row in self.members if row["name"] != self.name]
