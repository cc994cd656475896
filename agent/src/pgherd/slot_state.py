# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a logical slot: reading a slot's state, and giving a stopped server a copy of one.

Layout: `ReplicationSlotOnDisk` in PostgreSQL's slot.c, the same from 13 to 16 as far as it is read
here. A server that finds a state with a wrong checksum does not start (PANIC), so every copy is
looked through before it is put down.
"""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError
from pgherd.wal import SEGMENT, segment_bytes, segment_place

if TYPE_CHECKING:
    from pathlib import Path

MAGIC: Final = 0x1051CA1
# Magic and checksum, which are not in the checksum; version and length of what follows.
HEAD: Final = struct.Struct("=IIII")
NOT_SUMMED: Final = 8
# Name, database, persistency, xmin, catalog_xmin, restart_lsn.
FIELDS: Final = struct.Struct("=64sIIIIQ")
# Castagnoli's polynomial, reflected (port/pg_crc32c_sb8.c).
POLYNOMIAL: Final = 0x82F63B78


@dataclass(frozen=True)
class SlotState:
    """A logical slot as a server has written it down.

    :param restart: where decoding begins (bytes).
    :param state: the whole file.
    :param snapshot: what the server knew of running transactions at *restart*; None for nothing.
    """

    name: str
    restart: int
    state: bytes
    snapshot: bytes | None = None


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of *data*."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def restart_of(name: str, state: bytes) -> int:
    """Return where decoding begins (bytes), by the state file of the logical slot *name*.

    :raises PostgresError: it is no such file.
    """
    if len(state) < HEAD.size + FIELDS.size:
        raise PostgresError(f"the state of slot {name} is cut off")
    magic, checksum, _, length = HEAD.unpack_from(state)
    if magic != MAGIC or length != len(state) - HEAD.size:
        raise PostgresError(f"the state of slot {name} has another layout than is known here")
    if checksum != crc32c(state[NOT_SUMMED:]):
        raise PostgresError(f"the state of slot {name} does not fit its checksum")
    written, database, _, _, _, restart = FIELDS.unpack_from(state, HEAD.size)
    if written.rstrip(b"\0").decode(errors="replace") != name or not database or not restart:
        raise PostgresError(f"the state of slot {name} is of another slot")
    return int(restart)


def snapshot_name(position: int) -> str:
    """Return where, below a data directory, running transactions at *position* are written down."""
    return f"pg_logical/snapshots/{position >> 32:X}-{position & 0xFFFFFFFF:X}.snap"


def knows_transactions(data_dir: Path, restart: int) -> bool:
    """Tell whether decoding that begins at *restart* is complete from its first record on.

    Elsewhere it has to wait for the transactions that were running there, and silently leaves out
    what is committed meanwhile (SnapBuildCommitTxn in snapbuild.c).
    """
    return (data_dir / snapshot_name(restart)).exists()


def has_slot(data_dir: Path, name: str) -> bool:
    """Tell whether a server in *data_dir* has, or will have, the slot *name*."""
    return (data_dir / "pg_replslot" / name).exists()


def slot_count(data_dir: Path) -> int:
    """Return how many slots a server in *data_dir* has.

    :raises OSError: that cannot be read.
    """
    return sum(1 for _ in (data_dir / "pg_replslot").iterdir())


def has_wal(data_dir: Path, start: int, end: int) -> bool:
    """Tell whether all segments with WAL from *start* to *end* are there, on any timeline.

    :raises OSError: that cannot be read.
    """
    directory = data_dir / "pg_wal"
    size = segment_bytes(directory)
    names = (path.name for path in directory.iterdir() if SEGMENT.fullmatch(path.name))
    begins = {segment_place(name, size)[1] for name in names}
    return begins.issuperset(range(start - start % size, end + 1, size))


def install(data_dir: Path, copy: SlotState) -> None:
    """Give the stopped server in *data_dir* a slot.

    :raises OSError: the disk is full, say.
    """
    if copy.snapshot is not None:
        path = data_dir / snapshot_name(copy.restart)
        if not path.exists():
            temporary = path.with_name(f"{path.name}.copied.tmp")
            _write(temporary, copy.snapshot)
            temporary.rename(path)
            _sync(path.parent)
    slots = data_dir / "pg_replslot"
    # A server that starts removes what has this name.
    unfinished = slots / f"{copy.name}.tmp"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(0o700)
    _write(unfinished / "state", copy.state)
    _sync(unfinished)
    unfinished.rename(slots / copy.name)
    _sync(slots)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
