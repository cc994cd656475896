# SPDX-License-Identifier: GPL-3.0-or-later
"""Where applications connect: the address that moves, balancers, poolers or bare servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Endpoints:
    """What every member is told alike and publishes, since nothing in etcd knows it.

    :param rw: HOST:PORT of what leads to the leader, in the order in which they are tried.
    :param ro: the same for readers.
    :param direct: these are the servers themselves, so that a client has to look for the primary.
    """

    rw: tuple[str, ...]
    ro: tuple[str, ...]
    direct: bool = False

    @classmethod
    def parse(cls, raw: Any) -> Endpoints | None:
        """Return what `pgherd.endpoints` says, of a file or of an answer; None if it says nothing.

        Where nothing is said of readers they are sent to where writers go.
        """
        if not isinstance(raw, Mapping) or not raw.get("rw"):
            return None
        rw = _places(raw["rw"])
        return cls(rw, _places(raw.get("ro")) or rw, raw.get("direct") is True)

    def published(self) -> dict[str, Any]:
        """Return them as `GET /cluster` shows them."""
        return {"rw": list(self.rw), "ro": list(self.ro), "direct": self.direct}


def _places(given: Any) -> tuple[str, ...]:
    places = given.split(",") if isinstance(given, str) else given or ()
    return tuple(str(each).strip() for each in places)
