# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL as files. What is expected here was read off a real cluster's files and pg_waldump."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pgherd.wal import (
    PAGE,
    SEGMENT_BYTES,
    is_padding,
    is_page_of,
    record_end,
    says_something,
    segment_bytes,
    segment_name,
    segment_place,
    segments_from,
)

if TYPE_CHECKING:
    from pathlib import Path

GIGABYTE = 1 << 30


@pytest.mark.parametrize(
    ("timeline", "position", "size", "name"),
    [
        (1, 0x1500718, SEGMENT_BYTES, "000000010000000000000001"),
        (0x1F, 0x16B374D848, SEGMENT_BYTES, "0000001F00000016000000B3"),
        (2, 0xFFFFFFFF, SEGMENT_BYTES, "0000000200000000000000FF"),
        (2, 0x100000000, SEGMENT_BYTES, "000000020000000100000000"),
        (2, 0x1C0000000, GIGABYTE, "000000020000000100000003"),
    ],
)
def test_a_segments_name_tells_its_place(
    timeline: int, position: int, size: int, name: str
) -> None:
    assert segment_name(timeline, position, size) == name
    assert segment_place(name, size) == (timeline, position // size * size)


def test_segments_are_found_by_timeline_and_position(tmp_path: Path) -> None:
    names = [
        "000000010000000000000002",
        "000000010000000000000003",
        "000000010000000000000004.partial",
        "000000020000000000000004",
        "000000030000000000000004",
        "00000002.history",
        "archive_status",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"x" * 1024)
    found = segments_from(tmp_path, [1, 2], 3 * 1024 + 1023)
    assert [path.name for _, path in found] == [names[1], names[2], names[3]]
    assert [start for start, _ in found] == [3 * 1024, 4 * 1024, 4 * 1024]


def test_the_size_of_segments_is_that_of_any(tmp_path: Path) -> None:
    assert segment_bytes(tmp_path) == SEGMENT_BYTES
    (tmp_path / "00000002.history").write_text("x")
    (tmp_path / "000000010000000000000002").write_bytes(b"x" * 1024)
    assert segment_bytes(tmp_path) == 1024


def page(position: int, content: bytes = b"") -> bytes:
    """Return the page at *position* with *content* after a short header."""
    header = struct.pack("=HHIQII", 0xD110, 0, 1, position, 0, 0)
    return (header + content).ljust(PAGE, b"\0")


def test_a_page_of_another_place_is_what_is_left_of_a_recycled_file() -> None:
    assert is_page_of(page(3 * PAGE), 3 * PAGE)
    assert not is_page_of(page(3 * PAGE), 4 * PAGE)
    assert not is_page_of(bytes(PAGE), 3 * PAGE)
    assert not is_page_of(page(3 * PAGE)[:100], 3 * PAGE)


def test_padding_is_a_whole_page_of_zeros() -> None:
    assert is_padding(bytes(PAGE))
    assert not is_padding(b"")
    assert not is_padding(bytes(PAGE - 1))
    assert not is_padding(page(PAGE))


def test_padding_and_headers_say_nothing() -> None:
    assert says_something(page(PAGE, b"x"), PAGE, SEGMENT_BYTES)
    assert not says_something(page(PAGE), PAGE, SEGMENT_BYTES)
    assert not says_something(page(PAGE, b"x")[:24], PAGE, SEGMENT_BYTES)
    # The first page of a segment has a longer header.
    assert not says_something(page(SEGMENT_BYTES, b"x"), SEGMENT_BYTES, SEGMENT_BYTES)


@pytest.mark.parametrize(
    ("start", "length", "end"),
    [
        (0x1500718, 114, 0x1500790),
        (0x2000028, 114, 0x20000A0),
        (PAGE - 8, 24, PAGE + 24 + 16),
        (SEGMENT_BYTES - 8, 24, SEGMENT_BYTES + 40 + 16),
        (PAGE + 24, PAGE - 24, 2 * PAGE),
        (PAGE + 24, PAGE - 24 + 1, 2 * PAGE + 32),
        (PAGE + 24, 2 * (PAGE - 24), 3 * PAGE),
    ],
    ids=[
        "initdb's last record",
        "the first one of a segment",
        "over a page's end",
        "over a segment's end",
        "exactly a page",
        "a byte more",
        "exactly two pages",
    ],
)
def test_a_record_ends_behind_its_pages_headers_and_padding(
    start: int, length: int, end: int
) -> None:
    assert record_end(start, length, SEGMENT_BYTES) == end
