# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook runs in the middle of traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.playbook import run

if TYPE_CHECKING:
    from molecule.switchover.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def test_a_run_with_nothing_to_change_costs_clients_nothing(bench: Bench) -> None:
    with bench.patient() as crowd:
        outcome = run()
    bench.say(f"site.yml in the middle of traffic: {crowd.outage():.2f} s without a commit")
    assert outcome.code == 0, outcome.output[-3000:]
    assert set(outcome.changed.values()) == {0}, outcome.output[-3000:]
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)
