# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of `make faults`: what may be chosen, how runs are summed, what is published."""

from __future__ import annotations

import json

import pytest

from lab import LabError, drills
from lab.playbook import Outcome
from lab.rows import ROWS
from lab.stage import Account
from lab.table import choose, main, parser
from lab.tally import HEAD, Tally, added, cells, dump, machine, markdown, render, tallies

LOST = Account("host_lost", gap=5.053, acknowledged=405, before="pg1", after="pg2", doubt=1)
DRILLED = Account(
    "host_stop", gap=5.4, acknowledged=900, before="pg2", after="pg3", kind="drill",
    redundancy=21.5, added=12.25,
)  # fmt: skip
BROKEN = Account("host_lost", gap=7, acknowledged=600, lost=3, before="pg2", after="pg1")


def names(wanted: str) -> list[str]:
    """Return the names of what is chosen."""
    return [row.name for row in choose(wanted)]


def test_all_drills_and_all_faults_of_the_lab_are_chosen_unless_some_are_named() -> None:
    assert choose("") == (*drills.catalogue(), *ROWS)
    assert names("host_lost, drill:agent_crash") == ["host_lost", "agent_crash"]


def test_a_name_that_a_drill_and_the_lab_have_means_the_lab_s() -> None:
    assert choose("disk_full") == tuple(row for row in ROWS if row.name == "disk_full")
    assert choose("drill:disk_full") == tuple(
        row for row in drills.catalogue() if row.name == "disk_full"
    )


def test_wildcards_ask_for_several_of_one_kind() -> None:
    assert choose("drill:*") == drills.catalogue()
    assert choose("*") == ROWS
    assert names("drill:etcd_*,etcd_leader_hung") == [
        "etcd_member_loss",
        "etcd_leader_loss",
        "etcd_leader_hung",
    ]


def test_an_unknown_fault_is_one_sentence_and_exit_code_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(LabError, match=r"There is no fault 'host_last': there are drill:switch"):
        choose("host_last")
    assert main(["--rows", "drill:nonsense"]) == 2
    assert capsys.readouterr().err.startswith("faults: There is no fault 'drill:nonsense'")


@pytest.mark.parametrize("runs", ["0", "-1", "often"])
def test_each_fault_happens_at_least_once(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--runs", runs])
    assert f"argument --runs: invalid positive value: '{runs}'" in capsys.readouterr().err


def test_one_run_is_shown_as_it_was() -> None:
    assert cells(Tally((LOST,))) == (
        "host_lost", "lab", "1", "5.05 s", "405", "0", "0.00 s", "1", "-", "-", "pg1", "pg2", "ok",
    )  # fmt: skip
    assert cells(Tally((DRILLED,)))[7:10] == ("0", "21.50 s", "12.25 s")


def test_runs_are_summed_by_median_sum_and_worst() -> None:
    (tally,) = tallies([LOST, BROKEN, LOST])
    assert cells(tally) == (
        "host_lost", "lab", "3", "5.05 s (5.05 to 7.00)", "1410", "3", "0.00 s", "1", "-", "-",
        "pg1", "pg2", "1 of 3: 3 acknowledged rows lost",
    )  # fmt: skip


def test_a_drill_and_a_fault_of_one_name_are_two_rows() -> None:
    found = tallies([Account("disk_full", kind="drill"), Account("disk_full")])
    assert [cells(tally)[:2] for tally in found] == [("disk_full", "drill"), ("disk_full", "lab")]


def test_the_table_has_numbers_to_the_right() -> None:
    lines = render(tallies([LOST, DRILLED])).splitlines()
    assert lines[0].split() == " ".join(HEAD).split()
    assert lines[1].index(" 5.05 s ") == lines[2].index(" 5.40 s ")
    assert lines[2].endswith("  ok")


def test_what_the_playbook_added_is_said_of_drills_only() -> None:
    assert added(tallies([LOST])) == ""
    assert "added 12.25 s to 1 drills" in added(tallies([LOST, DRILLED]))


def test_a_page_and_programs_get_the_table_as_well() -> None:
    found = tallies([LOST, BROKEN, DRILLED])
    page = markdown(found, {"date": "2026-12-01", "machine": machine()}).splitlines()
    assert page[0].startswith("date: 2026-12-01; machine: ")
    assert page[3].startswith("| --- | --- | --: |")
    assert {line.count("|") for line in page[2:6]} == {len(HEAD) + 1}
    assert "playbook added 12.25 s" in page[-1]
    assert "added" not in markdown(tallies([LOST]), {}).splitlines()[-1]
    read = json.loads(dump(found, {"date": "2026-12-01"}))
    assert [(row["fault"], row["passed"], len(row["runs"])) for row in read["rows"]] == [
        ("host_lost", False, 2),
        ("host_stop", True, 1),
    ]
    assert read["rows"][0]["runs"][0]["redundancy"] is None


FIGURES = {
    "rto_seconds": 5.4, "rows_acknowledged": 900, "rows_lost": 0, "overlap_seconds": 0.0,
    "rows_in_doubt": 2, "redundancy_seconds": 21.5, "leader_before": "pg2", "leader_after": "pg3",
}  # fmt: skip


def drilled(failure: str = "", passed: bool = True, **figures: object) -> Account:
    """Return the account of a drill whose playbook ran 33.75 s."""
    result = {
        "drill": "host_stop",
        "passed": passed,
        "verdict": "Passed." if passed else "Failed. Too long.",
        "figures": {**FIGURES, **figures},
    }
    return drills.account(result, 33.75, "pg1", "pg3", failure)


def test_a_drill_is_accounted_for_by_its_own_report() -> None:
    cost = drilled()
    assert cost == Account(
        "host_stop", gap=5.4, acknowledged=900, before="pg2", after="pg3", kind="drill", doubt=2,
        redundancy=21.5, added=12.25,
    )  # fmt: skip
    assert cost.problems == ()
    assert drilled(leader_before=None).before == "pg1"


def test_a_drill_that_failed_says_why() -> None:
    assert drilled(passed=False, failure="exit").problems == ("Failed. Too long.",)
    assert drilled(failure="The lock is held.").problems == ("The lock is held.",)
    unseen = drilled(redundancy_seconds=None)
    assert unseen.problems == ("was not redundant again while the drill watched",)
    assert unseen.added is None


def test_a_playbook_that_failed_is_quoted_by_its_last_error() -> None:
    text = "TASK [x]\n[ERROR]: first\n[ERROR]: Task failed: why\nOrigin: here\n\nPLAY RECAP\n"
    assert drills.complaint(Outcome(0, text, {})) == ""
    assert drills.complaint(Outcome(2, text, {})) == "[ERROR]: Task failed: why"
    assert drills.complaint(Outcome(2, "no host\n", {})) == "no host"
    assert drills.complaint(Outcome(2, "", {})) == "the playbook ended with 2"
