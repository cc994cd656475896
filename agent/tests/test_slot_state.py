# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a logical slot: what is believed of them, and how a copy is put down."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pgherd.errors import PostgresError
from pgherd.slot_copies import precedes_or_equals
from pgherd.slot_state import (
    SlotState,
    crc32c,
    has_slot,
    has_wal,
    install,
    knows_transactions,
    restart_of,
    slot_count,
    snapshot_name,
)

if TYPE_CHECKING:
    from pathlib import Path

RESTART = 0x1_0000_2A00
SEGMENT = 16 << 20


def state(name: str = "feed", *, database: int = 5, restart: int = RESTART) -> bytes:
    """Return a state file as PostgreSQL 15 writes it."""
    data = struct.pack("=64sIIIIQ", name.encode(), database, 0, 0, 731, restart) + bytes(104)
    summed = struct.pack("=II", 3, len(data)) + data
    return struct.pack("=II", 0x1051CA1, crc32c(summed)) + summed


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    for name in ("pg_replslot", "pg_logical/snapshots", "pg_wal"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_a_state_tells_where_decoding_begins() -> None:
    assert restart_of("feed", state()) == RESTART


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (b"", "cut off"),
        (state()[:-1], "another layout"),
        (b"\1" + state()[1:], "another layout"),
        (state()[:-1] + b"\1", "checksum"),
        (state("other"), "another slot"),
        (state(database=0), "another slot"),
        (state(restart=0), "another slot"),
    ],
)
def test_what_would_keep_a_server_from_starting_is_refused(damaged: bytes, words: str) -> None:
    with pytest.raises(PostgresError, match=words):
        restart_of("feed", damaged)


def test_a_copy_is_what_the_server_finds_when_it_starts(data_dir: Path) -> None:
    (data_dir / "pg_replslot/feed.tmp").mkdir()
    install(data_dir, SlotState("feed", RESTART, state(), b"running"))
    assert has_slot(data_dir, "feed")
    assert slot_count(data_dir) == 1
    assert (data_dir / "pg_replslot/feed/state").read_bytes() == state()
    assert (data_dir / "pg_logical/snapshots/1-2A00.snap").read_bytes() == b"running"
    assert knows_transactions(data_dir, RESTART)


def test_what_is_known_here_of_running_transactions_stays(data_dir: Path) -> None:
    path = data_dir / snapshot_name(RESTART)
    path.write_bytes(b"ours")
    install(data_dir, SlotState("feed", RESTART, state(), b"theirs"))
    assert path.read_bytes() == b"ours"


def test_what_the_leader_does_not_know_is_not_known_here(data_dir: Path) -> None:
    install(data_dir, SlotState("feed", RESTART, state()))
    assert not knows_transactions(data_dir, RESTART)


@pytest.mark.parametrize(
    ("start", "end", "is_there"),
    [
        (SEGMENT, 3 * SEGMENT, True),
        (3 * SEGMENT + 5, 3 * SEGMENT + 9, True),
        (SEGMENT - 1, 2 * SEGMENT, False),
        (SEGMENT, 5 * SEGMENT, False),
        (9 * SEGMENT, SEGMENT, True),
    ],
    ids=["all", "one", "the first is gone", "the last is not there", "it will come"],
)
def test_wal_is_looked_for_on_any_timeline(
    data_dir: Path, start: int, end: int, *, is_there: bool
) -> None:
    for timeline, number in ((1, 1), (1, 2), (2, 3), (2, 4)):
        path = data_dir / f"pg_wal/{timeline:08X}{0:08X}{number:08X}"
        path.touch()
        # Sparse: the size of a segment is read off the first one.
        with path.open("r+b") as file:
            file.truncate(SEGMENT)
    (data_dir / "pg_wal/00000002.history").touch()
    assert has_wal(data_dir, start, end) is is_there


@pytest.mark.parametrize(
    ("one", "other", "is_so"),
    [(5, 5, True), (5, 6, True), (6, 5, False), (2**32 - 1, 3, True), (3, 2**32 - 1, False)],
)
def test_numbers_of_transactions_wrap_around(one: int, other: int, *, is_so: bool) -> None:
    assert precedes_or_equals(one, other) is is_so
