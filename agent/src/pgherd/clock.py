# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's one source of time."""

import time


def boottime() -> float:
    """Return seconds on CLOCK_BOOTTIME.

    It never jumps and, unlike CLOCK_MONOTONIC, counts the time the machine was suspended, which a
    lease does as well (clock_gettime(2)). It is the same for all processes until the next boot, so
    a deadline written by one agent process holds for its successor.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
