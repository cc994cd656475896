# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab.table`: every fault of the table, one after the other, and what each one cost.

Makes and deploys the lab where it is missing. Each fault happens to a healthy cluster under one
client that follows the primary and one inside every host that commits wherever it can. Exit code
1 when a row was lost, two nodes acknowledged at once, or the cluster did not do as it must; 2 when
the lab or the cluster cannot be had. Journals of a fault that failed are in .ansible/faults.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from lab import processes
from lab.cluster import MEMBERS, REPOSITORY
from lab.columns import align
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import deploy
from lab.rows import ROWS, find
from lab.settings import Settings
from lab.stage import Account, Fault, perform
from lab.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD: Final = ("fault", "no commit", "rows", "lost", "overlap", "led", "leads", "")
EVIDENCE: Final = REPOSITORY / ".ansible" / "faults"


def cells(cost: Account) -> tuple[str, ...]:
    """Return a row of the table."""
    return (
        cost.fault,
        f"{cost.gap:.2f} s",
        str(cost.acknowledged),
        str(cost.lost),
        f"{cost.overlap:.2f} s",
        cost.before,
        cost.after,
        "; ".join(cost.problems) or "ok",
    )


def render(costs: Sequence[Account]) -> str:
    """Return the table, its columns aligned: words to the left, numbers to the right."""
    return align([HEAD, *(cells(cost) for cost in costs)], numbers={1, 2, 3, 4})


def choose(names: str) -> tuple[Fault, ...]:
    """Return the faults that *names* (separated by commas) ask for, all for none.

    Raises LabError for a name that no fault has.
    """
    return tuple(find(name.strip()) for name in names.split(",") if name.strip()) or ROWS


def keep_evidence(lab: Lab, fault: str, since: float) -> None:
    """Write every host's journal since *since* (seconds since the epoch) to EVIDENCE."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    units = [f"--unit={unit}" for unit in processes.UNITS.values()]
    for host in MEMBERS:
        command = ["journalctl", "--output=short-precise", f"--since=@{since:.0f}", *units]
        text = lab.exec(host, command, check=False)[1]
        (EVIDENCE / f"{fault}.{host}.log").write_text(text, encoding="utf-8")


def run(lab: Lab, chosen: Sequence[Fault], mode: str) -> list[Account]:
    """Perform the faults in synchronous mode *mode*; stops early when the cluster stays broken.

    Raises LabError when the cluster cannot be had to begin with.
    """
    Store(lab).patch({"synchronous_mode": mode})
    costs: list[Account] = []
    for fault in chosen:
        lab.progress.line("fault", f"{fault.name}: {fault.act.__doc__}")
        since = time.time()
        try:
            cost = perform(lab, fault)
        except LabError as error:
            cost = Account(fault.name, failure=str(error))
        costs.append(cost)
        lab.progress.line("fault", "  ".join(cells(cost)))
        if cost.problems:
            keep_evidence(lab, fault.name, since)
        if cost.after == "-":
            break
    return costs


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = argparse.ArgumentParser(prog="python -m lab.table", description=__doc__)
    root.add_argument("--rows", default="", help="names of faults, separated by commas; else all")
    root.add_argument("--rto", default="normal", help="profile, cluster_rto (normal)")
    root.add_argument("--mode", default="quorum", help="synchronous_mode (quorum)")
    root.add_argument("--as-it-is", action="store_true", help="break what runs, deploy nothing")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        chosen = choose(arguments.rows)
        environment = Settings.from_environment()
        lab = Lab(Settings(**{**vars(environment), "data_disk": True}))
        if not arguments.as_it_is:
            lab.up()
            lab.progress.line("site.yml", f"cluster_rto {arguments.rto}")
            deploy({"cluster_rto": arguments.rto})
        costs = run(lab, chosen, arguments.mode)
    except LabError as error:
        sys.stderr.write(f"faults: {error}\n")
        return 2
    sys.stdout.write(f"\n{render(costs)}\n")
    return 1 if len(costs) < len(chosen) or any(cost.problems for cost in costs) else 0


if __name__ == "__main__":
    sys.exit(main())
