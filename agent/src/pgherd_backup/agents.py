# SPDX-License-Identifier: GPL-3.0-or-later
"""Who leads, asked of the agents."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup.errors import BackupError

if TYPE_CHECKING:
    from pgherd_backup.settings import Settings

ANSWER_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Seen:
    """The cluster at one moment: who leads, empty for nobody, and which standbys stream."""

    leader: str
    standbys: tuple[str, ...]


def parse(body: dict[str, Any]) -> Seen:
    """Read the body of `GET /cluster`."""
    members = body.get("members") or []
    leaders = [m["name"] for m in members if m["role"] in ("leader", "standby_leader")]
    streaming = [m["name"] for m in members if m.get("state") == "streaming"]
    return Seen(leaders[0] if leaders else "", tuple(sorted(streaming)))


def look(settings: Settings) -> Seen:
    """Ask the agents, the one of this host first; raises BackupError when none answers."""
    own = [url for name, url in settings.agents.items() if name == settings.member]
    others = [url for name, url in settings.agents.items() if name != settings.member]
    for url in (*own, *others):
        try:
            with urllib.request.urlopen(f"{url}/cluster", timeout=ANSWER_SECONDS) as answer:
                return parse(json.load(answer))
        except (OSError, ValueError):
            continue
    raise BackupError(f"no agent answers: {', '.join(settings.agents.values())}")
