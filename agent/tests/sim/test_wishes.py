# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories in which operators restart members and pause the cluster while things break."""

from __future__ import annotations

import pytest

from agent.tests.sim.history import run

BESIDE = ("kill_agent", "freeze_agent", "crash_postgres", "cut", "trouble_etcd", "pause_host")
RESTARTS = ("restart_postgres", *BESIDE)
# A paused primary that does not hear of the end of the pause runs on beside the next leader, as
# docs/operations.md says: nothing that keeps it from hearing is part of these.
ROLLS = ("roll_restart", *BESIDE)
PAUSES = ("maintain", "restart_postgres", "crash_postgres")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kinds", [("restart_postgres",), RESTARTS, PAUSES])
def test_no_wish_breaks_an_invariant(kinds: tuple[str, ...], seed: int) -> None:
    outcome = run(seed, kinds=kinds)
    assert outcome.violation is None, outcome.report()
    assert outcome.acknowledged > 0


# In history 5 names came into force when the vote of one of them did not count any more; in 17 a
# member may not lead.
@pytest.mark.parametrize("seed", [0, 1, 2, 5, 17])
def test_a_rolling_restart_comes_to_everybody_one_after_the_other(seed: int) -> None:
    """The checks of the simulator know the rest: who had a turn is back before the next one."""
    outcome = run(seed, kinds=("roll_restart",), trace=True)
    assert outcome.violation is None, outcome.report()
    starts = [line.split()[1] for line in outcome.lines if " postgres starts as " in line]
    names = {f"pg{number}" for number in range(1, outcome.plan.members + 1)}
    assert all(starts.count(name) > 1 for name in names), outcome.report()
    assert len(set(outcome.primaries)) > 1


@pytest.mark.parametrize("seed", range(12))
def test_no_fault_during_a_rolling_restart_breaks_an_invariant(seed: int) -> None:
    outcome = run(seed, kinds=ROLLS)
    assert outcome.violation is None, outcome.report()
