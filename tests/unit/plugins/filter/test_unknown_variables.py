# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that look like ours and are not."""

from __future__ import annotations

from ansible_collections.pgherd.cluster.plugins.filter.unknown_variables import unknown_variables

KNOWN = ["cluster_name", "cluster_client_networks", "etcd_config", "node"]


def test_known_names_and_other_peoples_names_pass() -> None:
    names = ["cluster_name", "etcd_config", "ansible_host", "__cluster_x", "node_x"]
    assert unknown_variables(names, KNOWN) == []


def test_an_unknown_name_gets_the_nearest_right_one() -> None:
    assert unknown_variables(["cluster_client_network"], KNOWN) == [
        "there is no variable cluster_client_network (did you mean cluster_client_networks?)"
    ]


def test_a_name_near_nothing_gets_no_advice() -> None:
    assert unknown_variables(["etcd_zzzzzzzzzzzzzz"], KNOWN) == [
        "there is no variable etcd_zzzzzzzzzzzzzz"
    ]
