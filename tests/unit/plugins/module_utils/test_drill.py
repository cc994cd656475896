# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill cost, and whether that was allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import (
    Drill,
    DrillError,
    account,
    missing,
    overlap,
    read_lines,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_chart import bars, level
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_judge import judge
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_page import settings
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_table import (
    earlier,
    remember,
    summary,
    usual,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.drill_sample import META, WALL, events, probe, rows, state

START = {"kind": "start", "t": 0.0, "wall": WALL, "members": ["pg1", "pg2"]}


def ack(number: int, t: float, host: str = "pg1", timeline: int = 1) -> dict[str, Any]:
    """Return a row acknowledged 10 ms after it was sent."""
    return {"kind": "ack", "t": t, "sent": t - 0.01, "number": number, "host": host,
            "timeline": timeline}  # fmt: skip


def figures(*lines: dict[str, Any], fault: float | None = 2.0, **more: Any) -> dict[str, Any]:
    """Return the account of a hand-made drill; *more* is laid on rows.json."""
    noted = [] if fault is None else [{"wall": WALL + fault, "name": "fault"}]
    there = {"present": [[1, 99]], "witness": {"pg1": [[1, 99]]}, **more}
    found: dict[str, Any] = account(Drill([START, *lines], noted, there, META))
    return found


def test_whole_failover() -> None:
    """A realistic failover gives the figures that it was made with."""
    found = account(Drill(probe(), events(), rows(), META))
    assert found["rto_seconds"] == pytest.approx(5.0, abs=0.05)
    assert (found["rows_lost"], found["rows_in_doubt"], found["rows_in_doubt_present"]) == (0, 1, 0)
    assert found["client_errors"] == 21
    assert (found["leader_before"], found["leader_after"]) == ("pg1", "pg2")
    assert (found["leader_seconds"], found["redundancy_seconds"]) == (4.5, 25.0)
    assert (found["undo_seconds"], found["recovered_seconds"]) == (17.0, 23.0)
    assert found["overlap_seconds"] == 0
    assert found["resumed"]
    assert found["rules"][1] == {"seconds": 4.5, "member": "pg2", "rule": "promote"}
    assert found["latency_before"]["p50"] < found["latency_before"]["max"] < 10


def test_cut_last_line_is_left_out() -> None:
    """The probe may die in the middle of a line, of the last one only."""
    good = json.dumps(START) + "\n"
    assert read_lines(good + '{"kind": "ack", "t"') == [START]
    with pytest.raises(DrillError, match=r"line 2 of probe\.jsonl cannot be read"):
        read_lines(good + "{\n" + good)
    with pytest.raises(DrillError, match=r"line 2 of probe\.jsonl is no object"):
        read_lines(good + "[]\n")


@pytest.mark.parametrize("text", ["", '{"kind": "end", "t": 1}\n'])
def test_probe_without_start(text: str) -> None:
    """Without a start, times mean nothing."""
    with pytest.raises(DrillError, match="did the probe run"):
        read_lines(text)


def test_gap_before_the_fault_does_not_count() -> None:
    """Only what lasted past the fault is the fault's."""
    times = [0.1, 1.9, 2.5, 2.6]
    found = figures(*(ack(number, t) for number, t in enumerate(times, 1)))
    assert found["rto_seconds"] == 0.6
    assert found["gap"] == [-0.1, 0.5]


def test_whole_run_counts_without_a_fault() -> None:
    """A drill whose fault could not be made counts from the probe's start on, and is failed."""
    found = figures(ack(1, 0.1), ack(2, 1.9), {"kind": "end", "t": 2.0}, fault=None)
    assert found["rto_seconds"] == 1.8
    assert "The fault was not made" in judge(found, {})["verdict"]


def test_never_a_row_again() -> None:
    """The gap lasts to the probe's end, and the drill is failed whatever the limits are."""
    found = figures(ack(1, 1.0), {"kind": "end", "t": 9.0})
    assert (found["rto_seconds"], found["resumed"], found["latency_after"]) == (8.0, False, None)
    judged = judge(found, {"rto_seconds_max": None})
    assert not judged["passed"]
    assert "No row was acknowledged any more" in judged["verdict"]


def test_nothing_acknowledged() -> None:
    """A probe that never got through is no division by zero."""
    found = figures({"kind": "end", "t": 3.0})
    assert (found["rto_seconds"], found["resumed"], found["latency_before"]) == (3.0, False, None)
    assert (found["leader_before"], found["leader_after"], found["leader_seconds"]) == (None,) * 3


def test_fault_after_the_last_line() -> None:
    """A fault that the probe did not live to see costs nothing that it saw."""
    found = figures(ack(1, 0.1), {"kind": "end", "t": 1.0})
    assert found["rto_seconds"] == 0


def test_lost_rows_of_entry_and_witness() -> None:
    """Each connection's rows are looked up among its own."""
    witness = {**ack(5, 1.0), "kind": "witness", "member": "pg2"}
    found = figures(ack(1, 1.0), ack(200, 1.5), witness)
    assert found["lost"] == {"entry": [200], "pg2": [5]}
    assert found["rows_lost"] == 2
    assert found["rows_acknowledged"] == 3


def test_rows_in_doubt() -> None:
    """A row that was acknowledged after all is not in doubt."""
    doubts = [{"kind": "doubt", "t": 3.0, "sent": 2.9, "number": x} for x in (1, 2, 300)]
    found = figures(ack(1, 1.0), *doubts)
    assert found["in_doubt"] == [2, 300]
    assert found["rows_in_doubt_present"] == 1


def test_rows_must_have_been_read() -> None:
    """Without the rows at the end nothing can be said of lost ones."""
    with pytest.raises(DrillError, match=r"rows\.json has no `present`"):
        account(Drill([START], [], {}, META))


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        ([ack(1, 1.0), ack(2, 2.0), ack(3, 3.0, "pg2", 2)], 0.0),
        # A statement in flight at the takeover may be confirmed late.
        ([ack(1, 1.0), {**ack(2, 3.5), "sent": 1.5}, ack(3, 3.0, "pg2", 2)], 0.0),
        ([ack(1, 1.0), ack(2, 2.01, "pg2", 2), ack(3, 3.01), ack(4, 4.0, "pg2", 2)], 0.99),
        # Three at once are not counted twice.
        ([ack(n, t, f"pg{n}") for n in (1, 2, 3) for t in (1.0, 2.01)], 1.0),
    ],
)
def test_overlap(lines: list[dict[str, Any]], seconds: float) -> None:
    """Two primaries at once are two that took and acknowledged writes."""
    assert overlap(lines) == pytest.approx(seconds)


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_missing(acknowledged: set[int], there: set[int]) -> None:
    """Ranges say the same as the numbers that they stand for."""
    assert missing(acknowledged, [[x, x] for x in there]) == sorted(acknowledged - there)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([state(1, "pg1", "leader", "lead")], ("pg1", "pg1", None)),
        ([state(1, "pg1", "leader", "lead"), state(4, "pg1", "leader", "lead", 2)],
         ("pg1", "pg1", 2.0)),
        ([state(1, "pg1", "leader", "lead"), state(3, "pg1", "silent", ""),
          state(4, "pg1", "leader", "lead")], ("pg1", "pg1", None)),
        ([state(3, "pg2", "leader", "lead")], (None, "pg2", 1.0)),
        ([state(1, "pg1", "leader", "lead"), state(3, "pg1", "silent", "")], ("pg1", None, None)),
        ([state(1, "pg1", "leader", "lead"), state(3, "pg2", "leader", "lead"),
          state(4, "pg2", "replica", "follow")], ("pg1", "pg1", 1.0)),
    ],
)  # fmt: skip
def test_leaders(lines: list[dict[str, Any]], expected: tuple[Any, ...]) -> None:
    """A new leader is another one, or the same on a new timeline."""
    found = figures(*lines)
    assert (found["leader_before"], found["leader_after"], found["leader_seconds"]) == expected


