# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of the client's path: what is read from pgbench, the ratios, tables and chart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from bench.bars import COLOURS, Panel, power
from bench.page import DOCUMENT, END, begin, replaced
from bench.path import TITLES, keeping
from bench.path_chart import chart
from bench.path_report import tables, verdicts
from bench.pgbench import LATENCIES, SAMPLING, Load, parse
from bench.pgpool import SPARE, configuration
from bench.samples import Results, Sample, Spread, load, number, percentile

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """\
pgbench (17.12 (Debian 17.12-0+deb13u1))
transaction type: <builtin: select only>
number of clients: 32
number of transactions actually processed: 4000
number of failed transactions: {failed} (0.000%)
latency average = 15.9 ms
initial connection time = 250.5 ms
tps = 2000.0 (without initial connection time)
"""


def sample(path: str, at: int, tps: float, cpu_us: float = 0.0, error: str = "") -> Sample:
    """Return a run of reads by 32 clients."""
    return Sample(
        path, "reads", 32, at, tps, 1000 / tps if tps else 0.0, cpu_us=cpu_us, error=error
    )


def said(report: str, code: int = 0, latencies: str = "") -> str:
    return f"{report}{LATENCIES}{code}\n{latencies}"


def test_a_run_is_read_from_what_pgbench_says_and_from_its_log() -> None:
    latencies = "\n".join(str(number * 1000) for number in range(1, 201))
    outcome = parse(said(REPORT.format(failed=0), latencies=latencies))
    assert (outcome.tps, outcome.p99_ms, outcome.connect_seconds) == (2000, 198, 0.2505)
    assert outcome.measured == 2
    assert outcome.error == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (said(REPORT.format(failed=3)), "3 transactions failed"),
        (said("pgbench: error: client 7 aborted in command 1\n" + REPORT.format(failed=0)), "7 ab"),
        (said("FATAL:  sorry, too many clients already\n", code=1), "too many clients"),
        (said("sh: 1: pgbench: not found\n", code=127), "not found"),
        (said(REPORT.format(failed=0), code=124), "not done in time"),
        ("", "said nothing"),
    ],
)
def test_a_run_that_let_a_client_down_has_no_figures(text: str, words: str) -> None:
    outcome = parse(text)
    assert words in outcome.error
    assert outcome.tps == 0


def test_a_run_whose_time_went_into_connecting_is_no_failure_but_measured_nothing() -> None:
    text = "number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n"
    outcome = parse(said(text))
    assert (outcome.error, outcome.measured) == ("", 0)


def test_clients_that_connect_do_so_beyond_the_seconds_that_are_measured() -> None:
    options = Load("reads", 200, 5, "prepared").options(2, 3.2)
    assert {"--select-only", "--time=9", "--client=200", "--jobs=2"} <= set(options)
    assert f"--sampling-rate={SAMPLING}" in options
    assert "--jobs=1" in Load("writes", 1, 5).options(2, 0)


def test_percentile() -> None:
    assert percentile([], 99) == 0
    assert percentile([7], 99) == 7
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([3, 1, 2], 50) == 2


def test_only_figures_of_one_round_are_divided_by_each_other() -> None:
    """The machine was twice as fast in the second round; no ratio may show that."""
    runs = [sample("direct", 1, 100), sample("chain", 1, 60)]
    runs += [sample("direct", 2, 200), sample("chain", 2, 100), sample("direct", 3, 900)]
    share = Results(tuple(runs)).share("chain", "direct", "reads", 32)
    assert share is not None
    assert [share.least, share.median, share.greatest] == pytest.approx([0.5, 0.55, 0.6])


def test_a_run_without_figures_counts_in_no_ratio_and_is_told() -> None:
    failed = sample("pgpool", 2, 1.0, error="client 7 aborted")
    runs = (sample("direct", 1, 100), sample("pgpool", 1, 40), sample("direct", 2, 100), failed)
    results = Results(runs)
    share = results.share("pgpool", "direct", "reads", 32)
    assert share is not None
    assert share.median == pytest.approx(0.4)
    assert results.errors(["pgpool"]) == [failed]
    assert results.errors(["direct"]) == []
    assert results.share("chain", "direct", "reads", 32) is None


def test_samples_are_the_same_after_they_were_saved() -> None:
    results = Results((sample("direct", 1, 100), sample("chain", 1, 1, error="none served")))
    assert load(results.dump()) == results


def test_numbers_keep_two_or_three_digits() -> None:
    assert [number(value) for value in (0.567, 1.0, 9.994, 9.996, 12.34)] == [
        "0.57",
        "1.00",
        "9.99",
        "10.0",
        "12.3",
    ]
    assert str(Spread(0.5, 0.4, 0.6)) == "0.50 (0.40 to 0.60)"
    assert str(Spread(0.5, 0.5, 0.5)) == "0.50"


