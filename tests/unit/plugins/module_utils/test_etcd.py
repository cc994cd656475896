# SPDX-License-Identifier: GPL-3.0-or-later
"""What etcd says of members, endpoints and keys, as modules hand it back."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import Health, Member
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import KeyValue


def test_a_member_that_never_started_has_only_an_id_and_where_it_will_be() -> None:
    found = Member.from_json({"ID": "255", "peerURLs": ["http://pg3:2380"], "isLearner": True})
    assert found == Member("255", "", ("http://pg3:2380",), (), True)
    assert found.as_dict() == {
        "id": "ff",
        "name": "",
        "peer_urls": ["http://pg3:2380"],
        "learner": True,
    }


@pytest.mark.parametrize("status", ["healthy", "unhealthy", "silent", "refused"])
def test_one_endpoint_is_healthy_or_not(status: str) -> None:
    said = Health("http://pg1:2379", status, detail="why", version="3.5.16")
    assert said.healthy is (status == "healthy")
    handed = said.as_dict()
    assert (handed["url"], handed["status"]) == ("http://pg1:2379", status)
    assert (handed["detail"], handed["version"]) == ("why", "3.5.16")


def test_a_key_is_handed_back_with_its_revisions() -> None:
    handed = KeyValue("/a", "one", 4, 7, 12).as_dict()
    assert (handed["key"], handed["value"]) == ("/a", "one")
    assert (handed["create_revision"], handed["mod_revision"]) == (4, 7)
