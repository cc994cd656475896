# SPDX-License-Identifier: GPL-3.0-or-later
"""Many histories, none of which breaks an invariant; with a safety check taken out some do."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from agent.tests.sim.history import run
from agent.tests.sim.many import outcomes
from agent.tests.sim.mutants import BY_NAME

pytestmark = pytest.mark.timeout(1800)

HISTORIES = 2000
# Within so many histories of its plan every mutant is caught; most are within the first ten.
MUTANT_HISTORIES = 200


def broken_by(mutant: str, seed: int) -> str:
    """Return what the history of *seed* breaks with *mutant* taken out, empty for nothing."""
    taken_out = BY_NAME[mutant]
    with taken_out.applied():
        violation = run(seed, **taken_out.plan).violation
    return violation.invariant if violation is not None else ""


def caught(mutant: str) -> str:
    """Return what the first history that notices *mutant* finds broken, empty if none does."""
    return next(
        (broken for seed in range(MUTANT_HISTORIES) if (broken := broken_by(mutant, seed))), ""
    )


def test_no_history_breaks_an_invariant() -> None:
    writes = 0
    for outcome in outcomes(range(HISTORIES)):
        assert outcome.violation is None, outcome.report()
        writes += outcome.acknowledged
    assert writes > 100 * HISTORIES


def test_every_safety_check_is_missed_when_it_is_taken_out() -> None:
    names = list(BY_NAME)
    with multiprocessing.Pool(os.cpu_count()) as pool:
        found = dict(zip(names, pool.imap(caught, names), strict=True))
    assert [name for name, broken in found.items() if not broken] == []


@pytest.mark.parametrize("mutant", BY_NAME)
def test_with_everything_in_place_the_same_histories_break_nothing(mutant: str) -> None:
    for seed in range(5):
        violation = run(seed, **BY_NAME[mutant].plan).violation
        assert violation is None, violation
