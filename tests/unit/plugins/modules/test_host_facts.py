# SPDX-License-Identifier: GPL-3.0-or-later
"""What deployment must know of a host."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.host_facts import (
    cores,
    disk,
    listening_ports,
    memory_bytes,
    postmasters,
    system_identifier,
)

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal:       2048 kB\nMemFree:  1 kB\n"


@pytest.mark.parametrize(
    ("limit", "found"), [("", 2097152), ("max", 2097152), ("1048576", 1048576)]
)
def test_memory_is_the_machines_or_the_limit(limit: str, found: int) -> None:
    assert memory_bytes(MEMINFO, limit) == found


@pytest.mark.parametrize(
    ("limit", "found"),
    [("", 8), ("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1)],
)
def test_cores_are_the_machines_or_the_limit(limit: str, found: int) -> None:
    assert cores(8, limit) == found


def test_ports_are_those_that_somebody_listens_on() -> None:
    four = (
        "  sl  local_address rem_address   st tx_queue rx_queue\n"
        "   0: 0100007F:1920 00000000:0000 0A 00000000:00000000\n"
        "   1: 0B8E570A:1921 0100007F:D6A8 01 00000000:00000000\n"
    )
    six = "  sl  local_address\n   0: 00000000000000000000000000000000:1F48 0:0 0A 0:0\n"
    assert listening_ports(four, six, "") == [6432, 8008]


def test_a_path_that_is_to_come_is_measured_where_it_will_be(tmp_path: Path) -> None:
    assert disk(str(tmp_path / "a" / "b"))["device"] == tmp_path.stat().st_dev
    assert disk(str(tmp_path))["total_bytes"] > 0


def test_the_system_identifier_is_read_from_the_control_file(tmp_path: Path) -> None:
    assert system_identifier(str(tmp_path)) is None
    (tmp_path / "global").mkdir()
    control = tmp_path / "global" / "pg_control"
    control.write_bytes(b"short")
    assert system_identifier(str(tmp_path)) is None
    control.write_bytes(struct.pack("=Q", 7711208554390660311) + b"rest")
    assert system_identifier(str(tmp_path)) == "7711208554390660311"


def test_only_running_servers_are_found(tmp_path: Path) -> None:
    for name, pid in (("main", os.getpid()), ("gone", 2**22 + 1)):
        place = tmp_path / "17" / name
        place.mkdir(parents=True)
        (place / "postmaster.pid").write_text(f"{pid}\n{place}\n1700000000\n5433\n")
    assert postmasters(tmp_path) == [{"data_dir": str(tmp_path / "17" / "main"), "port": 5433}]
