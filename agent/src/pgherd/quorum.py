# SPDX-License-Identifier: GPL-3.0-or-later
"""Arithmetic of acknowledgement: who must have a commit, and who may lead without losing it.

Two rules are in force at any time. PostgreSQL acknowledges a commit when the leader L and at least
*count* of the *standbys* S have flushed it. The cluster elects a candidate only when at least
*quorum* + 1 of the *voters* V and L have answered with no more WAL than it has.

Theorem. If |V u S| <= quorum + count, every elected leader has every acknowledged commit.
Proof. Both groups, the quorum + 1 that were asked and the count + 1 that have the commit, lie in
V u S u {L}, which has at most quorum + count + 1 members. Together they are quorum + count + 2, so
they share one (pigeonhole); that one has the commit, and the candidate has all that it has. []

The two rules live in two places, `synchronous_standby_names` and the key `/sync`, and cannot change
together. `next_step` changes one of them at a time and never breaks the inequality. Commits of the
past count too: they were acknowledged under the setting of their time. A setting is *settled* when
*count* of its standbys have flushed the position the leader had reached when it came into force;
from then on every commit lies on *count* + 1 nodes of it. Until then the electorate may only become
more demanding (`is_safer`), which needs no knowledge of the past.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Patroni's stand-in (its release after 4.1): a standby that cannot be there, so commits wait.
NOBODY: Final = "__patroni_strict_sync_replica_placeholder__"
_NAMES: Final = re.compile(r"\s*(?:(ANY|FIRST)\s+)?(\d+)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Acknowledging:
    """PostgreSQL's side: *count* of *standbys* must have flushed a commit, beside the leader."""

    count: int = 0
    standbys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Electing:
    """etcd's side: a leader needs *quorum* + 1 answers out of *voters* and the leader before."""

    voters: frozenset[str] = frozenset()
    quorum: int = 0

    @property
    def fitting(self) -> Acknowledging:
        """The weakest setting that this electorate allows: as few acknowledgements as hold."""
        count = max(0, len(self.voters) - self.quorum)
        return Acknowledging(count, self.voters if count else frozenset())


Step = Acknowledging | Electing


def holds(electing: Electing, acknowledging: Acknowledging) -> bool:
    """Tell whether the theorem's inequality holds."""
    names = electing.voters | acknowledging.standbys
    return len(names) <= electing.quorum + acknowledging.count


def is_safer(new: Electing, old: Electing) -> bool:
    """Tell whether *new* elects nobody whom *old* would not, whatever was acknowledged before.

    Nobody but the leader itself is always safe: it has every commit. Otherwise every group that
    satisfies *new* must contain one that satisfies *old*: none of the old voters leaves, and each
    new one raises the quorum by one.
    """
    if not new.voters and new.quorum == 0:
        return True
    added = len(new.voters - old.voters)
    return old.voters <= new.voters and new.quorum >= old.quorum + added


def next_step(
    have: tuple[Acknowledging, Electing],
    want: tuple[Acknowledging, Electing],
    *,
    settled: bool,
) -> Step | None:
    """Return the next single change on the way from *have* to *want*; None when there is none now.

    :param settled: whether the setting PostgreSQL has now is settled (see the module).
    """
    acknowledging, electing = have
    to_acknowledging, to_electing = want
    allowed = settled or is_safer(to_electing, electing)
    if electing != to_electing and allowed and holds(to_electing, acknowledging):
        return to_electing
    if acknowledging == to_acknowledging:
        return None  # What is left waits for the setting to settle.
    if holds(electing, to_acknowledging):
        return to_acknowledging
    return _between(acknowledging, electing, to_acknowledging)


def _between(have: Acknowledging, electing: Electing, want: Acknowledging) -> Electing:
    """Return an electorate that is safer than *electing* and fits both settings."""
    voters = electing.voters | have.standbys | want.standbys
    added = len(voters - electing.voters)
    quorum = max(electing.quorum + added, len(voters) - min(have.count, want.count))
    return Electing(voters, quorum)


def succeed(electing: Electing, former: str, winner: str) -> tuple[Acknowledging, Electing]:
    """Return both rules as they must be when *winner* takes over from *former*.

    As many standbys as before must acknowledge. Every commit of the past is on the winner and on
    the groups that acknowledged it, so a quorum not below the former one still meets them.
    """
    voters = (electing.voters | {former}) - {winner}
    succeeded = Electing(voters, len(voters) - electing.fitting.count)
    return succeeded.fitting, succeeded


def parse_names(setting: str) -> Acknowledging:
    """Read a value of `synchronous_standby_names`, as we or Patroni write it."""
    match = _NAMES.fullmatch(setting)
    if match:
        count, names = int(match[2]), _split(match[3])
    else:
        names = _split(setting)
        count = 1 if names else 0
    return Acknowledging(count, names)


def _split(names: str) -> frozenset[str]:
    parts = (name.strip() for name in names.split(","))
    return frozenset(part.strip('"').replace('""', '"') for part in parts if part)


def format_names(acknowledging: Acknowledging, *, any_of_them: bool) -> str:
    """Return the value of `synchronous_standby_names`.

    :param any_of_them: quorum commit (`ANY`); else the standbys show as `sync`, all being needed.
    """
    if acknowledging.count == 0:
        return ""
    quoted = ",".join(
        '"' + name.replace('"', '""') + '"' for name in sorted(acknowledging.standbys)
    )
    return f"{'ANY ' if any_of_them else ''}{acknowledging.count} ({quoted})"


# What a standby has for `synchronous_standby_names` until it is promoted.
NOBODY_ACKNOWLEDGES: Final = format_names(Acknowledging(1, frozenset({NOBODY})), any_of_them=True)