def sample(**more: Any) -> dict[str, Any]:
    """Return figures that are all within their limits, with *more* laid on."""
    known = {
        "fault_made": True,
        "rto_seconds": 5.0,
        "rows_lost": 0,
        "overlap_seconds": 0.0,
        "client_errors": 3,
        "redundancy_seconds": 20.0,
        "resumed": True,
        "leader_before": "pg1",
        "leader_after": "pg2",
        "leader_seconds": 4.0,
        "rows_acknowledged": 9,
        "rows_in_doubt": 0,
    }
    return {**known, **more}


@pytest.mark.parametrize(
    ("more", "limits", "sentence"),
    [
        ({"rto_seconds": 8.0}, {"rto_seconds_max": 7}, "8.00 s is more than the 7.00 s allowed"),
        ({"rows_lost": 1}, {}, "Acknowledged rows lost: 1 is more than the 0 allowed"),
        ({"overlap_seconds": 0.5}, {}, "Two primaries at once: 0.50 s is more than"),
        ({}, {"errors_max": 2}, "Client errors: 3 is more than the 2 allowed"),
        ({"redundancy_seconds": None}, {"redundancy_seconds_max": 60}, "not seen while the drill"),
    ],
)
def test_failed(more: dict[str, Any], limits: dict[str, Any], sentence: str) -> None:
    """Every threshold can fail a drill, and says so."""
    judged = judge(sample(**more), limits)
    assert not judged["passed"]
    assert sentence in judged["verdict"]


