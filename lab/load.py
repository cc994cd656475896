# SPDX-License-Identifier: GPL-3.0-or-later
"""What planned work on a cluster costs its clients: seconds without a commit, rows lost."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lab.probe import Probe
from lab.stage import HEALTHY_SECONDS_MAX, Account, account, probe_acks
from lab.wire import Wire
from lab.writers import Writers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.cluster import Cluster
    from lab.hosts import Lab

ROWS_AROUND: Final = 100
ROWS_SECONDS_MAX: Final = 60.0


def under_load(lab: Lab, cluster: Cluster, name: str, work: Callable[[], object]) -> Account:
    """Do *work* while clients write: one that follows the primary, one inside every host.

    Return what it cost them. What *work* raises is passed on; LabError or WireError when the
    cluster is not well before or after it.
    """
    leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    run = uuid.uuid4().hex
    probe, writers = Probe(cluster.targets(), run=run), Writers(lab, cluster, run)
    writers.start(leader)
    probe.start()
    try:
        probe.await_rows(ROWS_AROUND, 0, ROWS_SECONDS_MAX)
        work()
        probe.await_rows(ROWS_AROUND, time.monotonic(), ROWS_SECONDS_MAX)
    finally:
        probe.stop()
        writers.stop()
    after = cluster.await_healthy(HEALTHY_SECONDS_MAX)
    with Wire(cluster.target(after), 30) as wire:
        there, present = writers.present(wire), probe.present(wire)
    cost = account(name, writers.acknowledged(), probe_acks(lab, probe), there, present)
    return replace(cost, before=leader, after=after)
