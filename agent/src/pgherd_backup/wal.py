# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers of the write-ahead log (PostgreSQL documentation, 28.6)."""

from __future__ import annotations

import re
from typing import Final

SEGMENT_BYTES: Final = 16 * 1024 * 1024
NAME: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")


def parse_lsn(text: str) -> int:
    """Return the position that *text*, as `0/16B3748`, names; raises ValueError."""
    high, _, low = text.partition("/")
    try:
        return (int(high, 16) << 32) + int(low, 16)
    except ValueError:
        raise ValueError(f"{text!r} is no position in the WAL, as 0/16B3748") from None


def split(name: str, segment_bytes: int = SEGMENT_BYTES) -> tuple[int, int]:
    """Return timeline and number of the segment file *name*; raises ValueError."""
    found = NAME.match(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a segment of WAL")
    timeline, high, low = (int(part, 16) for part in found.groups())
    return timeline, high * (0x100000000 // segment_bytes) + low


def segment_name(timeline: int, number: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """Return the name of a segment file."""
    each = 0x100000000 // segment_bytes
    return f"{timeline:08X}{number // each:08X}{number % each:08X}"


def missing(names: list[str], first: str, segment_bytes: int = SEGMENT_BYTES) -> list[str]:
    """Return what an archive of *names* lacks from *first* to its end, timeline by timeline.

    A timeline begins in the segment in which the one before ends, or in the one after it.
    """
    start_timeline, start = split(first, segment_bytes)
    have: dict[int, set[int]] = {}
    for name in names:
        timeline, number = split(name, segment_bytes)
        have.setdefault(timeline, set()).add(number)
    lacks = []
    reached = start
    for timeline in sorted(have):
        numbers = have[timeline]
        if timeline < start_timeline or max(numbers) < start:
            continue
        begin = start if timeline == start_timeline else min(min(numbers), reached + 1)
        begin = max(begin, start)
        lacks += [
            segment_name(timeline, number, segment_bytes)
            for number in range(begin, max(numbers) + 1)
            if number not in numbers
        ]
        reached = max(numbers)
    if start not in have.get(start_timeline, set()):
        lacks.insert(0, segment_name(start_timeline, start, segment_bytes))
    return list(dict.fromkeys(lacks))