@pytest.mark.parametrize(
    ("more", "limits", "sentence"),
    [
        ({}, {"rto_seconds_max": 5}, "no acknowledged row was lost; pg2 leads instead of pg1"),
        ({"leader_after": "pg1"}, {}, "pg1 leads still"),
        ({"leader_after": None}, {}, "no acknowledged row was lost."),
        ({"rows_lost": 2}, {"rows_lost_max": None}, "2 acknowledged rows were lost"),
        ({"redundancy_seconds": None}, {}, "Passed"),
    ],
)
def test_passed(more: dict[str, Any], limits: dict[str, Any], sentence: str) -> None:
    """What is at its limit, or has none, passes."""
    judged = judge(sample(**more), limits)
    assert judged["passed"]
    assert sentence in judged["verdict"]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"rto_second_max": 7}, "`rto_second_max` is unknown .did you mean rto_seconds_max"),
        ({"rto_seconds_max": "soon"}, "`rto_seconds_max` is `soon`; write a number"),
    ],
)
def test_bad_thresholds(limits: dict[str, Any], text: str) -> None:
    """A threshold that is wrong is refused by name."""
    with pytest.raises(DrillError, match=text):
        judge(sample(), limits)


def result(started: str, drill: str = "host_stop", **more: Any) -> dict[str, Any]:
    """Return the result of a drill."""
    found = sample(**more)
    return {"drill": drill, "cluster": "main", "target": "pg1", "started": started,
            **judge(found, {}), "figures": found}  # fmt: skip


def test_history_is_bounded_for_each_name() -> None:
    """Old drills of the same name go, others stay, the newest is last; again replaces."""
    history: list[dict[str, Any]] = remember([], result("1", "switchover"), 2)
    for started in ("2", "4", "3", "4"):
        history = remember(history, result(started), 2)
    assert [(x["drill"], x["started"]) for x in history] == [
        ("switchover", "1"), ("host_stop", "3"), ("host_stop", "4")
    ]  # fmt: skip
    assert [x["started"] for x in earlier(history, result("4"))] == ["3"]


def test_usual_is_the_median_of_what_was_seen() -> None:
    """Drills that did not see a figure do not count for it."""
    seen = [result("1", leader_seconds=x) for x in (1.0, None, 4.0, 2.0)]
    assert usual(seen, "leader_seconds") == 2.0
    assert usual([], "leader_seconds") is None


def test_summary_counts_what_passed() -> None:
    """One line a drill, and how many passed."""
    lines = summary([result("1"), result("2", "switchover", rows_lost=1)])
    assert lines[-1] == "1 of 2 drills passed."
    assert "FAILED" in lines[3]


@pytest.mark.parametrize(
    ("role", "running", "how"),
    [
        ("leader", "running", "leader"),
        ("standby_leader", "streaming", "leader"),
        ("sync_standby", "streaming", "replica"),
        ("silent", "unknown", "silent"),
        ("replica", "stopped", "down"),
    ],
)
def test_level(role: str, running: str, how: str) -> None:
    """A lane has four colours."""
    assert level({"role": role, "state": running}) == how


def test_a_picture_of_earlier_drills_has_a_line_only_where_there_is_a_limit() -> None:
    drills = [("first", 4.0), ("second", 6.0)]
    assert "<line" not in bars(drills, None)
    limited = bars(drills, 12.0)
    assert limited.count("<rect") == 2
    assert 'y1="6.0"' in limited


def test_settings_that_nobody_told_are_not_shown() -> None:
    assert json.loads(settings({"profile": "fast", "drill": "switchover"})) == {"profile": "fast"}
