# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills as faults of `make faults`: the playbook failover_drill breaks the lab's cluster."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lab.cluster import CLUSTER_NAME, Cluster
from lab.collection import make_importable
from lab.errors import LabError
from lab.playbook import run
from lab.stage import HEALTHY_SECONDS_MAX, Account, await_synchronous, repair
from lab.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from lab.hosts import Lab
    from lab.playbook import Outcome

PLAYBOOK: Final = "pgherd.cluster.failover_drill"
PLAYBOOK_SECONDS_MAX: Final = 600.0
KIND: Final = "drill"


@dataclass(frozen=True)
class Drill:
    """A drill: its name, and what happens, in words."""

    name: str
    text: str


def catalogue() -> tuple[Drill, ...]:
    """Return every drill that the collection knows."""
    make_importable()
    module = importlib.import_module(
        "ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults"
    )
    return tuple(Drill(name, fault.text) for name, fault in module.FAULTS.items())


def perform(lab: Lab, drill: Drill, profile: str, reports: Path) -> Account:
    """Run *drill* by its playbook under the profile, and return what it cost by its own report.

    reports: the directory where reports and what the playbook said are left. What goes wrong is in
    the account, not raised. Raises LabError when the cluster is not healthy to begin with.
    """
    cluster = Cluster(lab.settings)
    leader = await_synchronous(cluster, Store(lab))
    reports.mkdir(parents=True, exist_ok=True)
    before = set(reports.glob("*/result.json"))
    variables = {
        "drill": drill.name,
        "drill_confirm": CLUSTER_NAME,
        "drill_without_backup": True,
        "drill_directory": str(reports),
        "cluster_rto": profile,
    }
    started = time.monotonic()
    failure = ""
    try:
        outcome = run(PLAYBOOK, variables, timeout_seconds=PLAYBOOK_SECONDS_MAX)
        (reports / f"{drill.name}.log").write_text(outcome.output, encoding="utf-8")
        failure = complaint(outcome)
    except LabError as error:
        failure = str(error)
    seconds = time.monotonic() - started
    if failure:
        repair(lab)
    try:
        after = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    except LabError as error:
        after, failure = "-", failure or f"did not heal: {error}"
    written = set(reports.glob("*/result.json")) - before
    if not written:
        failure = failure or "the playbook left no report"
        return Account(drill.name, before=leader, after=after, failure=failure, kind=KIND)
    result = json.loads(max(written).read_text(encoding="utf-8"))
    return account(result, seconds, leader, after, failure)


def complaint(outcome: Outcome) -> str:
    """Return what a playbook that failed says last, in one line; nothing when it succeeded."""
    if outcome.code == 0:
        return ""
    lines = [line.strip() for line in outcome.output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("[ERROR]")]
    return next(iter([*errors[-1:], *lines[-1:]]), f"the playbook ended with {outcome.code}")


def account(
    result: dict[str, Any], seconds: float, before: str, after: str, failure: str
) -> Account:
    """Return a drill's *result* as the account of a fault.

    seconds: how long the playbook ran; before, after: who led; failure: what went wrong with the
    playbook.
    """
    figures = result["figures"]
    redundancy = figures["redundancy_seconds"]
    if not result["passed"]:
        failure = result["verdict"]
    elif redundancy is None:
        failure = failure or "was not redundant again while the drill watched"
    return Account(
        fault=result["drill"],
        gap=figures["rto_seconds"],
        acknowledged=figures["rows_acknowledged"],
        lost=figures["rows_lost"],
        overlap=figures["overlap_seconds"],
        before=figures["leader_before"] or before,
        after=after,
        failure=failure,
        kind=KIND,
        doubt=figures["rows_in_doubt"],
        redundancy=redundancy,
        added=None if redundancy is None else seconds - redundancy,
    )