@pytest.fixture
def results() -> Results:
    """Return one round over all paths; PgPool-II let nobody in."""
    tps = {"direct": 1000, "pgbouncer": 700, "haproxy": 600, "chain": 500, "pgpool": 1}
    runs = [
        sample(
            path, 1, value, cpu_us=100_000 / value, error="none served" if path == "pgpool" else ""
        )
        for path, value in tps.items()
    ]
    return Results(tuple(runs))


def test_the_tables_show_shares_and_what_was_measured(results: Results) -> None:
    text = tables(results, TITLES)
    assert "| PgBouncer | 0.70 |" in text
    assert "Reads: processor time each, direct's is 1 | 32 clients" in text
    assert "| VIP, HAProxy, PgBouncer | 500 / 2.0 / 0.0 |" in text
    assert "| PgPool-II | none |" in text
    assert "chain by hand" not in text
    assert verdicts(results, TITLES) == []


def test_the_chain_is_held_against_one_made_by_hand_and_the_peer_of_the_same_round() -> None:
    paths = [("direct", 1000), ("chain", 500), ("hand", 400), ("pgpool", 250)]
    found = Results(tuple(sample(path, 1, tps) for path, tps in paths))
    assert "| Reads: tps, the chain by hand is 1 | 32 clients |" in tables(found, TITLES)
    assert "| VIP, HAProxy, PgBouncer | 1.25 |" in tables(found, TITLES)
    assert verdicts(found, TITLES) == [
        "reads, 32 clients, VIP, HAProxy, PgBouncer: 1.25 times both by hand",
        "reads, 32 clients, VIP, HAProxy, PgBouncer: 2.00 times PgPool-II",
    ]


def test_figures_replace_figures_and_nothing_else() -> None:
    text = f"before\n{begin('bench.path')}\nold\n{END}\nafter\n"
    once = replaced(text, "bench.path", "new")
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert replaced(once, "bench.path", "new") == once
    with pytest.raises(ValueError, match="has no"):
        replaced("no marks", "bench.path", "new")


def test_the_document_has_a_place_for_the_figures() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replaced(text, "bench.path", "figures") != text


def test_a_run_that_is_ended_early_leaves_what_it_has_measured(tmp_path: Path) -> None:
    tell = keeping(tmp_path / "samples.json")
    kept = [sample("direct", 1, 1000), sample("chain", 1, 0, error="none served")]
    for each in kept:
        tell(each)
    assert load((tmp_path / "samples.json").read_text()) == Results(tuple(kept))


def test_the_chart_has_a_bar_and_a_figure_for_every_share(results: Results) -> None:
    root = ElementTree.fromstring(chart(results, TITLES))
    space = "{http://www.w3.org/2000/svg}"
    words = [node.text for node in root.iter(f"{space}text")]
    assert {"0.70", "0.60", "0.50", "PgBouncer", "32 clients"} <= set(words)
    # A path without figures has a word in place of its bar: here in both panels.
    assert words.count("none") == 2
    kinds = [node.get("class") or "" for node in root.iter(f"{space}rect")]
    legend = 4
    assert sum(kind.startswith("bar") for kind in kinds) == legend + 2 * 3


def test_bars_end_where_their_share_stands_on_the_scale(results: Results) -> None:
    root = ElementTree.fromstring(chart(results, TITLES))
    space = "{http://www.w3.org/2000/svg}"
    bars = [node for node in root.iter(f"{space}rect") if node.get("class") == "bar2"]
    lines = [node for node in root.iter(f"{space}line") if node.get("class") == "grid"]
    half, one = (float(node.get("y1") or 0) for node in lines[:2])
    # The chain had half of direct's throughput: its bar hangs from 1 to 1/2.
    assert float(bars[1].get("y") or 0) == pytest.approx(one)
    assert float(bars[1].get("height") or 0) == pytest.approx(half - one, abs=0.2)


def test_a_scale_ends_with_powers_of_two_around_all_bars() -> None:
    shares = {("8", "a"): Spread(5, 4, 6), ("8", "b"): Spread(0.3, 0.2, 0.4), ("8", "c"): None}
    low, high = Panel("", ("8",), ("a", "b", "c"), shares).bounds
    assert (low, high) == (-3, 3)
    assert math.ldexp(1, low) < 0.2
    assert [power(exponent) for exponent in range(-2, 3)] == ["1/4", "1/2", "1", "2", "4"]


def test_every_path_has_a_colour() -> None:
    assert len(COLOURS) >= len(TITLES) - 1


def test_pgpool_is_given_a_child_for_every_client_and_the_servers_there_are() -> None:
    text = configuration(["10.0.0.1", "10.0.0.2"], "secret", 200)
    assert f"num_init_children = {200 + SPARE}\n" in text
    assert "backend_hostname1 = '10.0.0.2'\n" in text
    assert "load_balance_mode = off\n" in text
    assert "memory_cache_enabled = off\n" in text
    assert "load_balance_mode = on\n" in configuration(["10.0.0.1"], "x", 8, balance=True)
