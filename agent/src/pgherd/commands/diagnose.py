# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd doctor`: all there is to look at, side by side, and what to do about it."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from pgherd.commands import examine_cluster, examine_host, examine_slots
from pgherd.commands.drawing import Cell, has_boxes
from pgherd.commands.findings import Finding, Level
from pgherd.commands.patient import Patient
from pgherd.commands.session import session_command
from pgherd.errors import ConfigError, PgherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pgherd.commands.session import Session

CHECKS: Final[tuple[Callable[[Patient], Iterator[Finding]], ...]] = (
    examine_host.services,
    examine_cluster.leadership,
    examine_cluster.replication,
    examine_slots.slots,
    examine_slots.failover_slots,
    examine_cluster.peers,
    examine_cluster.etcd,
    examine_host.disk,
    examine_host.watchdog,
    examine_host.synchronised,
    examine_host.certificates,
)
MARKS: Final = {
    Level.GOOD: ("✔", "ok", "green"),
    Level.HINT: ("·", "hint", "cyan"),
    Level.WARNING: ("!", "warning", "yellow"),
    Level.PROBLEM: ("✘", "problem", "red"),
}


def examine(session: Session) -> list[Finding]:
    """Look at everything; a configuration that cannot be used ends it early.

    :raises PgherdError: this is no host of a cluster.
    """
    with contextlib.suppress(ConfigError):
        _ = session.config
    found = list(examine_host.configuration(session.path))
    if any(each.level is Level.PROBLEM for each in found):
        return found
    patient = Patient(session)
    patient.look()
    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        for findings in pool.map(lambda check: list(check(patient)), CHECKS):
            found += findings
    return found


def drawn(findings: Iterable[Finding], *, quiet: bool) -> str:
    """Return the findings as lines, those of one area together."""
    known = [each for each in findings if not (quiet and each.level is Level.GOOD)]
    areas = list(dict.fromkeys(each.area for each in known))
    width = max([len(area) for area in areas], default=0)
    lines = []
    for area in areas:
        for each in (one for one in known if one.area == area):
            mark, word, colour = MARKS[each.level]
            sign = mark if has_boxes() else word.ljust(7)
            lines.append(f"{Cell(sign, colour).drawn()} {area.ljust(width)}  {each.text}")
            if each.remedy:
                indent = " " * (len(sign) + 1 + width + 2)
                arrow = "→" if has_boxes() else "->"
                lines.append(f"{indent}{Cell(f'{arrow} {each.remedy}', bold=True).drawn()}")
    return "\n".join(lines)


@click.command("doctor")
@session_command()
@click.option("-q", "--quiet", is_flag=True, help="Only what is not well.")
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings too.")
def doctor_command(session: Session, *, quiet: bool, strict: bool) -> None:
    """Examine this host and say what to do.

    It looks at the agent and its guard, the cluster, replication, slots, the other members, etcd,
    the disk, the watchdog, clocks, certificates and the configuration. It changes nothing. Exit
    code 1 when there is a problem. Run it as root or as a member of the group postgres.
    """
    findings = examine(session)
    counts = {level: sum(1 for each in findings if each.level is level) for level in Level}
    bad = counts[Level.PROBLEM] or (strict and counts[Level.WARNING])
    if session.as_json:
        rows = [{**asdict(each), "level": each.level.value} for each in findings]
        session.answer({"ok": not bad, "findings": rows})
    else:
        click.echo(drawn(findings, quiet=quiet))
    told = [
        f"{count} {level.value}{'s' if count != 1 else ''}"
        for level, count in counts.items()
        if count and level is not Level.GOOD
    ]
    if bad:
        raise PgherdError(", ".join(told))
    session.tell(f"\n{', '.join(told) or 'nothing'} found besides what is well")
