# SPDX-License-Identifier: GPL-3.0-or-later
"""What a decision can ask for; `loop` carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgherd.handover import Handover
    from pgherd.model import Member, SyncKey
    from pgherd.rolling import Step


@dataclass(frozen=True)
class Bootstrap:
    """Win the initialize key, run initdb, become the first primary."""


@dataclass(frozen=True)
class Clone:
    """Copy the data directory from *source* and start as its standby.

    :param source: None when there is nobody to copy, but a backup.
    """

    source: Member | None


@dataclass(frozen=True)
class StartPrimary:
    """Start the crashed instance again as the primary it was, on the same timeline.

    :param names: `synchronous_standby_names` to start with.
    """

    names: str = ""


@dataclass(frozen=True)
class StartStandby:
    """Start in recovery.

    :param upstream: whom it streams from already while it starts, None for nobody yet.
    """

    upstream: Member | None = None


@dataclass(frozen=True)
class Rejoin:
    """Bring the data directory onto *leader*'s history (rewind, else clone) and start it."""

    leader: Member


@dataclass(frozen=True)
class Follow:
    """Have the running standby stream from *leader*, or from whom else it should."""

    leader: Member


@dataclass(frozen=True)
class TakeKey:
    """Create the leader key, if nobody has created it and `/sync` is what we judged by.

    :param sync: what `/sync` becomes in the same transaction; None leaves it as it is.
    """

    sync: SyncKey | None = None


@dataclass(frozen=True)
class ReleaseKey:
    """Delete the leader key we hold, and let the others elect without us for a while."""


@dataclass(frozen=True)
class Promote:
    """Promote the running standby.

    :param names: `synchronous_standby_names` from its first commit on.
    :param timeline: the number its timeline gets at least; 0 for the next one it knows of.
    """

    names: str = ""
    timeline: int = 0


@dataclass(frozen=True)
class StopReceiving:
    """Stream from nobody: what this standby has is what it votes with."""


@dataclass(frozen=True)
class WriteSync:
    """Write `/sync` as leader; None deletes it."""

    sync: SyncKey | None


@dataclass(frozen=True)
class SetSyncNames:
    """Have commits wait for other standbys."""

    names: str


@dataclass(frozen=True)
class Lead:
    """Do a leader's upkeep: status, history, configuration, slots."""


@dataclass(frozen=True)
class KeepSlots:
    """Do a standby's upkeep: slots that do not hold back WAL nobody needs."""


@dataclass(frozen=True)
class HandOver:
    """Stop the primary in good order and leave the lead to *heir*, which has all its WAL then."""

    request: Handover
    heir: Member


@dataclass(frozen=True)
class EndHandover:
    """Clear the request and write down what came of it.

    :param state: ``done``, ``failed`` or ``cancelled``.
    :param result: one sentence.
    """

    request: Handover
    state: str
    result: str


@dataclass(frozen=True)
class Demote:
    """Stop the primary at once; the next view decides how it comes back."""


@dataclass(frozen=True)
class RestartPrimary:
    """Stop the primary in good order and start it again as what it was; the key stays.

    :param names: `synchronous_standby_names` to start with.
    """

    names: str = ""


@dataclass(frozen=True)
class RestartStandby:
    """Stop the standby in good order and start it again.

    :param upstream: whom it streams from; None for nobody.
    """

    upstream: Member | None


@dataclass(frozen=True)
class ClearData:
    """Stop PostgreSQL and put its data out of the way, so that a new copy takes its place.

    :param leader: must answer first.
    """

    leader: Member


@dataclass(frozen=True)
class BeginRestart:
    """Take a restart for one that is asked for now."""


@dataclass(frozen=True)
class MoveRoll:
    """Write down how a rolling restart goes on."""

    step: Step


@dataclass(frozen=True)
class BeginScheduledRestart:
    """Take the scheduled restart for one that is asked for now."""


@dataclass(frozen=True)
class DropScheduledRestart:
    """Forget the scheduled restart.

    :param why: for the log.
    """

    why: str


@dataclass(frozen=True)
class Retire:
    """Stop the primary in fast mode: all its WAL goes to its standbys and the archive first."""


@dataclass(frozen=True)
class FinishStop:
    """Stop in fast mode what somebody else has told to stop, and what waits for its clients."""


@dataclass(frozen=True)
class StopAndLeave:
    """Stop PostgreSQL, give the key away, end the agent."""


@dataclass(frozen=True)
class Refuse:
    """End the agent without touching the data directory, with a reason for a human."""

    found: str
    expected: str


Action = (
    Bootstrap | Clone | StartPrimary | StartStandby | Rejoin | Follow | TakeKey | ReleaseKey
    | Promote | Lead | KeepSlots | Demote | StopAndLeave | Refuse
    | StopReceiving | WriteSync | SetSyncNames | HandOver | EndHandover
    | RestartPrimary | RestartStandby | BeginScheduledRestart | DropScheduledRestart | ClearData
    | BeginRestart | MoveRoll
    | Retire | FinishStop
)  # fmt: skip
