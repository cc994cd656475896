# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands against a deployment, before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.preflight import (
    cluster_identifier,
    kernel_changes,
    preflight,
    stranger_warnings,
)

NAMES = ["pg1", "pg2", "pg3"]
DATA = "/var/lib/postgresql/17/demo"


def host(number: int, **facts: Any) -> dict[str, Any]:
    """Return the variables of a host with nothing against it, and *facts* over that."""
    address = f"192.0.2.{number}"
    ours = {
        "clock": {"offset_seconds": 0.0, "error_seconds": 0.2},
        "disks": {DATA: {"free_bytes": 50 * 2**30, "total_bytes": 100 * 2**30}},
        "kernel": {"vm.swappiness": {"value": "60", "writable": True}},
        "data": {"path": DATA, "system_identifier": None},
        "postmasters": [],
        "etcd": {"endpoints": {}, "foreign_keys": 0, "has_data": False},
    }
    return {
        "cluster_address": address,
        "ansible_facts": {"all_ipv4_addresses": [address], "pgherd": {**ours, **facts}},
    }


def check(
    hostvars: dict[str, Any], groups: dict[str, list[str]] | None = None, **settings: Any
) -> dict[str, list[str]]:
    """Run the filter over three hosts that are etcd and postgres, unless told otherwise."""
    wanted = {"cluster_name": "demo", "disk_free_mb": 2048, **settings}
    found: dict[str, list[str]] = preflight(
        groups or {"etcd": NAMES, "postgres": NAMES}, hostvars, wanted
    )
    return found


def world(**changed: dict[str, Any]) -> dict[str, Any]:
    """Return three good hosts with the *changed* ones in place."""
    return {name: host(place) for place, name in enumerate(NAMES, 1)} | changed


def endpoint(value: str | None = None, status: str = "answers") -> dict[str, Any]:
    """Return what one etcd endpoint said, as part of a host's facts."""
    answer = {"status": status, "detail": "no answer within 3 s", "value": value}
    return {"endpoints": {"http://192.0.2.1:2379": answer}, "foreign_keys": 0}


def test_three_good_hosts_pass_without_a_word() -> None:
    assert check(world()) == {"problems": [], "warnings": []}


def test_an_address_of_another_host_is_refused() -> None:
    odd = host(2) | {"cluster_address": "192.0.2.77"}
    assert check(world(pg2=odd))["problems"] == [
        "cluster_address: pg2 has no address 192.0.2.77; it has 192.0.2.2"
    ]


def test_a_balancer_that_is_nothing_else_has_its_own_address_too() -> None:
    groups = {"etcd": NAMES, "postgres": NAMES, "balancer": ["ops1"]}
    odd = host(21) | {"cluster_address": "192.0.2.77"}
    assert check(world(ops1=odd), groups)["problems"] == [
        "cluster_address: ops1 has no address 192.0.2.77; it has 192.0.2.21"
    ]


@pytest.mark.parametrize(
    ("offset", "error", "refused"),
    [(1.3, 0.2, False), (1.5, 0.2, True), (-1.5, 0.2, True), (3.0, 2.5, False)],
)
def test_clocks_apart_are_refused_beyond_the_error(
    offset: float, error: float, refused: bool
) -> None:
    odd = host(3, clock={"offset_seconds": offset, "error_seconds": error})
    problems = check(world(pg3=odd))["problems"]
    assert len(problems) == int(refused)
    assert all("are 1.5 s apart (measured within 0.4 s; 1 s are allowed)" in p for p in problems)


def test_a_full_disk_is_refused() -> None:
    odd = host(1, disks={DATA: {"free_bytes": 100 * 2**20, "total_bytes": 2**33}})
    problems = check(world(pg1=odd))["problems"]
    assert problems == [
        f"pg1 has 100 MB free for {DATA}, 2048 MB are wanted (cluster_disk_free_mb)"
    ]


def test_data_of_the_cluster_itself_passes() -> None:
    data = {"path": DATA, "system_identifier": "7"}
    assert check(world(pg1=host(1, data=data, etcd=endpoint("7"))))["problems"] == []


def test_data_of_another_cluster_is_refused() -> None:
    odd = host(1, data={"path": DATA, "system_identifier": "8"}, etcd=endpoint("7"))
    (problem,) = check(world(pg1=odd))["problems"]
    assert f"pg1:{DATA} holds PostgreSQL cluster 8, but demo is 7" in problem


def test_two_clusters_on_one_clusters_hosts_are_refused_before_etcd_knows_any() -> None:
    hosts = {
        name: host(place, data={"path": DATA, "system_identifier": str(place)})
        for place, name in enumerate(NAMES[:2], 1)
    }
    (problem,) = check(world(**hosts))["problems"]
    assert "the hosts of demo hold different PostgreSQL clusters" in problem


