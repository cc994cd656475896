# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is taken out for maintenance under a writing client, and brought back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lab.cluster import MEMBERS
from lab.playbook import changes, run
from lab.wire import Wire

if TYPE_CHECKING:
    from lab.playbook import Outcome
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)

UNITS = ("etcd", "pgherd-guard", "pgherd", "pgbouncer-rw", "pgbouncer-ro", "haproxy", "keepalived")


def play(node: str, *options: str, **variables: object) -> Outcome:
    """Run maintenance_node over *node* and return what came of it."""
    given = {"node": node, **variables}
    return run("pgherd.cluster.maintenance_node", given, options, timeout_seconds=300)


def states(bench: Bench, host: str) -> set[str]:
    """Return the states of all units of the cluster on *host*."""
    words = ["systemctl", "is-active", *UNITS]
    return set(bench.lab.exec(host, words, check=False)[1].split())


def drained(bench: Bench, balancer: str, node: str) -> bool:
    """Tell whether the HAProxy of *balancer* was told to send nobody to *node*."""
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'show servers state\\n'); print(s.makefile().read())"
    )
    text = bench.lab.exec(balancer, ["python3", "-c", code])[1]
    flags = [int(line.split()[6]) for line in text.splitlines() if f" {node} " in line]
    assert flags
    return all(each & 8 for each in flags)


def test_the_leaders_host_is_taken_out_and_brought_back(bench: Bench) -> None:
    node = bench.leader
    others = [name for name in MEMBERS if name != node]
    assert changes(play(node, "--check")) > 0
    assert bench.leader == node
    with bench.writing("maintenance_node.yml") as written:
        try:
            begun = play(node)
            assert changes(begun) > 0
            assert f"{node} may be switched off." in " ".join(begun.output.split())
            assert states(bench, node) == {"inactive"}
            assert states(bench, others[0]) == states(bench, others[1]) == {"active"}
            assert all(drained(bench, host, node) for host in others)
            assert changes(play(node)) == 0
            refused = play(others[0])
            assert refused.code != 0
            assert node in refused.output
            assert states(bench, others[0]) == {"active"}
        finally:
            back = play(node, maintenance_state="end")
        bench.await_whole()
    assert written.acknowledged > 0
    assert written.lost == 0
    assert changes(back) > 0
    assert f"{node} is back." in back.output
    assert states(bench, node) == {"active"}
    assert not any(drained(bench, host, node) for host in others)
    assert changes(play(node, maintenance_state="end")) == 0


def test_queries_of_clients_may_finish_first(bench: Bench) -> None:
    node = bench.standbys[0]
    rows: list[object] = []

    def work() -> None:
        with Wire(bench.cluster.target(node), 60) as wire:
            rows.extend(wire.query("SELECT 1 FROM pg_sleep(25)"))

    slow = threading.Thread(target=work)
    slow.start()
    try:
        assert changes(play(node, maintenance_etcd=False)) > 0
        slow.join()
        assert len(rows) == 1
        assert "etcd runs there on" in play(node, maintenance_etcd=False).output
    finally:
        slow.join()
        play(node, maintenance_state="end")
    bench.await_whole()


def test_what_is_no_host_of_the_cluster_is_refused(bench: Bench) -> None:
    assert bench.leader
    outcome = play("pg9")
    assert outcome.code != 0
    assert "one of pg1, pg2, pg3" in " ".join(outcome.output.split())
