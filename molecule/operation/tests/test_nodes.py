# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is taken out of the cluster for good, alive or lost, and added again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import EtcdClient

from lab.cluster import INVENTORY, MEMBERS
from lab.playbook import SITE, changes, other_groups, play, run
from lab.wait import until

if TYPE_CHECKING:
    from pathlib import Path

    from lab.playbook import Outcome
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(1800)

UNITS = ("etcd", "pgherd-guard", "pgherd", "pgbouncer-rw", "pgbouncer-ro", "haproxy", "keepalived")
WITHIN = 120.0


def remove(node: str, *options: str, **variables: object) -> Outcome:
    """Run remove_node, confirmed, over *node* and return what came of it."""
    return play("remove_node", *options, **{"node": node, "remove_confirm": node, **variables})


def site(inventory: Path = INVENTORY) -> int:
    """Run site.yml over *inventory*; return how many tasks changed something."""
    return changes(run(SITE, inventory=inventory))


def refusal(outcome: Outcome) -> str:
    """Return what a playbook said that was refused before it changed anything."""
    assert outcome.code != 0, outcome.output
    assert sum(outcome.changed.values()) == 0, outcome.output
    return " ".join(outcome.output.split())


def etcd_names(bench: Bench, host: str) -> list[str]:
    """Return the names of etcd's members as that of *host* has them."""
    url = f"http://{bench.lab.settings.address(host)}:2379"
    return sorted(member.name for member in EtcdClient(url).members())


def slots(bench: Bench, host: str) -> set[str]:
    """Return the names of *host*'s replication slots."""
    rows = bench.cluster.query(host, "SELECT slot_name FROM pg_replication_slots")
    return {row[0] for row in rows}


def assert_left(bench: Bench, node: str) -> None:
    """Assert that nothing of the cluster counts on *node* any more."""
    others = sorted(set(MEMBERS) - {node})
    rows = bench.cluster.members(ask=tuple(others))
    assert sorted(row.name for row in rows) == others
    assert sum(row.leads for row in rows) == 1
    assert all(etcd_names(bench, host) == others for host in others)
    until(
        lambda: all(node not in slots(bench, host) for host in others),
        WITHIN,
        "No slot for who has left",
    )


def assert_forgotten(bench: Bench, node: str) -> None:
    """Assert that the other hosts' balancers and servers know nothing of *node*."""
    address = bench.lab.settings.address(node)
    for host in sorted(set(MEMBERS) - {node}):
        assert address not in bench.shell(host, "cat /etc/haproxy/haproxy.cfg")
        rows = bench.cluster.query(host, "SELECT address FROM pg_hba_file_rules")
        assert address not in {row[0] for row in rows}


def pair(bench: Bench, node: str, path: Path) -> Path:
    """Write to *path* the lab's inventory without *node*; return *path*."""
    others = sorted(set(MEMBERS) - {node})
    return other_groups(
        bench.lab.settings, path, dict.fromkeys(("etcd", "postgres", "balancer"), others)
    )


def test_what_the_cluster_cannot_spare_is_refused(bench: Bench) -> None:
    node = bench.standbys[0]
    assert "one of pg1, pg2, pg3" in refusal(remove("pg9"))
    assert "say -e node=NAME" in refusal(remove(node, remove_confirm="yes"))
    setting = {"synchronous_node_count": 2}
    assert bench.cluster.ask(bench.leader, "PATCH", "/config", setting)[0] == 200
    try:
        said = refusal(remove(node))
        assert "commits wait for 2 of the standbys" in said
        assert "add a host first" in said
    finally:
        setting = {"synchronous_node_count": 1}
        assert bench.cluster.ask(bench.leader, "PATCH", "/config", setting)[0] == 200
    bench.await_whole()


@pytest.mark.thorough
def test_the_leaders_host_is_removed_and_added_again_with_its_data(
    bench: Bench, tmp_path: Path
) -> None:
    node = bench.leader
    assert changes(remove(node, "--check")) > 0
    assert bench.leader == node
    with bench.writing("remove_node.yml") as written:
        gone = remove(node)
        assert changes(gone) > 0
        assert "take it out of the inventory" in " ".join(gone.output.split())
        assert_left(bench, node)
        for verb, state in (("is-active", "inactive"), ("is-enabled", "disabled")):
            words = ["systemctl", verb, *UNITS]
            assert set(bench.lab.exec(node, words, check=False)[1].split()) == {state}
        assert changes(remove(node)) == 0
        two = pair(bench, node, tmp_path / "two.yml")
        assert site(two) > 0
        assert site(two) == 0
        assert_left(bench, node)
        assert_forgotten(bench, node)
        assert site() > 0
        bench.await_whole()
    assert written.acknowledged > 0
    assert written.lost == 0
    assert etcd_names(bench, node) == list(MEMBERS)


def test_a_lost_host_is_removed_and_comes_back_through_site(bench: Bench) -> None:
    node = bench.standbys[-1]
    data = bench.data_directory(node)
    bench.lab.kill(node)
    try:
        gone = remove(node)
        assert changes(gone) > 0
        assert "nothing could be stopped there" in " ".join(gone.output.split())
        assert_left(bench, node)
    finally:
        bench.lab.start(node)
    # As it is, it finds the cluster and joins again; what Ansible cannot stop there is not removed.
    bench.until(lambda: node in [row.name for row in bench.cluster.members()])
    assert "Ansible does not reach its host" in refusal(remove(node, "--limit", f"!{node}"))
    erased = remove(node, remove_data=True)
    assert changes(erased) > 0
    assert "Its data are kept" not in erased.output
    assert bench.lab.exec(node, ["test", "-e", data], check=False)[0] == 1
    assert_left(bench, node)
    assert site() > 0
    bench.await_whole()
    assert etcd_names(bench, node) == list(MEMBERS)
