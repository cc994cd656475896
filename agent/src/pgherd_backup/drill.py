# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore drill: the newest backup is restored, started and examined, and the copy removed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgherd_backup import programs, scratch
from pgherd_backup.errors import BackupError
from pgherd_backup.pgbackrest import moment
from pgherd_backup.planning import usable
from pgherd_backup.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgherd_backup.instance import Instance
    from pgherd_backup.plan import Plan
    from pgherd_backup.settings import Settings

NAME: Final = "drill"
PASSED: Final = "passed"
FAILED: Final = "failed"
CANARY: Final = """
SELECT count(*) FILTER (WHERE written < to_timestamp({started})) || ' ' ||
       COALESCE(extract(epoch FROM max(written))::text, '')
  FROM pgherd.canary"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; *text* says what was found."""

    name: str
    verdict: str
    text: str
    seconds: float


class Account:
    """Takes the checks of one drill down, in their order."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def check(self, name: str, look: Callable[[], str]) -> bool:
        """Take down what *look* returns, or raises as BackupError; tell whether it was good."""
        began = time.monotonic()
        try:
            verdict, text = PASSED, look()
        except BackupError as error:
            verdict, text = FAILED, str(error)
        self.checks.append(Check(name, verdict, text, round(time.monotonic() - began, 1)))
        programs.tell(f"{name}: {verdict}: {text.splitlines()[0] if text else ''}")
        return verdict == PASSED

    @property
    def verdict(self) -> str:
        """Whether all were good."""
        bad = not self.checks or any(check.verdict == FAILED for check in self.checks)
        return FAILED if bad else PASSED


@contextlib.contextmanager
def _cleared(settings: Settings) -> Iterator[None]:
    scratch.drop(settings, NAME)
    try:
        yield
    finally:
        scratch.drop(settings, NAME)


def drill(settings: Settings, *, fresh_seconds: float, number: int = 0) -> dict[str, Any]:
    """Do it; return the report.

    :param fresh_seconds: so much of what was written last may be missing.
    """
    began, account = time.time(), Account()
    facts: dict[str, Any] = {"backup": "", "lost_seconds": None, "size": 0, "restore_seconds": None}
    with _cleared(settings):
        found: list[Plan] = []

        def find() -> str:
            usable(settings, number)
            found.append(scratch.plan_beside(settings, NAME, Target(), number))
            return f"{found[0].backup} of {found[0].taken}, {found[0].wal} segments of WAL after it"

        if account.check("backup", find):
            facts |= {"backup": found[0].backup, "size": found[0].size}
            _examine(settings, account, found[0], facts, began, fresh_seconds)
    finished = time.time()
    return {
        "stanza": settings.stanza,
        "verdict": account.verdict,
        "started": moment(began),
        "finished": moment(finished),
        "finished_at": round(finished, 1),
        "seconds": round(finished - began, 1),
        **facts,
        "checks": [asdict(check) for check in account.checks],
    }


def _examine(
    settings: Settings,
    account: Account,
    plan: Plan,
    facts: dict[str, Any],
    began: float,
    fresh_seconds: float,
) -> None:
    server = scratch.instance(settings, NAME)

    def fill() -> str:
        scratch.fill(settings, NAME, Target(), plan)
        facts["restore_seconds"] = round(time.time() - began, 1)
        return f"restored and recovered in {facts['restore_seconds']} s; it takes connections"

    if not account.check("restore", fill):
        return
    account.check("canary", lambda: _canary(settings, server, plan, facts, began, fresh_seconds))
    account.check("indexes", lambda: _indexes(settings, server))
    if account.check("stop", lambda: _stop(server)):
        account.check("checksums", lambda: _checksums(settings, server))


def _canary(
    settings: Settings,
    server: Instance,
    plan: Plan,
    facts: dict[str, Any],
    began: float,
    fresh_seconds: float,
) -> str:
    started = _started(settings, plan)
    older, _, newest = server.query(CANARY.format(started=started)).partition(" ")
    if not newest:
        raise BackupError("the restored database has no row of pgherd.canary")
    facts["lost_seconds"] = round(max(began - float(newest), 0), 1)
    if int(older) == 0:
        raise BackupError("no row of pgherd.canary is from before the backup")
    text = (
        f"{older} rows from before the backup; the newest row is {facts['lost_seconds']} s older "
        "than the drill"
    )
    if facts["lost_seconds"] > fresh_seconds:
        raise BackupError(f"{text}: {fresh_seconds:g} s are allowed. Is WAL archived?")
    return text


def _started(settings: Settings, plan: Plan) -> int:
    for repository in usable(settings, plan.repository):
        for backup in repository.backups:
            if backup.label == plan.backup:
                return backup.started
    raise BackupError(f"the backup {plan.backup} is gone")


def _indexes(settings: Settings, server: Instance) -> str:
    program = Path(settings.bin_dir) / "pg_amcheck"
    said = programs.output_of(
        [str(program), "--host", str(server.socket_dir), "--port", str(server.port), "--all",
         "--install-missing", "--jobs", str(settings.processes)]
    )  # fmt: skip
    if said.strip():
        raise BackupError(said.strip())
    number = server.query("SELECT count(*) FROM pg_class WHERE relkind = 'i'")
    return (
        f"amcheck found nothing wrong ({number} indexes in the database postgres, and all others)"
    )


def _stop(server: Instance) -> str:
    server.query("CHECKPOINT")
    server.stop()
    return "it stops in good order"


def _checksums(settings: Settings, server: Instance) -> str:
    data = str(server.data_dir)
    control = programs.output_of([str(Path(settings.bin_dir) / "pg_controldata"), data])
    version = [line for line in control.splitlines() if line.startswith("Data page checksum")]
    if version and version[0].split()[-1] == "0":
        return "the cluster has no data checksums: there is nothing to compare"
    said = programs.output_of([str(Path(settings.bin_dir) / "pg_checksums"), "--check", "-D", data])
    pages = [line for line in said.splitlines() if line.startswith("Blocks scanned")]
    return f"every page has its checksum ({(pages or ['none counted'])[0].lower()})"
