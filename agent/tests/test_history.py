# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeline histories, and whether WAL is part of one (R25)."""

from __future__ import annotations

import pytest

from pgherd.history import Branch, has_diverged, parse_history, switch_point

# As PostgreSQL writes it: tab-separated, blank lines between.
FILE = (
    "1\t0/3000060\tno recovery target specified\n\n"
    "2\t0/5000000\tbefore 2026-01-01 00:00:00+00\n\n"
    "# a comment\n"
)
HISTORY = (
    Branch(1, 0x3000060, "no recovery target specified"),
    Branch(2, 0x5000000, "before 2026-01-01 00:00:00+00"),
)


def test_a_file_is_read_and_what_is_no_branch_is_skipped() -> None:
    assert parse_history(FILE) == HISTORY


def test_a_branch_may_have_no_reason() -> None:
    assert parse_history("1\t0/10\n") == (Branch(1, 16, ""),)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "one\t0/1\tx\n"])
def test_the_first_timeline_has_no_history(text: str) -> None:
    assert parse_history(text) == ()


@pytest.mark.parametrize(("timeline", "end"), [(1, 0x3000060), (2, 0x5000000), (3, None)])
def test_a_timeline_ends_where_the_next_began(timeline: int, end: int | None) -> None:
    assert switch_point(HISTORY, timeline) == end


@pytest.mark.parametrize(
    ("timeline", "position", "diverged"),
    [
        (1, 0x3000060, False),
        (1, 0x3000061, True),
        (1, 0, False),
        (2, 0x5000000, False),
        (2, 0x5000001, True),
        (3, 0x9000000, False),
        (4, 0, True),
    ],
    ids=[
        "up to the switch point",
        "one byte beyond it",
        "long before it",
        "up to the second one",
        "beyond the second one",
        "the leader's own timeline",
        "a timeline the leader does not know",
    ],
)
def test_wal_beyond_the_switch_point_is_no_part_of_the_leaders_past(
    timeline: int, position: int, diverged: bool
) -> None:
    assert has_diverged(HISTORY, 3, timeline, position) is diverged
