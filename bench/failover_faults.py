# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that pgherd and Patroni meet alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lab.rows import find
from lab.stage import Fault, FaultError

if TYPE_CHECKING:
    from lab.stage import Stage


def switchover(stage: Stage) -> None:
    """Hand the lead over to a standby by name, by the REST API that both have."""
    body = {"leader": stage.primary, "candidate": stage.standbys[0]}
    try:
        status, text = stage.cluster.ask(stage.primary, "POST", "/switchover", body)
    except OSError as error:
        raise FaultError(f"the switchover was not answered: {error}") from error
    if status != 200:
        raise FaultError(f"the switchover was refused: {status} {text.strip()}")
    stage.await_leader_other_than(stage.primary)
    stage.await_commits()


# What lasts does so for long enough that Patroni's default lease of 30 s ends, and another leads.
FAULTS: Final = {
    "host lost": find("host_lost"),
    "postmaster killed": find("postmaster_killed"),
    "agent frozen 60 s": find("agent_frozen", seconds=60),
    "cut off 40 s": find("cut_from_peers_and_etcd", seconds=40),
    "switchover": Fault("switchover", switchover),
}
