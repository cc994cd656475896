# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings of the local instance wait for a restart, and when that is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd.errors import PostgresError
from pgherd.pgfiles import held_back
from pgherd.pgquery import PENDING_RESTART, pending_restart
from pgherd.programs import SENSITIVE_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pgherd.model import Control

# A reload has no answer: what waits for a restart is looked up until the session has read the files
# again, but in no more rounds than this; a file that PostgreSQL cannot read counts as not read.
LOOKS: Final = 20
# While a setting is held back, the primary's are looked up in the control file once in so many.
LIMIT_LOOKS: Final = 5
HELD_BACK: Final = frozenset(SENSITIVE_PARAMETERS)


class PendingRestart:
    """What was found last.

    :ivar found: old and new value by setting, as Patroni publishes them.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}
        self._looks = LOOKS
        self._since = 0.0
        self._limit_looks = 0

    @property
    def is_known(self) -> bool:
        """Whether what was found is what the files say, as far as can be known."""
        return self._looks == 0

    def look_again(self, since: float = 0.0) -> None:
        """Have it looked up in the next rounds: settings have changed, or a start has.

        :param since: what the session read before that time does not count; seconds since the
            epoch, 0 for whatever it has read.
        """
        self._looks = LOOKS
        self._since = since

    def is_due(self) -> bool:
        """Tell whether this round is one to look it up in."""
        return self._looks > 0

    def limits_are_due(self) -> bool:
        """Tell whether this round is one to see if what is held back still has to be."""
        if not HELD_BACK & self.found.keys():
            return False
        self._limit_looks += 1
        return self._limit_looks % LIMIT_LOOKS == 0

    async def refresh(
        self,
        query: Callable[[Any], Awaitable[list[dict[str, Any]]]],
        wanted: Mapping[str, Any],
        limits: Control | None,
    ) -> None:
        """Look it up with *query*; keeps the old answer when nobody answers.

        :param wanted: the settings as they shall be.
        :param limits: of a standby, below which it must not set some of them.
        """
        try:
            rows = await query(PENDING_RESTART)
        except PostgresError:
            return
        read = max(row["loaded"] for row in rows) >= self._since
        self._looks = 0 if read else max(0, self._looks - 1)
        self.found = {**pending_restart(rows, wanted), **held_back(wanted, limits)}
