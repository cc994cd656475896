# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading when something is to be done, with Patroni's answers to what cannot be read."""

from __future__ import annotations

import time
from typing import Any

from pgherd.answers import Answer
from pgherd.timestamps import ScheduleError, parse_time


def parse_schedule(text: Any, action: str) -> float | Answer:
    """Return the time *text* names, in seconds since the epoch, or the answer that refuses it.

    :param action: what is scheduled, in one word.
    """
    try:
        at = parse_time(str(text))
    except ScheduleError as error:
        if error.is_ambiguous:
            return Answer(400, f"Timezone information is mandatory for the scheduled {action}")
        wanted = "It should be in an unambiguous format, e.g. ISO 8601"
        return Answer(422, f"Unable to parse scheduled timestamp. {wanted}")
    if at < time.time():
        return Answer(422, f"Cannot schedule {action} in the past")
    return at
