# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's one source of time."""

import time
from pathlib import Path


def boottime() -> float:
    """Return seconds on CLOCK_BOOTTIME.

    It never jumps and, unlike CLOCK_MONOTONIC, counts the time the machine was suspended, which a
    lease does as well (clock_gettime(2)). It is the same for all processes until the next boot, so
    a deadline written by one agent process holds for its successor.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return the kernel's id of this boot: deadlines on CLOCK_BOOTTIME mean nothing in another."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
