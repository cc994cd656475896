# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembering maintenance mode for an agent that starts while etcd does not answer.

Without it such an agent would take a primary that it finds running, and whose key it cannot see,
for one that has to be stopped.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class PauseNote:
    """Whether the cluster was paused when etcd answered last; a file tells the next agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_paused = path.exists()

    def update(self, is_paused: bool) -> None:
        """Remember what etcd says now."""
        if is_paused == self.is_paused:
            return
        log.warning("maintenance mode: %s", "begins" if is_paused else "is over")
        self.is_paused = is_paused
        try:
            if is_paused:
                self._path.touch(0o600)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("the next agent will not know of it without etcd: %s", error)
