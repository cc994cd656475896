# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories in which operators restart members and pause the cluster while things break."""

from __future__ import annotations

import pytest

from agent.tests.sim.history import run

BESIDE = ("kill_agent", "freeze_agent", "crash_postgres", "cut", "trouble_etcd", "pause_host")
RESTARTS = ("restart_postgres", *BESIDE)
# A paused primary that does not hear of the end of the pause runs on beside the next leader, as
# docs/operations.md says: nothing that keeps it from hearing is part of these.
PAUSES = ("maintain", "restart_postgres", "crash_postgres")


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kinds", [("restart_postgres",), RESTARTS, PAUSES])
def test_no_wish_breaks_an_invariant(kinds: tuple[str, ...], seed: int) -> None:
    outcome = run(seed, kinds=kinds)
    assert outcome.violation is None, outcome.report()
    assert outcome.acknowledged > 0
