# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories: the same from the same seed, and none that breaks an invariant."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agent.tests.sim.history import run


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
