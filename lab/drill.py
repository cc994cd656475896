# SPDX-License-Identifier: GPL-3.0-or-later
"""The loss of the primary's host as a client sees it, step by step: takeover, follow, rejoin."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab.cluster import MEMBERS, Member
from lab.probe import Losses, Probe, position
from lab.stage import await_synchronous
from lab.store import Store
from lab.wire import Wire

if TYPE_CHECKING:
    from lab.cluster import Cluster
    from lab.hosts import Lab

ROWS_BEFORE: Final = 100
ROWS_AFTER: Final = 200
TAKEOVER_SECONDS_MAX: Final = 120.0
REJOIN_SECONDS_MAX: Final = 180.0


@dataclass(frozen=True)
class HostLoss:
    """What the loss of a primary's host cost; times in seconds."""

    lost: str
    elected: str
    timeline_before: int
    timeline_after: int
    switch_position: str
    outage_seconds: float
    follow_seconds: float
    rejoin_seconds: float
    acknowledged: int
    unknown: int
    losses: Losses
    rows_after_rejoin: dict[str, int]

    def lines(self) -> list[str]:
        """Return the report, for people."""
        took_over = f"{self.lost} lost, {self.elected} took over"
        timelines = f"timeline {self.timeline_before} to {self.timeline_after}"
        third = f"the third node followed after {self.follow_seconds:.2f} s"
        old = f"the old host {self.rejoin_seconds:.2f} s after its start"
        beyond = f"{len(self.losses.tail)} lost beyond the switch point"
        bad = f"{len(self.losses.unexplained)} lost without excuse"
        return [
            f"without an acknowledged write: {self.outage_seconds:.2f} s",
            f"{took_over}: {timelines} at {self.switch_position}",
            f"{third}, {old}",
            f"{self.acknowledged} rows acknowledged: {beyond}, {bad}; {self.unknown} undecided",
        ]


def lose_primary(lab: Lab, cluster: Cluster) -> HostLoss:
    """Kill the primary's host under a writing client, start it again, and account for every row.

    Raises LabError when the cluster does not heal within generous bounds.
    """
    lost = await_synchronous(cluster, Store(lab))
    before = _timeline(cluster.members(), lost)
    probe = Probe(cluster.targets(), run=uuid.uuid4().hex)
    probe.start()
    try:
        probe.await_rows(ROWS_BEFORE, after=0, timeout_seconds=30)
        killed = time.monotonic()
        lab.kill(lost)
        members = cluster.await_members(
            "A new leader, followed by the third node",
            lambda now: _taken_over(now, lost, before),
            TAKEOVER_SECONDS_MAX,
        )
        followed = time.monotonic()
        probe.await_rows(ROWS_AFTER, after=killed, timeout_seconds=TAKEOVER_SECONDS_MAX)
    finally:
        probe.stop()
    elected = next(member.name for member in members if member.leads)
    switch = cluster.switch_position(elected, before)
    with Wire(cluster.target(elected), 10) as wire:
        present = probe.present(wire)
    started = time.monotonic()
    lab.start(lost, wait=False)
    cluster.await_healthy(REJOIN_SECONDS_MAX)
    rejoined = time.monotonic()
    return HostLoss(
        lost=lost,
        elected=elected,
        timeline_before=before,
        timeline_after=_timeline(members, elected),
        switch_position=switch,
        outage_seconds=probe.gap().seconds,
        follow_seconds=followed - killed,
        rejoin_seconds=rejoined - started,
        acknowledged=len(probe.acknowledged),
        unknown=len(probe.unknown),
        losses=probe.losses(present, lab.settings.address(lost), position(switch)),
        rows_after_rejoin=_rows_everywhere(cluster, probe, len(present)),
    )


def _timeline(members: list[Member], name: str) -> int:
    return next(m.timeline for m in members if m.name == name and m.timeline is not None)


def _taken_over(members: list[Member], lost: str, before: int) -> bool:
    """Whether another host than *lost* leads beyond timeline *before* and the third follows."""
    leaders = [m for m in members if m.leads and m.name != lost and (m.timeline or 0) > before]
    return len(leaders) == 1 and any(
        member.state == "streaming" and member.timeline == leaders[0].timeline
        for member in members
        if member.name not in (lost, leaders[0].name)
    )


def _rows_everywhere(cluster: Cluster, probe: Probe, expected: int) -> dict[str, int]:
    """Return how many of the probe's rows every member has, once all have *expected* of them."""
    deadline = time.monotonic() + 30
    while True:
        counts = {}
        for host in MEMBERS:
            with Wire(cluster.target(host), 10) as wire:
                counts[host] = len(probe.present(wire))
        if set(counts.values()) == {expected} or time.monotonic() > deadline:
            return counts
        time.sleep(0.2)
