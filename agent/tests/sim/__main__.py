# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m agent.tests.sim`: many histories, or one with its trace."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

from agent.tests.sim.history import run
from agent.tests.sim.many import outcomes

if TYPE_CHECKING:
    from agent.tests.sim.cluster import Outcome


def main() -> int:
    """Return 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m agent.tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a broken one")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run(options.seed, trace=True)
        sys.stdout.write(outcome.report() + "\n")
        return int(outcome.violation is not None)
    began = time.monotonic()
    broken = writes = 0
    seeds = range(options.first, options.first + options.seeds)
    for done, outcome in enumerate(outcomes(seeds, options.jobs), 1):
        writes += outcome.acknowledged
        if outcome.violation is not None:
            broken += 1
            sys.stdout.write(f"\n{_short(outcome) if options.keep_going else outcome.report()}\n")
            if not options.keep_going:
                break
        pace = done / (time.monotonic() - began)
        sys.stdout.write(
            f"\r{done} of {options.seeds} histories, {writes} writes acknowledged, "
            f"{broken} broken, {pace:.1f} a second "
        )
        sys.stdout.flush()
    sys.stdout.write("\n")
    return int(broken > 0)


def _short(outcome: Outcome) -> str:
    broken = outcome.violation
    assert broken is not None
    return f"seed {outcome.plan.seed} ({outcome.plan}): {broken.invariant}: {broken.detail}"


if __name__ == "__main__":
    sys.exit(main())
