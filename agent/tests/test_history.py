# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeline histories, and whether WAL is part of one (R25)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgherd.history import (
    Branch,
    Parting,
    Past,
    has_left,
    parse_history,
    parting,
    skip_timelines,
)

if TYPE_CHECKING:
    from pathlib import Path

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


OURS = Past(2, HISTORY[:1], 0x4000000)
THEIRS = Past(3, HISTORY, 0x9000000)
BRANCH_1 = Branch(1, 0x3000060, "")


@pytest.mark.parametrize(
    ("timeline", "position", "left"),
    [
        (1, 0x3000060, None),
        (1, 0x3000061, 0x3000060),
        (1, 0, None),
        (2, 0x5000000, None),
        (2, 0x5000001, 0x5000000),
        (3, 0x9000000, None),
        (4, 0x9000000, 0),
    ],
    ids=[
        "up to the switch point",
        "one byte beyond it",
        "long before it",
        "up to the second one",
        "beyond the second one",
        "the leader's own timeline",
        "a timeline of which nothing is known",
    ],
)
def test_wal_beyond_the_switch_point_is_no_part_of_the_leaders_past(
    timeline: int, position: int, left: int | None
) -> None:
    """R25; the history file of ours may be missing."""
    ours = Past(timeline, tuple(each for each in HISTORY if each.timeline < timeline), position)
    if timeline == 4:
        ours = replace(ours, branches=())
    assert has_left(ours, THEIRS) == left
    if timeline < 4:
        assert has_left(replace(ours, branches=()), THEIRS) == left


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (OURS, THEIRS, Parting(2, 0x3000060, 0x5000000)),
        (THEIRS, OURS, Parting(2, 0x3000060, 0x5000000)),
        (THEIRS, THEIRS, Parting(3, 0x5000000, None)),
        (Past(1, (), 7), Past(1, (), 9), Parting(1, 0, None)),
        (OURS, Past(2, (Branch(1, 0x3000000, ""),), 0), Parting(1, 0, 0x3000000)),
        (OURS, Past(3, (Branch(1, 0x3000000, ""), HISTORY[1]), 0), Parting(1, 0, 0x3000000)),
        (Past(3, (BRANCH_1,), 0), OURS, Parting(1, 0, 0x3000060)),
        (Past(3, (BRANCH_1,), 0), THEIRS, Parting(1, 0, 0x3000060)),
        (Past(4, (Branch(3, 0x10, ""),), 0x20), THEIRS, Parting(0, 0, 0)),
    ],
    ids=[
        "we are on the way",
        "they are on the way",
        "on one timeline",
        "on the first one",
        "on two timelines of one number",
        "on two of one number, which they have left",
        "on another timeline from the same place",
        "on one of their number from another place",
        "nothing shared",
    ],
)
def test_pasts_part_where_one_of_them_took_another_way(
    ours: Past, theirs: Past, expected: Parting
) -> None:
    assert parting(ours, theirs) == expected


def test_two_timelines_of_one_number_that_began_elsewhere_are_two() -> None:
    ours = Past(2, (BRANCH_1,), 0x3000100)
    assert has_left(ours, Past(2, (Branch(1, 0x3000000, ""),), 0)) == 0x3000000
    assert has_left(ours, Past(2, (Branch(1, 0x3000080, ""),), 0)) == 0x3000060


def test_a_timeline_that_the_leader_does_not_know_is_left_even_if_nothing_is_on_it() -> None:
    ours = Past(4, HISTORY[:1], 0x3000060)
    assert has_left(ours, THEIRS) == 0x3000060


class TestNumbersLeftOut:
    def test_they_look_taken_to_postgresql_and_are_archived(self, tmp_path: Path) -> None:
        (tmp_path / "archive_status").mkdir()
        skip_timelines(tmp_path, range(2, 4))
        assert sorted(path.name for path in tmp_path.glob("*.history")) == [
            "00000002.history",
            "00000003.history",
        ]
        assert parse_history((tmp_path / "00000002.history").read_text()) == ()
        assert (tmp_path / "archive_status" / "00000003.history.ready").exists()

    def test_a_history_that_is_there_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "00000002.history").write_text("1\t0/3000000\twhy\n")
        skip_timelines(tmp_path, [2])
        assert len(parse_history((tmp_path / "00000002.history").read_text())) == 1

    def test_none_left_out_writes_nothing(self, tmp_path: Path) -> None:
        skip_timelines(tmp_path, range(2, 2))
        assert list(tmp_path.iterdir()) == []
