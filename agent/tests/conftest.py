# SPDX-License-Identifier: GPL-3.0-or-later
"""What several test files share: one real etcd cluster for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from agent.tests import etcd_processes
from agent.tests.stage import Stage
from pgherd.etcd import Etcd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.tests.etcd_processes import EtcdMember


@pytest.fixture(scope="session")
def etcd_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EtcdMember]]:
    """Three etcd processes; where there is no etcd the tests fail and say what to install."""
    if etcd_processes.PROGRAM is None:
        pytest.fail(etcd_processes.MISSING, pytrace=False)
    members = etcd_processes.start(tmp_path_factory.mktemp("etcd"))
    try:
        etcd_processes.run_until_healthy(members)
        yield members
    finally:
        etcd_processes.stop(members)


@pytest_asyncio.fixture
async def real_etcd(etcd_members: list[EtcdMember]) -> AsyncIterator[Etcd]:
    """A client of the real cluster, which is healthy and empty."""
    await etcd_processes.wait_until_healthy(etcd_members)
    client = Etcd([member.endpoint for member in etcd_members], timeout=5, hedge_delay=1)
    await etcd_processes.delete_all(client)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A member of a cluster about which nothing is known yet."""
    return Stage(tmp_path)
