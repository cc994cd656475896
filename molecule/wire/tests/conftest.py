# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployed cluster, and Patroni's tools in ops1."""

from __future__ import annotations

from typing import Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.patroni_tools import Tools
from lab.stage import await_synchronous
from lab.store import Store

HEALTHY_SECONDS_MAX: Final = 90


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The hosts."""
    return Lab(Settings.from_environment())


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """The cluster that was deployed."""
    return Cluster(lab.settings)


@pytest.fixture(scope="session")
def tools(lab: Lab, cluster: Cluster) -> Tools:
    """The tools, which know of the cluster."""
    cluster.await_healthy(HEALTHY_SECONDS_MAX)
    found = Tools(lab, cluster)
    found.install()
    return found


@pytest.fixture
def leader(lab: Lab, cluster: Cluster) -> str:
    """Who leads, while the others stream and may all be elected."""
    return await_synchronous(cluster, Store(lab))


@pytest.fixture
def standbys(leader: str) -> tuple[str, ...]:
    """Who does not lead."""
    return tuple(name for name in MEMBERS if name != leader)
