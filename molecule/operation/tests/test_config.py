# SPDX-License-Identifier: GPL-3.0-or-later
"""The dynamic configuration is planned, changed, and carried through by playbooks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import MEMBERS
from lab.playbook import changes, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.playbook import Outcome
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(600)


def asked(**parameters: Any) -> dict[str, Any]:
    return {"config_changes": {"postgresql": {"parameters": parameters}}}


def shown(bench: Bench, name: str) -> set[str]:
    """Return what the members have in force."""
    return {bench.cluster.query(host, f"SHOW {name}")[0][0] for host in MEMBERS}


def row(outcome: Outcome, name: str) -> list[str]:
    """Return the words of the line about the parameter *name*."""
    key = f"postgresql.parameters.{name}"
    return next(line.split() for line in outcome.output.splitlines() if key in line.split()[:1])


def text(outcome: Outcome) -> str:
    """Return all that was printed in one line, so that it does not matter where it is broken."""
    return " ".join(outcome.output.split())


@pytest.fixture
def restored(bench: Bench) -> Iterator[dict[str, Any]]:
    """The configuration before, which is there again in the end."""
    before = bench.stored()
    yield before
    if bench.stored() != before:
        assert bench.cluster.ask(bench.leader, "PUT", "/config", before)[0] == 200
        assert play("config_apply", config_changes={}, config_restart=True).code == 0


def test_a_change_is_planned_made_and_carried_through(
    bench: Bench, restored: dict[str, Any]
) -> None:
    leader, standbys = bench.leader, sorted(bench.standbys)
    (connections,) = shown(bench, "max_connections")
    raised = asked(max_connections=int(connections) + 10, work_mem="9MB")
    started = {host: bench.started_at(host) for host in MEMBERS}
    order = f"The safe order: {', then '.join([*standbys, leader])}."

    began = time.monotonic()
    planned = play("config_plan", **raised)
    sys.stdout.write(f"\nconfig_plan.yml: {time.monotonic() - began:.1f} s\n")
    assert changes(planned) == 1
    assert bench.stored() == restored
    assert row(planned, "max_connections")[-5:] == ["restart", "of", "pg1,", "pg2,", "pg3"]
    assert "reload" in " ".join(row(planned, "work_mem"))
    assert f"{order} {leader} leads, and hands the lead over before its turn." in text(planned)
    assert "pg1, pg2, pg3 would wait for a restart: max_connections." in text(planned)

    made = play("config_apply", **raised)
    assert changes(made) == 1
    # All have taken it in, and say themselves what was foretold.
    assert all(set(bench.shown(host)["pending_restart_reason"]) == {"max_connections"}
               for host in MEMBERS)  # fmt: skip
    assert f"{order} {leader} leads" in text(made)
    assert "restart_rolling does it" in text(made)
    assert (shown(bench, "work_mem"), shown(bench, "max_connections")) == ({"9MB"}, {connections})
    assert started == {host: bench.started_at(host) for host in MEMBERS}

    with bench.writing("config_apply.yml with a restart") as written:
        restarted = play("config_apply", **raised, config_restart=True)
        assert changes(restarted) == 1
    assert f"Restarted: {', '.join([*standbys, leader])}." in restarted.output
    assert bench.leader != leader
    assert written.lost == 0
    assert shown(bench, "max_connections") == {str(int(connections) + 10)}

    again = play("config_apply", **raised, config_restart=True)
    assert changes(again) == 0
    assert "it holds what is asked for. Nobody waits for a restart." in text(again)
    take_back(bench, restored)


def take_back(bench: Bench, before: dict[str, Any]) -> None:
    """Undo it, by which a parameter is lowered that a standby must not have below its primary's."""
    leader, order = bench.leader, [bench.leader, *sorted(bench.standbys)]
    now = bench.stored()
    parameters = (before["postgresql"].get("parameters") or {}) if "postgresql" in before else {}
    gone = {"config_changes": {"postgresql": {"parameters": parameters or None}}}
    looked = play("config_apply", "--check", **gone, config_restart=True)
    assert changes(looked) == 1
    assert (
        f"The safe order: {', then '.join(order)}. {leader} leads, and is restarted in place"
        in (text(looked))
    )
    assert bench.stored() == now
    made = play("config_apply", **gone, config_restart=True)
    assert changes(made) == 2
    assert f"Restarted: {', '.join(order)}." in made.output
    assert bench.leader == leader
    assert bench.stored() == before


@pytest.mark.parametrize("name", ["config_plan", "config_apply"])
def test_what_cannot_be_is_refused_in_the_agents_words(bench: Bench, name: str) -> None:
    before = bench.stored()
    refused = play(name, **asked(work_mem="much", max_conections=5))
    assert refused.code != 0
    assert sum(refused.changed.values()) == 0
    said = text(refused)
    assert "postgresql.parameters.work_mem: must be a number (unit kB), not 'much'" in said
    assert "did you mean `max_connections`?" in said
    assert bench.stored() == before


def test_what_is_no_mapping_is_refused_with_an_example() -> None:
    refused = play("config_plan", config_changes="work_mem")
    assert refused.code != 0
    assert 'config_changes is "work_mem", and no mapping' in text(refused)
