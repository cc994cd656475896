# SPDX-License-Identifier: GPL-3.0-or-later
"""That WAL cannot be archived is said by who looks after the cluster's health."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.playbook import play

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def played(name: str) -> str:
    """Run the playbook *name*, which must succeed, and return what it said, in one line."""
    outcome = play(name)
    assert outcome.code == 0, outcome.output
    return " ".join(outcome.output.split())


def configure(bench: Bench, **parameters: str) -> None:
    """Set PostgreSQL's *parameters* in the dynamic configuration."""
    change = {"postgresql": {"parameters": parameters}}
    assert bench.cluster.ask(bench.leader, "PATCH", "/config", change)[0] == 200


def archiver(bench: Bench) -> dict[str, object]:
    """Return what the leader's agent tells of its archiver."""
    return dict(bench.shown(bench.leader)["pgherd"].get("archiver", {}))


def test_an_archive_command_that_fails_is_a_problem(bench: Bench) -> None:
    assert archiver(bench) == {}
    before = bench.stored()
    try:
        configure(bench, archive_mode="on", archive_command="/bin/false")
        played("restart_rolling")
        bench.await_whole()
        bench.cluster.query(bench.leader, "SELECT pg_switch_wal()")
        bench.until(lambda: archiver(bench).get("failing") is True)
        assert f"{bench.leader} cannot archive WAL (" in played("status")
        configure(bench, archive_command="/bin/true")
        bench.until(lambda: archiver(bench).get("waiting") == 0)
        assert "Healthy." in played("status")
    finally:
        assert bench.cluster.ask(bench.leader, "PUT", "/config", before)[0] == 200
        played("restart_rolling")
    bench.await_whole()
    bench.until(lambda: archiver(bench) == {})
