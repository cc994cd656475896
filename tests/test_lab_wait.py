# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's one way to wait: what it returns, when it gives up, and what it says then."""

from __future__ import annotations

import itertools

import pytest

from lab.errors import LabError
from lab.wait import until


def test_what_is_found_is_returned_as_soon_as_it_is_true() -> None:
    found = iter([[], [], ["pg2"], ["pg3"]])
    assert until(lambda: next(found), 60, "somebody leads", every=0) == ["pg2"]
    assert next(found) == ["pg3"]


def test_who_asks_may_say_what_must_hold() -> None:
    numbers = itertools.count()
    assert until(lambda: next(numbers), 60, "three", holds=lambda n: n == 3, every=0) == 3


def test_there_is_one_look_whatever_the_time() -> None:
    assert until(lambda: "there", 0, "it is there") == "there"


def test_who_waits_in_vain_is_told_for_what_and_what_was_seen_last() -> None:
    with pytest.raises(LabError, match=r"^One host has it: not so in 0 s\. Last seen: \[\]$"):
        until(list, 0, "One host has it", every=0)
    with pytest.raises(LabError, match=r"Last seen: nobody$"):
        until(list, 0, "One host has it", tell=lambda found: ", ".join(found) or "nobody", every=0)


def test_errors_that_may_pass_do_not_end_it() -> None:
    asked = itertools.count()

    def ask() -> str:
        if next(asked) < 2:
            raise ConnectionRefusedError
        return "answer"

    assert until(ask, 60, "it answers", passing=(OSError,), every=0) == "answer"


def test_of_errors_the_last_is_told() -> None:
    def ask() -> str:
        raise ConnectionRefusedError("nobody listens")

    with pytest.raises(LabError, match="Last seen: ConnectionRefusedError: nobody listens"):
        until(ask, 0, "it answers", passing=(OSError,), every=0)


def test_other_errors_end_it_at_once() -> None:
    outcomes = iter([KeyError("wrong"), KeyError("late")])

    def ask() -> str:
        raise next(outcomes)

    with pytest.raises(KeyError, match="wrong"):
        until(ask, 60, "it answers", passing=(OSError,), every=0)
