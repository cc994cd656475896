# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab.table`: every drill and every fault of the lab, and what each one cost.

Makes and deploys the lab where it is missing. Each fault happens to a healthy cluster that a
client writes to: a drill by its playbook, one of the lab's under one client that follows the
primary and one inside every host that commits wherever it can. Exit code 1 when a row was lost,
two nodes acknowledged at once, or the cluster did not do as it must; 2 when the lab or the cluster
cannot be had. The table, drills' reports and journals of what failed are left in .ansible/faults.
"""

from __future__ import annotations

import argparse
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab import drills, processes, stage
from lab.cluster import MEMBERS, REPOSITORY
from lab.drills import Drill
from lab.errors import LabError
from lab.hosts import Lab
from lab.playbook import deploy
from lab.rows import ROWS
from lab.settings import Settings
from lab.stage import Account, Fault
from lab.store import Store
from lab.tally import added, cells, dump, machine, markdown, render, tallies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.tally import Tally

EVIDENCE: Final = REPOSITORY / ".ansible" / "faults"


def choose(names: str) -> tuple[Drill | Fault, ...]:
    """Return what *names* (separated by commas) ask for, in that order; all for none.

    A name is that of a lab's fault or `drill:` and a drill's; both may have wildcards (`drill:*`).
    Raises LabError for a name that nothing has.
    """
    known: dict[str, Drill | Fault] = {f"drill:{row.name}": row for row in drills.catalogue()}
    known |= {row.name: row for row in ROWS}
    chosen: dict[str, Drill | Fault] = {}
    for wanted in filter(None, (name.strip() for name in names.split(","))):
        found = [name for name in known if matches(name, wanted)]
        if not found:
            raise LabError(f"There is no fault {wanted!r}: there are {', '.join(known)}.")
        chosen |= {name: known[name] for name in found}
    return tuple((chosen or known).values())


def matches(name: str, wanted: str) -> bool:
    """Tell whether *name* is wanted; a wildcard without `drill:` is about the lab's faults."""
    return fnmatchcase(name, wanted) and name.startswith("drill:") == wanted.startswith("drill:")


def keep_evidence(lab: Lab, cost: Account, since: float, directory: Path) -> None:
    """Write every host's journal since *since* (seconds since the epoch) to the directory."""
    units = [f"--unit={unit}" for unit in processes.UNITS.values()]
    for host in MEMBERS:
        command = ["journalctl", "--output=short-precise", f"--since=@{since:.0f}", *units]
        text = lab.exec(host, command, check=False)[1]
        name = f"{cost.kind}.{cost.fault}.{host}.log"
        (directory / name).write_text(text, encoding="utf-8")


def perform(lab: Lab, row: Drill | Fault, profile: str, directory: Path) -> Account:
    """Make one fault once and return what it cost; a cluster that is not healthy is a failure."""
    try:
        if isinstance(row, Drill):
            return drills.perform(lab, row, profile, directory / "drills")
        return stage.perform(lab, row)
    except LabError as error:
        kind = drills.KIND if isinstance(row, Drill) else Account.kind
        return Account(row.name, failure=str(error), kind=kind)


def run(lab: Lab, chosen: Sequence[Drill | Fault], options: argparse.Namespace) -> list[Account]:
    """Make each fault as often as asked for; stops early when the cluster stays broken.

    options: those of the command line. The table so far is left after every fault. Raises LabError
    when the cluster cannot be had to begin with.
    """
    directory, about = Path(options.into).resolve(), describe(options)
    directory.mkdir(parents=True, exist_ok=True)
    Store(lab).patch({"synchronous_mode": options.mode})
    costs: list[Account] = []
    for row in (row for row in chosen for _ in range(options.runs)):
        text = row.text if isinstance(row, Drill) else row.act.__doc__
        lab.progress.line("fault", f"{row.name}: {text}")
        since = time.time()
        cost = perform(lab, row, options.rto, directory)
        costs.append(cost)
        lab.progress.line("fault", "  ".join(cells(tallies([cost])[0])))
        if cost.problems:
            keep_evidence(lab, cost, since, directory)
        publish(tallies(costs), about, directory)
        if cost.after == "-":
            break
    return costs


def describe(options: argparse.Namespace) -> dict[str, str]:
    """Return what the table is about: when, where and under which settings."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "profile": options.rto,
        "synchronous_mode": options.mode,
    }


def publish(found: Sequence[Tally], about: dict[str, str], directory: Path) -> None:
    """Write the table to the directory, for pages and for programs."""
    (directory / "table.md").write_text(markdown(found, about), encoding="utf-8")
    (directory / "table.json").write_text(dump(found, about), encoding="utf-8")


def positive(text: str) -> int:
    """Return how often each fault is to happen; raises ValueError unless that is at least once."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    root = argparse.ArgumentParser(prog="python -m lab.table", description=__doc__)
    root.add_argument(
        "--rows", default="", help="names, separated by commas: host_lost,drill:*; else all"
    )
    root.add_argument("--runs", type=positive, default=1, help="how often each happens (1)")
    root.add_argument("--rto", default="normal", help="profile, cluster_rto (normal)")
    root.add_argument("--mode", default="quorum", help="synchronous_mode (quorum)")
    root.add_argument("--as-it-is", action="store_true", help="break what runs, deploy nothing")
    root.add_argument("--into", default=str(EVIDENCE), help="where the table is left")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table; return the exit code."""
    options = parser().parse_args(argv)
    try:
        chosen = choose(options.rows)
        environment = Settings.from_environment()
        lab = Lab(Settings(**{**vars(environment), "data_disk": True}))
        if not options.as_it_is:
            lab.up()
            lab.progress.line("site.yml", f"cluster_rto {options.rto}")
            deploy({"cluster_rto": options.rto})
        costs = run(lab, chosen, options)
    except LabError as error:
        sys.stderr.write(f"faults: {error}\n")
        return 2
    found = tallies(costs)
    sys.stdout.write(f"\n{render(found)}\n{added(found)}\n")
    complete = len(costs) == len(chosen) * options.runs
    return 0 if complete and not any(cost.problems for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
