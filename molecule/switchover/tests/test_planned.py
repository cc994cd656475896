# SPDX-License-Identifier: GPL-3.0-or-later
"""The lead is handed over ten times in a row; clients have to wait a moment, and that is all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from lab.pgbench import Load, Report
from lab.planned import Handover, render, under_pgbench
from lab.wire import Wire

if TYPE_CHECKING:
    from lab.entrance import Crowd
    from molecule.switchover.tests.conftest import Bench

pytestmark = pytest.mark.timeout(900)

# How often under which load.
TURNS: Final = (
    (Load(8, "simple"), 3),
    (Load(64, "simple"), 2),
    (Load(8, "prepared"), 3),
    (Load(64, "prepared"), 2),
)
# Prepared statements in a pool want PgBouncer 1.21, which this release does not have.
WITHOUT_PREPARED: Final = ("12",)
BOOKS: Final = (
    "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM "
    "pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), sum(delta), count(*) "
    "FROM pgbench_history"
)


@dataclass(frozen=True)
class Outcome:
    """What ten switchovers came to."""

    costs: list[Handover]
    reports: list[Report]
    crowd: Crowd
    books: tuple[str, ...]


@pytest.fixture(scope="module")
def outcome(bench: Bench) -> Outcome:
    """Switch over under every load, and print the table."""
    turns: tuple[tuple[Load, int], ...] = TURNS
    if bench.lab.settings.release in WITHOUT_PREPARED:
        turns = tuple((Load(load.clients, "simple"), times) for load, times in TURNS)
    costs, reports = [], []
    with bench.patient() as crowd:
        for load, times in turns:
            some, report = under_pgbench(bench.entrance, bench.target, crowd, load, times)
            costs += some
            reports.append(report)
    with Wire(bench.target, 60) as wire:
        books = wire.query(BOOKS)[0]
    done, failed = (
        sum(getattr(each, name) for each in reports) for name in ("processed", "failed")
    )
    errors = [line for report in reports for line in report.errors] + crowd.letdowns
    bench.say(f"{len(costs)} switchovers through the VIP\n{render(costs)}")
    bench.say(
        f"{done} transactions of pgbench, {failed} failed; {crowd.acknowledged} rows of 3 clients "
        f"acknowledged, {crowd.lost} lost; {len(errors)} errors, {crowd.broken} connections lost"
    )
    sys.stdout.writelines(f"{line}\n" for line in errors[:20])
    return Outcome(costs, reports, crowd, books)


def test_no_transaction_of_pgbench_fails(outcome: Outcome) -> None:
    assert len(outcome.costs) == 10
    assert all(report.processed > 0 for report in outcome.reports)
    assert [report.failed for report in outcome.reports] == [0] * len(outcome.reports)
    assert [report.errors for report in outcome.reports] == [()] * len(outcome.reports)


def test_clients_keep_their_connections_and_see_no_error(outcome: Outcome) -> None:
    assert outcome.crowd.letdowns == []
    assert outcome.crowd.broken == 0


def test_no_acknowledged_row_is_lost(outcome: Outcome) -> None:
    assert outcome.crowd.acknowledged > 0
    assert outcome.crowd.lost == 0


def test_every_transaction_of_pgbench_is_in_the_books_once(outcome: Outcome) -> None:
    accounts, tellers, branches, history, count = outcome.books
    assert accounts == tellers == branches == history
    assert int(count) == sum(report.processed for report in outcome.reports)
