# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of faults: what is measured and taken up again, the tables, chart and page."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from bench import failover, page
from bench.bars import Panel
from bench.failover import MODULE, Plan, keeping, main
from bench.failover_chart import chart
from bench.failover_faults import FAULTS
from bench.failover_report import cell, circumstances, figures, tables, verdicts
from bench.outages import Outages, Sample, keep, load
from bench.samples import Spread
from bench.systems import DEFAULT, SYSTEMS, TIGHT
from lab import LabError
from lab.processes import UNITS

if TYPE_CHECKING:
    from pathlib import Path

SPACE = "{http://www.w3.org/2000/svg}"


def sample(system: str, fault: str, at: int, gap: float, lost: int = 0, **more: float) -> Sample:
    """Return a sample that has figures, of 1000 rows acknowledged."""
    return Sample(
        system,
        fault,
        at,
        gap,
        acknowledged=1000,
        lost=lost,
        overlap=more.get("overlap", 0.0),
        doubt=int(more.get("doubt", 0)),
        software=f"{SYSTEMS[system].family} 1.0",
        cores=2,
        load=more.get("load", 1.0),
        taken="2026-11-30T12:00:00+00:00",
    )


def bad(system: str, fault: str, at: int) -> Sample:
    """Return a sample that has no figures."""
    return Sample(system, fault, at, failure="did not heal")


@pytest.fixture
def outages() -> Outages:
    """Return two rounds of two faults with both families; one sample could not be had."""
    return Outages(
        (
            sample("tight", "host lost", 1, 24, lost=3, load=2.5),
            sample("tight", "host lost", 2, 26, lost=7),
            sample("tight", "agent frozen 60 s", 1, 0.5, lost=400, overlap=19),
            bad("tight", "agent frozen 60 s", 2),
            sample("normal", "host lost", 1, 4),
            sample("normal", "host lost", 2, 6, doubt=1),
            sample("normal", "agent frozen 60 s", 1, 0.1),
            sample("normal", "agent frozen 60 s", 2, 0.1),
        )
    )


def test_a_figure_is_the_median_of_the_rounds_that_have_it(outages: Outages) -> None:
    assert outages.spread("tight", "host lost", "gap") == Spread(25, 24, 26)
    assert outages.spread("tight", "agent frozen 60 s", "lost") == Spread(400, 400, 400)
    assert outages.spread("fast", "host lost", "gap") is None
    assert outages.load("tight") == Spread(1, 1, 2.5)
    assert outages.load("fast") is None


def test_a_ratio_is_that_of_the_medians_and_there_is_none_without_both(outages: Outages) -> None:
    assert outages.ratio("tight", "normal", "host lost") == 5
    assert outages.ratio("tight", "normal", "switchover") is None
    assert outages.ratio("default", "normal", "host lost") is None


def test_systems_and_faults_come_in_one_order_however_they_were_measured(outages: Outages) -> None:
    outages = Outages(outages.samples[::-1])
    assert outages.systems == ("normal", "tight")
    assert outages.faults == ("host lost", "agent frozen 60 s")


def test_a_failure_counts_until_its_sample_was_taken_again(outages: Outages) -> None:
    assert [each.key for each in outages.failed] == [("tight", "agent frozen 60 s", 2)]
    again = Outages((*outages.samples, sample("tight", "agent frozen 60 s", 2, 0.7, lost=500)))
    assert again.failed == []
    assert again.spread("tight", "agent frozen 60 s", "lost") == Spread(450, 400, 500)
    # And one that was had is not taken away by a later failure.
    assert Outages((*again.samples, bad("tight", "host lost", 1))).failed == []


