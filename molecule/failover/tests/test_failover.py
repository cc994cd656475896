# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary's host is lost while a client writes: who takes over, what is lost, who returns."""

from __future__ import annotations

import sys
from typing import Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.drill import HostLoss, lose_primary
from lab.playbook import deploy
from lab.probe import Losses

# The probe goes straight to the servers: of the way in nothing has to change with the profile.
ROLES: Final = "etcd,postgresql,agent"
LEASE_SECONDS: Final = {"normal": 5, "fast": 2}


def bound(profile: str) -> float:
    """Return the seconds beyond which something is broken rather than slow on a busy machine."""
    return 10 + 4 * LEASE_SECONDS[profile]


# The profile of the lab comes last: the next scenario finds the cluster as this one did.
@pytest.fixture(scope="module", params=["fast", "normal"])
def loss(request: pytest.FixtureRequest) -> tuple[str, HostLoss]:
    """Lose the primary's host once under the profile; the profile and what the loss cost."""
    profile = request.param
    lab = Lab(Settings.from_environment())
    deploy({"cluster_rto": profile}, ["--tags", ROLES])
    figures = lose_primary(lab, Cluster(lab.settings))
    sys.stdout.write("\n" + "\n".join(f"{profile}: {line}" for line in figures.lines()) + "\n")
    return profile, figures


# The fixture deploys, breaks and heals; the tests only look at what came of it.
pytestmark = pytest.mark.timeout(900)


def test_another_host_takes_over_on_a_new_timeline(loss: tuple[str, HostLoss]) -> None:
    _, figures = loss
    assert figures.elected in set(MEMBERS) - {figures.lost}
    assert figures.timeline_after == figures.timeline_before + 1


def test_writes_go_on_within_a_generous_bound(loss: tuple[str, HostLoss]) -> None:
    profile, figures = loss
    assert figures.outage_seconds < bound(profile)
    assert figures.follow_seconds < bound(profile)


def test_every_acknowledged_row_is_there(loss: tuple[str, HostLoss]) -> None:
    _, figures = loss
    assert figures.acknowledged > 0
    assert figures.losses == Losses(tail=(), unexplained=())


def test_old_host_rejoined_with_the_same_rows(loss: tuple[str, HostLoss]) -> None:
    _, figures = loss
    assert set(figures.rows_after_rejoin) == set(MEMBERS)
    assert len(set(figures.rows_after_rejoin.values())) == 1
    assert min(figures.rows_after_rejoin.values()) >= figures.acknowledged
