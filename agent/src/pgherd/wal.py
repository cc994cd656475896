# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL as files: the names of its segments, and the pages in them.

Layout: PostgreSQL's access/xlog_internal.h. Positions are bytes from the beginning of all WAL.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SEGMENT: Final = re.compile(r"[0-9A-F]{24}")
SEGMENT_BYTES: Final = 16 << 20
PAGE: Final = 8192
# XLogPageHeaderData; the first page of a segment has more of it.
SHORT_HEADER: Final = 24
LONG_HEADER: Final = 40
# Records begin at multiples of this.
ALIGNMENT: Final = 8


def segment_bytes(directory: Path) -> int:
    """Return the size of the segments in *directory*, which initdb has fixed.

    :raises OSError: *directory* cannot be read.
    """
    for path in directory.iterdir():
        if SEGMENT.fullmatch(path.name):
            return path.stat().st_size
    return SEGMENT_BYTES


def segment_name(timeline: int, position: int, size: int) -> str:
    """Return the name of the segment of *size* bytes that holds *position*."""
    high, low = divmod(position // size, (1 << 32) // size)
    return f"{timeline:08X}{high:08X}{low:08X}"


def segment_place(name: str, size: int) -> tuple[int, int]:
    """Return the timeline of the segment *name* and the position it begins at."""
    return int(name[:8], 16), ((int(name[8:16], 16) << 32) // size + int(name[16:], 16)) * size


def segments_from(
    directory: Path, timelines: Iterable[int], position: int
) -> list[tuple[int, Path]]:
    """Return the segments of *timelines* that hold WAL from *position* on, by position.

    :raises OSError: *directory* cannot be read.
    """
    size, wanted = segment_bytes(directory), set(timelines)
    found = []
    for path in directory.iterdir():
        # The last segment of a timeline that has ended may be `.partial`.
        if SEGMENT.fullmatch(path.name.removesuffix(".partial")):
            timeline, start = segment_place(path.name[:24], size)
            if timeline in wanted and start + size > position:
                found.append((start, path))
    return sorted(found)


def header_bytes(page: int, size: int) -> int:
    """Return how long the header of the page at *page* is, in segments of *size* bytes."""
    return LONG_HEADER if page % size == 0 else SHORT_HEADER


def is_page_of(content: bytes, position: int) -> bool:
    """Tell whether *content* is the page at *position*, not what is left of a recycled file."""
    return len(content) == PAGE and struct.unpack_from("=Q", content, 8)[0] == position


def is_padding(content: bytes) -> bool:
    """Tell whether *content* is a page behind a WAL switch, which has not even a header."""
    return len(content) == PAGE and not any(content)


def says_something(content: bytes, page: int, size: int) -> bool:
    """Tell whether a page, or the beginning of one, holds more than its header and padding."""
    return bool(content[header_bytes(page, size) :].strip(b"\0"))


def record_end(start: int, length: int, size: int) -> int:
    """Return where a record of *length* bytes that begins at *start* ends, its padding included."""
    position = start
    while length > 0:
        if position % PAGE == 0:
            position += header_bytes(position, size)
        step = min(length, PAGE - position % PAGE)
        position += step
        length -= step
    return -(-position // ALIGNMENT) * ALIGNMENT
