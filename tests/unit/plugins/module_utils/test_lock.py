# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets a lock, who is refused it, and what that one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._lock import (
    Holder,
    Plan,
    plan,
    sentence,
    span,
)

MINE = Holder("root@ops", "ops", 7, "pgherd.cluster.site", 1000.0, "ops 7 1")
OTHER = Holder("ann@desk", "desk", 9, "pgherd.cluster.pause", 940.0, "desk 9 1")
TWICE = replace(MINE, depth=2)


@pytest.mark.parametrize(
    ("state", "found", "dead", "wanted"),
    [
        ("present", None, "", Plan("take", MINE)),
        ("present", MINE, "", Plan("enter", TWICE)),
        ("present", OTHER, "", Plan("refuse")),
        ("present", OTHER, OTHER.token, Plan("replace", MINE)),
        ("present", OTHER, "desk 8 1", Plan("refuse")),
        ("renewed", None, "", Plan("take", MINE)),
        ("renewed", TWICE, "", Plan("renew")),
        ("renewed", OTHER, "", Plan("refuse")),
        ("renewed", OTHER, OTHER.token, Plan("replace", MINE)),
        ("absent", None, "", Plan("nothing")),
        ("absent", OTHER, "", Plan("nothing")),
        ("absent", TWICE, "", Plan("leave", MINE)),
        ("absent", MINE, "", Plan("release")),
        ("broken", None, "", Plan("nothing")),
        ("broken", OTHER, "", Plan("break")),
    ],
)
def test_what_is_done(state: str, found: Holder | None, dead: str, wanted: Plan) -> None:
    assert plan(state, found, MINE, dead) == wanted


def test_a_holder_is_read_as_it_was_written() -> None:
    assert Holder.from_text(TWICE.to_text()) == TWICE


def test_a_value_that_is_not_ours_is_somebody() -> None:
    found = Holder.from_text("hello")
    assert "hello" in found.holder
    assert plan("present", found, MINE) == Plan("refuse")


def test_who_is_refused_is_told_all() -> None:
    assert sentence(OTHER, 1000.0, 3540) == (
        "ann@desk runs pgherd.cluster.pause (process 9) since 1970-01-01 00:15:40 UTC, 60 s ago; "
        "the lock ends by itself in 59 min."
    )
    assert sentence(replace(OTHER, reason="a test"), 1000.0, None).endswith(
        "60 s ago; the lock does not end by itself."
    )
    somebody = Holder("somebody", "", 0, "", 0.0, "")
    assert sentence(somebody, 1000.0, 60) == "somebody; the lock ends by itself in 60 s."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7260, "2 h 1 min")],
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text