def test_samples_are_the_same_after_they_were_kept(outages: Outages, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "samples.jsonl"
    keep(path, outages.samples)
    assert load(path) == outages
    with path.open("a") as file:
        file.write('{"system": "nor')
    assert load(path) == outages
    assert load(tmp_path / "none") == Outages(())


@pytest.mark.parametrize("line", ["no JSON\n", '{"colour": "red"}\n', "[1]\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match="line 1: that is no sample"):
        load(path)


def test_a_run_goes_on_with_what_is_missing_or_failed_in_order(outages: Outages) -> None:
    plan = Plan(("normal", "tight"), ("host lost", "agent frozen 60 s"), rounds=2)
    assert plan.missing("normal", outages) == []
    assert plan.missing("tight", outages) == [(2, "agent frozen 60 s")]
    assert plan.missing("tight", Outages(())) == [
        (1, "host lost"),
        (1, "agent frozen 60 s"),
        (2, "host lost"),
        (2, "agent frozen 60 s"),
    ]
    assert replace(plan, rounds=3).missing("normal", outages)[0] == (3, "host lost")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--systems", "normal,repmgr"], "no system 'repmgr': there are normal, fast"),
        (["--faults", "flood"], "no fault 'flood': there are host lost"),
        (["--runs", "0"], "--runs 0: there must be at least 1"),
    ],
)
def test_bad_words_are_refused_before_anything_is_made(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_a_run_that_is_ended_early_leaves_what_it_has_measured(
    outages: Outages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "samples.jsonl"
    tell = keeping(path, outages.samples[:2])
    tell(outages.samples[2])
    tell(outages.samples[3])
    assert load(path).samples == outages.samples[:4]
    said = capsys.readouterr().out
    assert "0.50 s without a commit, 400 of 1000 rows lost" in said
    assert "did not heal" in said


def test_a_report_measures_nothing_and_fails_only_for_samples_that_are_not_there(
    outages: Outages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "samples.jsonl"
    words = ["--report", "--samples", str(path)]
    assert main(words) == 2
    assert "has no sample" in capsys.readouterr().err
    keep(path, outages.samples)
    assert main(words) == 1
    assert "did not heal" in capsys.readouterr().out
    keep(path, [each for each in outages.samples if not each.failure])
    assert main(words) == 0
    assert "Patroni 20/1/3" in capsys.readouterr().out


def test_the_tables_show_times_ratios_and_losses(outages: Outages) -> None:
    text = tables(outages)
    assert "| Seconds without a commit | pgherd normal | Patroni 20/1/3 |" in text
    assert "| host lost | 5.00 (4.00 to 6.00) | 25.0 (24.0 to 26.0) |" in text
    assert "| host lost | 1.00 | 5.00 |" in text
    assert "| host lost | 0 | 5 (3 to 7) |" in text
    assert "| agent frozen 60 s | 0 | 19.0 |" in text
    assert "| host lost | 0.5 (0 to 1) | 0 |" in text


def test_there_is_no_ratio_to_what_was_not_measured(outages: Outages) -> None:
    theirs = Outages(outages.samples[:4])
    assert "is 1 |" not in tables(theirs)


def test_what_is_not_known_and_what_is_nothing_are_told_apart() -> None:
    assert cell(None, counted=True) == "none"
    assert cell(Spread(0, 0, 0), counted=False) == "0"
    assert cell(Spread(7, 7, 7), counted=True) == "7"
    assert cell(Spread(0, 0, 5), counted=True) == "0 (0 to 5)"


def test_what_was_compared_is_said(outages: Outages) -> None:
    text = circumstances(outages)
    assert "- 2026-11-30, 2 cores; rounds of each fault: 1 to 2.\n" in text
    assert Outages(outages.samples[4:]).rounds == "2"
    assert Outages(()).rounds == "0"
    assert "- pgherd 1.0.\n" in text
    assert "Patroni 20/1/3: 410 of 3000 acknowledged rows lost in 3 faults" in text
    assert "in 3 faults; the machine's load average 1.00 (1.00 to 2.50)." in text


def test_rows_that_pgherd_lost_are_said(outages: Outages) -> None:
    assert "pgherd normal lost no row of 4000" in verdicts(outages)
    assert "without figures: tight, agent frozen 60 s, 2" in verdicts(outages)
    lost = Outages((sample("fast", "host lost", 1, 2, lost=4),))
    assert verdicts(lost) == ["pgherd fast LOST 4 ROWS of 1000"]


def test_the_chart_has_a_panel_for_every_figure_and_a_bar_for_every_system(
    outages: Outages,
) -> None:
    root = ElementTree.fromstring(chart(outages))
    words = [node.text for node in root.iter(f"{SPACE}text")]
    assert {"Seconds without a commit", "Acknowledged rows lost", "25.0", "400"} <= set(words)
    kinds = [node.get("class") or "" for node in root.iter(f"{SPACE}rect")]
    legend, panels, faults, systems = 2, 3, 2, 2
    assert sum(kind.startswith("bar") for kind in kinds) == legend + panels * faults * systems
    # Of nothing lost there is a word and no bar.
    assert words.count("0") >= 4


def test_nothing_stands_at_the_foot_of_a_scale_that_has_no_zero() -> None:
    spreads = {("f", "a"): Spread(0, 0, 0), ("f", "b"): Spread(3, 0, 40), ("f", "c"): None}
    low, high = Panel("", ("f",), ("a", "b", "c"), spreads, begin=None).bounds
    assert 2.0**low < 3
    assert 2.0**high >= 40
    assert Panel("", ("f",), ("a",), {("f", "a"): None}, begin=None).bounds == (-1, 1)


def test_figures_go_to_their_own_place_in_the_page(
    outages: Outages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.DOCUMENT.read_text(encoding="utf-8")
    copy = tmp_path / "benchmarks.md"
    copy.write_text(text, encoding="utf-8")
    monkeypatch.setattr(page, "DOCUMENT", copy)
    page.publish(MODULE, figures(outages), (tmp_path / "failover.svg", chart(outages)))
    published = copy.read_text(encoding="utf-8")
    assert "5.00 (4.00 to 6.00)" in published
    before, _, after = text.partition(page.begin("bench.path"))
    assert after in published
    assert published.startswith(before.partition(page.begin(MODULE))[0][:200])
    assert (tmp_path / "failover.svg").read_text(encoding="utf-8").startswith("<svg")
    assert failover.CHART.name in figures(outages)


def test_every_system_is_run_by_an_agent_that_can_be_frozen() -> None:
    assert {system.agent for system in SYSTEMS.values()} <= set(UNITS)
    assert SYSTEMS["quorum"].settings["ttl"] == TIGHT["ttl"] < DEFAULT["ttl"]


def test_faults_that_last_do_so_for_longer_than_the_longest_lease() -> None:
    for name in ("agent frozen 60 s", "cut off 40 s"):
        assert FAULTS[name].seconds > DEFAULT["ttl"]
        assert f" {FAULTS[name].seconds:g} s" in name
    assert Plan().faults == tuple(FAULTS)
    with pytest.raises(LabError, match="no fault"):
        Plan(faults=("", *FAULTS))
