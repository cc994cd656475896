# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the lead that somebody asks for, with clients writing: alone, and with a fault."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, Final

from lab import processes
from lab.errors import LabError
from lab.stage import Fault, FaultError, await_synchronous
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.stage import Stage

# More than a handover may take with all that can hold it up.
ANSWER_SECONDS: Final = 60


def ask(stage: Stage, *options: str, host: str = "") -> str:
    """Ask for a switchover on *host*, the primary if not given, and return the answer.

    Raises LabError when it is refused or fails.
    """
    command = ["timeout", str(ANSWER_SECONDS), "pgherd", "switchover", "--force", *options]
    return stage.lab.exec(host or stage.primary, command)[1].strip()


def switchover(stage: Stage) -> None:
    """Hand the lead over, to whoever is best."""
    stage.lab.progress.line(stage.primary, ask(stage))
    stage.await_leader_other_than(stage.primary)
    stage.await_commits()


def switchover_to_and_fro(stage: Stage) -> None:
    """Hand the lead over to a standby by name, and back as soon as that can be."""
    primary, [heir, *_] = stage.primary, stage.standbys
    for leader, candidate in ((primary, heir), (heir, primary)):
        stage.lab.progress.line(leader, ask(stage, "--candidate", candidate, host=leader))
        stage.await_healthy()
        stage.await_commits()
        await_synchronous(stage.cluster, stage.store)


def switchover_walsender_frozen(stage: Stage) -> None:
    """Freeze the connection to one standby and hand over to the other."""
    frozen, heir = stage.standbys
    sql = f"SELECT pid FROM pg_stat_replication WHERE application_name = '{frozen}'"
    [(pid,)] = stage.cluster.query(stage.primary, sql)
    stage.lab.exec(stage.primary, ["kill", "-STOP", pid])
    stage.lab.progress.line(stage.primary, f"walsender to {frozen} frozen")
    try:
        stage.lab.progress.line(stage.primary, ask(stage, "--candidate", heir))
    except LabError as error:
        # What matters is that writes go on, under whomever.
        stage.lab.progress.line(stage.primary, str(error))
    stage.await_commits()


def switchover_heir_lost(stage: Stage) -> None:
    """Take the candidate's power away while the lead is being handed over to it."""
    _lose_while_handing_over(stage, stage.standbys[0])


def switchover_leader_lost(stage: Stage) -> None:
    """Take the leader's power away while it is handing over."""
    _lose_while_handing_over(stage, stage.primary)


def _lose_while_handing_over(stage: Stage, lost: str) -> None:
    with _handing_over(stage) as witness:
        stage.lab.kill(lost)
    stage.await_commits()
    stage.lab.start(lost)
    if any(entry["state"] == "running" for entry in operations(stage, witness)):
        raise FaultError("what came of the switchover is not known")


@contextlib.contextmanager
def _handing_over(stage: Stage) -> Iterator[str]:
    """Have the lead handed over, and do what is asked meanwhile; yields who is not part of it."""
    [heir, witness] = stage.standbys
    known = {entry["id"] for entry in operations(stage, witness)}
    asking = threading.Thread(target=_ask_and_tell, args=(stage, heir, witness))
    asking.start()
    try:
        _await_beginning(stage, witness, known)
        yield witness
    finally:
        asking.join()


def _ask_and_tell(stage: Stage, heir: str, host: str) -> None:
    try:
        answer = ask(stage, "--candidate", heir, host=host)
    except LabError as error:
        answer = str(error)
    stage.lab.progress.line(host, answer)


def _await_beginning(stage: Stage, host: str, known: set[str]) -> None:
    """Return as soon as *host* tells of an operation that is not *known*; raises LabError."""
    until(
        lambda: {entry["id"] for entry in operations(stage, host)} - known,
        ANSWER_SECONDS,
        "The request for a switchover came to be",
        every=0.005,
    )


def operations(stage: Stage, host: str) -> list[dict[str, Any]]:
    """Return what *host* tells of the operations that were asked for."""
    _, body = stage.cluster.rest(host, "/operations")
    found = json.loads(body)
    return found if isinstance(found, list) else []


def switchover_postgres_killed(stage: Stage) -> None:
    """Kill the leader's postmaster while the lead is being handed over."""
    with _handing_over(stage):
        try:
            processes.signal(stage.lab, stage.primary, processes.POSTMASTER, "KILL")
        except LabError:
            stage.lab.progress.line(stage.primary, "PostgreSQL had ended in good order before")
    stage.await_commits()


ROWS: Final = (
    Fault("switchover", switchover),
    Fault("switchover_to_and_fro", switchover_to_and_fro),
    Fault("switchover_walsender_frozen", switchover_walsender_frozen),
    Fault("switchover_heir_lost", switchover_heir_lost),
    Fault("switchover_leader_lost", switchover_leader_lost),
    Fault("switchover_postgres_killed", switchover_postgres_killed),
)
