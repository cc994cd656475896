# SPDX-License-Identifier: GPL-3.0-or-later
"""Each drill finds whom to break, or says why it cannot."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.drill import (
    drill_etcd,
    drill_member,
    drill_names,
    drill_target,
    drill_texts,
    drill_wall,
)

SEEN: dict[str, Any] = {
    "leader": "pg2",
    "members": ["pg1", "pg2", "pg3"],
    "balancers": ["pg3", "pg1"],
    "etcd": {
        "pg1": {"member_id": "1", "leader": "3"},
        "pg2": {"member_id": "2", "leader": "3"},
        "pg3": {"member_id": "3", "leader": "3"},
    },
    "wanted": "",
}


def test_names_are_one_or_all() -> None:
    assert drill_names("disk_full", ["switchover"]) == ["disk_full"]
    assert drill_names("all", ["switchover", "host_stop"]) == ["switchover", "host_stop"]
    for name, every in (("host", ["switchover"]), ("all", ["host"])):
        with pytest.raises(AnsibleFilterError, match="there is no `host`"):
            drill_names(name, every)


@pytest.mark.parametrize(
    ("name", "wanted", "target"),
    [
        ("host_stop", "", "pg2"),
        ("host_stop", "pg1", "pg1"),
        ("balancer_loss", "", "pg3"),
        ("etcd_leader_loss", "", "pg3"),
        ("etcd_member_loss", "", "pg1"),
        ("etcd_member_loss", "pg2", "pg2"),
    ],
)
def test_whom_it_breaks(name: str, wanted: str, target: str) -> None:
    assert drill_target(name, {**SEEN, "wanted": wanted}) == target


@pytest.mark.parametrize(
    ("name", "changed", "says"),
    [
        ("host_stop", {"wanted": "ops1"}, "drill_target: ops1 cannot.*choose of pg1, pg2, pg3"),
        ("etcd_leader_loss", {"wanted": "pg1"}, "choose of pg3"),
        ("etcd_leader_loss", {"etcd": {}}, "has nobody to break here: no etcd_leader was found"),
        ("balancer_loss", {"balancers": []}, "no balancer was found"),
    ],
)
def test_whom_it_cannot_break(name: str, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(AnsibleFilterError, match=says):
        drill_target(name, {**SEEN, **changed})


def test_what_hosts_say_is_read() -> None:
    answer = {"header": {"member_id": "7"}, "leader": 8}
    assert drill_etcd(answer) == {"member_id": "7", "leader": "8"}
    assert drill_etcd({}) == {"member_id": "", "leader": ""}
    member = drill_member("pg1", {"pg1": "10.0.0.1"}, 5432, {"pg1": "http://10.0.0.1:8008"})
    assert member == {"host": "10.0.0.1", "port": 5432, "agent": "http://10.0.0.1:8008/patroni"}
    moment = datetime(2026, 1, 2, 3, 4, 5, 600000)
    assert drill_wall("2026-01-02 03:04:05.600000") == moment.timestamp()
    assert "power" in drill_texts(None)["host_stop"]
