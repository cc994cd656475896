# SPDX-License-Identifier: GPL-3.0-or-later
"""One playbook at a time changes the cluster."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.action.etcd_lock import token_of
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import EtcdStore
from ansible_collections.pgherd.cluster.plugins.module_utils._lock import Holder
from ansible_collections.pgherd.cluster.plugins.modules.etcd_lock import converge

from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.playbook import SITE, play, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)

KEY = f"/service/{CLUSTER_NAME}/playbook_lock"
SECONDS = 300
ELSEWHERE = Holder("ann@desk", "desk", 9, "pgherd.cluster.site", time.time(), "desk 9 1")


@pytest.fixture
def store(bench: Bench) -> Iterator[EtcdStore]:
    """The lab's etcd, without a lock before and after."""
    hosts = (bench.lab.settings.address(name) for name in MEMBERS)
    found = EtcdStore([f"http://{address}:2379" for address in hosts])
    hold(found, ELSEWHERE, "broken")
    yield found
    hold(found, ELSEWHERE, "broken")


def hold(store: EtcdStore, who: Holder, state: str = "present") -> str:
    """Have *who* take the lock, or bring it to *state*; return what was done."""
    params = {"key": KEY, "state": state, "dead_token": "", "ttl_seconds": SECONDS}
    return str(converge(store, params, who, check=False)[0])


def test_a_second_playbook_is_told_who_works_on_the_cluster(bench: Bench, store: EtcdStore) -> None:
    hold(store, ELSEWHERE)
    change = {"config_changes": {"maximum_lag_on_failover": 1}}
    refused = play("pause"), play("config_apply", **change), run(SITE, timeout_seconds=300)
    for outcome in refused:
        assert outcome.code != 0
        assert sum(outcome.changed.values()) == 0, outcome.output
        assert "ann@desk runs pgherd.cluster.site (process 9) since " in outcome.output
        assert f"pgherd.cluster.unlock -e unlock_confirm={CLUSTER_NAME}" in outcome.output
    assert "pause" not in bench.shown(bench.leader)
    assert bench.stored()["maximum_lag_on_failover"] != 1
    looked = play("pause", "--check")
    assert looked.code == 0, looked.output
    assert "ann@desk" in looked.output
    assert "Somebody works on it: ann@desk" in play("status").output


def test_a_lock_is_broken_when_that_is_meant(store: EtcdStore) -> None:
    hold(store, ELSEWHERE)
    unmeant = play("unlock")
    assert unmeant.code != 0
    assert f"say -e unlock_confirm={CLUSTER_NAME}" in unmeant.output
    assert store.get(KEY) is not None
    meant = play("unlock", unlock_confirm=CLUSTER_NAME)
    assert sum(meant.changed.values()) == 1, meant.output
    assert store.get(KEY) is None
    assert "Nobody holds the lock." in play("unlock").output


def test_who_is_gone_holds_nobody_up(store: EtcdStore) -> None:
    """A run on this controller that was killed; while it lives it is respected."""
    with subprocess.Popen(["sleep", "300"]) as alive:
        mine = Holder("bob@here", "here", alive.pid, "site", time.time(), token_of(alive.pid))
        hold(store, mine)
        assert play("resume").code != 0
        alive.kill()
    outcome = play("resume")
    assert outcome.code == 0, outcome.output
    assert "Took over what a process left that is gone" in outcome.output
    assert store.get(KEY) is None


def test_a_playbook_that_fails_gives_the_lock_back(store: EtcdStore) -> None:
    refused = play("switchover", switchover_candidate="pg9")
    assert refused.code != 0
    assert "pg9 is no member of the cluster" in refused.output
    assert store.get(KEY) is None
