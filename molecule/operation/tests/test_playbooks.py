# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster is operated by playbooks, as its users do it."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import pytest

from lab.cluster import MEMBERS
from lab.playbook import changes, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


@contextlib.contextmanager
def maintenance_ended() -> Iterator[None]:
    """End maintenance, whatever happened meanwhile."""
    try:
        yield
    finally:
        play("resume")


def test_status_shows_the_table_and_changes_nothing(bench: Bench) -> None:
    leader = bench.leader
    began = time.monotonic()
    outcome = play("status")
    sys.stdout.write(f"\nstatus.yml: {time.monotonic() - began:.1f} s\n")
    assert changes(outcome) == 0
    lines = outcome.output.splitlines()
    assert any(line.split()[:1] == [leader] and "Leader" in line for line in lines)
    assert "Healthy." in lines, outcome.output


def test_status_works_while_a_host_is_down(bench: Bench) -> None:
    """Also when that is the first, where a playbook's work is done else."""
    lost = MEMBERS[0] if bench.leader != MEMBERS[0] else bench.standbys[0]
    bench.lab.kill(lost)
    try:
        outcome = play("status")
        assert changes(outcome) == 0
        assert "Not well:" in outcome.output
        sentences = [line for line in outcome.output.splitlines() if line.startswith("- ")]
        assert any(lost in sentence for sentence in sentences), outcome.output
        strict = play("status", status_fail=True)
        assert strict.code != 0
    finally:
        bench.lab.start(lost)
    bench.await_whole()


def test_the_lead_is_handed_over_once(bench: Bench) -> None:
    leader, candidate = bench.leader, bench.standbys[0]
    looked = play("switchover", "--check", switchover_candidate=candidate)
    assert changes(looked) == 1
    assert bench.leader == leader
    with bench.writing("switchover.yml") as written:
        outcome = play("switchover", switchover_candidate=candidate)
        assert changes(outcome) == 1
    assert written.lost == 0
    assert f"{leader} handed the lead to {candidate} in " in outcome.output
    assert bench.leader == candidate
    assert changes(play("switchover", switchover_candidate=candidate)) == 0


def test_a_candidate_that_cannot_lead_is_refused_with_the_reason(bench: Bench) -> None:
    leader = bench.leader
    outcome = play("switchover", switchover_candidate="pg9")
    assert outcome.code != 0
    assert "pg9 is no member of the cluster" in outcome.output
    assert bench.leader == leader


def test_a_failover_has_to_be_meant(bench: Bench) -> None:
    leader, other = bench.leader, bench.standbys[0]
    unmeant = play("failover", failover_candidate=other)
    assert unmeant.code != 0
    assert "failover_confirm is ''" in unmeant.output
    meant = play("failover", failover_candidate=other, failover_confirm="demo")
    assert meant.code != 0
    assert f"{leader} leads and runs" in meant.output
    assert bench.leader == leader


def test_maintenance_begins_and_ends_once(bench: Bench) -> None:
    with maintenance_ended():
        assert changes(play("pause")) == 1
        assert bench.shown(bench.leader)["pause"] is True
        assert changes(play("pause")) == 0
        assert "the cluster is paused" in play("status").output
    assert "pause" not in bench.shown(bench.leader)
    assert changes(play("resume")) == 0


def test_members_are_restarted_only_when_they_wait_for_it(bench: Bench) -> None:
    before = {host: bench.started_at(host) for host in [bench.leader, *bench.standbys]}
    idle = play("restart_rolling")
    assert changes(idle) == 0
    assert "Nobody waits for a restart." in idle.output
    assert all(bench.started_at(host) == at for host, at in before.items())


def test_a_standby_gets_a_new_copy_when_that_is_meant(bench: Bench) -> None:
    leader, standby = bench.leader, bench.standbys[0]
    refused = play("reinit_node", node=leader, reinit_confirm=leader)
    assert refused.code != 0
    assert f"{leader} leads" in refused.output
    unmeant = play("reinit_node", node=standby)
    assert unmeant.code != 0
    assert "say -e node=NAME -e reinit_confirm=NAME" in unmeant.output
    before = bench.started_at(standby)
    assert changes(play("reinit_node", node=standby, reinit_confirm=standby)) == 1
    assert bench.has_restarted(standby, before)
