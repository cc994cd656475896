# SPDX-License-Identifier: GPL-3.0-or-later
"""Many histories, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

from agent.tests.sim.history import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.tests.sim.cluster import Outcome

CORES = os.cpu_count() or 1
# So many histories a process takes at a time.
CHUNK = 4


def live(seed: int) -> Outcome:
    """Live through one history; one that breaks an invariant is told again with its trace."""
    outcome = run(seed)
    return run(seed, trace=True) if outcome.violation is not None else outcome


def outcomes(seeds: range, jobs: int = CORES) -> Iterator[Outcome]:
    """Live through the histories of *seeds*, in any order.

    :param jobs: how many processes do it.
    """
    # Processes of their own, not copies of one that may have threads.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(live, seeds, chunksize=CHUNK)