def test_a_foreign_server_on_the_port_is_refused_and_our_own_is_not() -> None:
    ours = {"data_dir": DATA, "port": 5432}
    main = {"data_dir": "/var/lib/postgresql/17/main", "port": 5432}
    aside = {"data_dir": "/var/lib/postgresql/17/aside", "port": 5433}
    assert check(world(pg1=host(1, postmasters=[ours, aside])))["problems"] == []
    (problem,) = check(world(pg1=host(1, postmasters=[main])))["problems"]
    assert "on pg1 port 5432 is taken by the PostgreSQL server of /var/lib/postgresql/17/main" in (
        problem
    )


def test_a_strangers_etcd_is_left_alone() -> None:
    odd = host(1, etcd={"endpoints": {}, "foreign_keys": 12})
    (problem,) = check(world(pg1=odd))["problems"]
    assert problem.startswith("on pg1 runs an etcd with 12 keys that pgherd did not set up")


def test_a_hanging_member_is_named_once_with_all_who_asked() -> None:
    hosts = {name: host(place, etcd=endpoint(status="silent")) for place, name in
             enumerate(NAMES, 1)}  # fmt: skip
    (problem,) = check(hosts)["problems"]
    assert "http://192.0.2.1:2379: no answer within 3 s (asked from pg1, pg2, pg3)" in problem


def test_a_member_that_does_not_run_is_ours_to_start() -> None:
    assert check(world(pg1=host(1, etcd=endpoint(status="refused"))))["problems"] == []


def test_an_external_etcd_must_run() -> None:
    hosts = {"pg1": host(1, etcd=endpoint(status="refused"))}
    (problem,) = check(hosts, {"etcd": [], "postgres": ["pg1"]}, etcd_external=True)["problems"]
    assert "check cluster_etcd_endpoints" in problem


@pytest.mark.parametrize(
    ("etcd", "postgres", "external", "words"),
    [
        (3, 3, False, []),
        (5, 3, False, []),
        (1, 3, False, ["etcd has one member"]),
        (2, 3, False, ["etcd has 2 members: they survive the loss of 0, no more than 1 would"]),
        (4, 3, False, ["etcd has 4 members: they survive the loss of 1, no more than 3 would"]),
        (0, 3, True, []),
        (3, 1, False, ["there is one PostgreSQL host"]),
        (3, 2, False, ["there are two PostgreSQL hosts"]),
    ],
)
def test_numbers_that_give_something_up_are_warned_of(
    etcd: int, postgres: int, external: bool, words: list[str]
) -> None:
    names = [f"pg{number}" for number in range(1, 6)]
    hosts = {name: host(place) for place, name in enumerate(names, 1)}
    groups = {"etcd": names[:etcd], "postgres": names[:postgres]}
    warnings = check(hosts, groups, etcd_external=external)["warnings"]
    assert len(warnings) == len(words)
    assert all(text.startswith(start) for text, start in zip(warnings, words, strict=True))


def test_a_kernel_that_cannot_be_set_is_told_once() -> None:
    fixed = {"vm.swappiness": {"value": "60", "writable": False}}
    hosts = world(pg1=host(1, kernel=fixed), pg2=host(2, kernel=fixed))
    (warning,) = check(hosts, kernel={"vm.swappiness": 1})["warnings"]
    assert "the kernel of pg1, pg2 cannot be set" in warning
    assert "vm.swappiness=1 (is 60)" in warning
    assert check(hosts, kernel={"vm.swappiness": 60})["warnings"] == []


def test_kernel_changes_are_what_differs_and_can_be_set() -> None:
    kernel = {
        "vm.swappiness": {"value": "60", "writable": True},
        "vm.dirty_bytes": {"value": "0", "writable": False},
        "vm.overcommit_memory": {"value": "0", "writable": True},
    }
    wanted = {"vm.swappiness": 1, "vm.dirty_bytes": 5, "vm.overcommit_memory": 0, "vm.absent": 1}
    assert kernel_changes(kernel, wanted) == {"vm.swappiness": "1"}


def test_members_outside_the_inventory_are_told() -> None:
    etcd = [
        {"id": "a1", "name": "pg1", "peer_urls": ["http://192.0.2.1:2380"]},
        {"id": "b2", "name": "", "peer_urls": ["http://192.0.2.9:2380"]},
    ]
    cluster = [{"name": "pg1"}, {"name": "old"}]
    warnings = stranger_warnings(cluster, etcd, ["pg1"], ["http://192.0.2.1:2380"])
    assert len(warnings) == 2
    assert warnings[0].startswith("the cluster has a member old that the inventory does not have")
    assert warnings[1].endswith("`etcdctl member remove b2`")
    assert stranger_warnings(cluster[:1], etcd[:1], ["pg1"], ["http://192.0.2.1:2380"]) == []


def test_the_identifier_is_found_whoever_answered() -> None:
    hosts = world(pg3=host(3, etcd=endpoint("7")))
    assert cluster_identifier(NAMES, hosts) == "7"
    assert cluster_identifier(NAMES, world()) == ""
