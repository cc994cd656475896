# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories: the same from the same seed, and none that breaks an invariant."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agent.tests.sim.history import run
from agent.tests.sim.mutants import STRANGERS


@pytest.mark.parametrize("seed", [1, 4])
def test_the_same_seed_makes_the_same_history(seed: int) -> None:
    first, second = run(seed, trace=True), run(seed, trace=True)
    assert first.lines
    assert first == second


def test_another_process_makes_the_same_history() -> None:
    """Also where strings hash otherwise: nothing may depend on the order of a set."""
    traces = {
        subprocess.run(
            [sys.executable, "-m", "agent.tests.sim", "--seed", "3"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(traces) == 1


@pytest.mark.parametrize("seed", [4, 7, 11, 12])
def test_two_that_led_alone_from_the_same_place_do_not_take_each_other_s_wal_for_theirs(
    seed: int,
) -> None:
    """Both called their timelines 2 as long as PostgreSQL numbered them without `/sync`."""
    outcome = run(seed, **STRANGERS)
    assert outcome.violation is None, outcome.report()
    assert outcome.primaries[:3] == ("pg1", "pg2", "pg1")
