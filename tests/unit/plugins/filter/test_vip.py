# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses that move: where they can be, who speaks for them, what stands against them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.vip import (
    priority,
    router_id,
    secret_addresses,
    vip_free,
    vip_instances,
    vip_problems,
    vip_strangers,
)

HOSTS = ["pg1", "pg2", "pg3"]
SETTINGS = {
    "cluster_vip": "192.0.2.100",
    "cluster_vip_ro": "",
    "cluster_balancer": "haproxy",
    "cluster_pooler": "pgbouncer",
    "groups": {"postgres": HOSTS},
    "name": "demo",
    "host": "pg2",
    "interface": "",
    "router_id": 7,
    "secret": "s",
}


def host(number: int, *more: str) -> dict[str, Any]:
    """Return the variables of a host with two interfaces, the first with the addresses *more*."""
    return {
        "cluster_address": f"192.0.2.{number}",
        "ansible_facts": {
            "default_ipv4": {"address": f"192.0.2.{number}"},
            "lo": {
                "device": "lo",
                "type": "loopback",
                "ipv4": {"address": "127.0.0.1", "prefix": "8"},
            },
            "eth0": {
                "device": "eth0",
                "type": "ether",
                "ipv4": {"address": f"192.0.2.{number}", "prefix": "24"},
                "ipv4_secondaries": [
                    {"address": address, "netmask": "255.255.255.255", "prefix": "32"}
                    for address in more
                ],
                "ipv6": [
                    {"address": "fe80::1", "prefix": "64", "scope": "link"},
                    {"address": f"2001:db8::{number}", "prefix": "64", "scope": "global"},
                ],
            },
            "bond0_7": {
                "device": "bond0.7",
                "type": "ether",
                "ipv4": {"address": f"198.51.100.{number}", "netmask": "255.255.255.128"},
            },
        },
    }


def world(**changed: dict[str, Any]) -> dict[str, Any]:
    """Return three good hosts with the *changed* ones in place."""
    return {name: host(place) for place, name in enumerate(HOSTS, 1)} | changed


def problems(
    hostvars: dict[str, Any] | None = None, hosts: list[str] | None = None, **settings: Any
) -> list[str]:
    """Return what stands against SETTINGS with *settings* in."""
    found: list[str] = vip_problems(
        HOSTS if hosts is None else hosts, hostvars or world(), SETTINGS | settings
    )
    return found


def instances(hostvars: dict[str, Any] | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Return what the addresses are on pg2."""
    found: list[dict[str, Any]] = vip_instances(HOSTS, hostvars or world(), SETTINGS | settings)
    return found


def test_nothing_stands_against_a_free_address_of_the_hosts_network() -> None:
    assert problems() == []
    assert problems(cluster_vip_ro="192.0.2.101") == []
    assert problems(cluster_vip="2001:db8::100") == []
    assert problems(cluster_vip="") == []


def test_a_host_that_has_it_for_a_while_does_not_stand_against_it() -> None:
    assert problems(world(pg3=host(3, "192.0.2.100"))) == []


def test_an_address_outside_every_network_is_refused_and_the_networks_are_named() -> None:
    odd = host(3)
    del odd["ansible_facts"]["bond0_7"]
    most, other = problems(world(pg3=odd), cluster_vip="203.0.113.1")
    assert most.startswith(
        "cluster_vip: 203.0.113.1 is in no network of pg1, pg2: there is eth0 192.0.2.0/24, eth0 "
        "2001:db8::/64, bond0.7 198.51.100.0/25. Take a free address"
    )
    assert "of pg3: there is eth0 192.0.2.0/24, eth0 2001:db8::/64. Take" in other


def test_an_interface_that_is_named_may_have_any_address() -> None:
    named = {name: each | {"keepalived_interface": "bond0.7"} for name, each in world().items()}
    assert problems(named, cluster_vip="203.0.113.1") == []
    (found,) = instances(named, cluster_vip="203.0.113.1", interface="bond0.7")
    assert (found["interface"], found["source"]) == ("bond0.7", "198.51.100.2")
    assert found["peers"] == ["198.51.100.1", "198.51.100.3"]


def test_a_host_that_may_not_have_them_has_none() -> None:
    found = vip_instances(["ops1"], world(ops1=host(21)), SETTINGS | {"host": "pg2"})
    assert found == []


def test_an_interface_that_is_not_there_is_refused() -> None:
    (problem,) = problems(world(pg1=host(1) | {"keepalived_interface": "eth9"}))
    assert problem.startswith("keepalived_interface: pg1 has no interface eth9; it has eth0 192")


@pytest.mark.parametrize("address", ["192.0.2.3", "198.51.100.3", "2001:db8::3"])
def test_a_hosts_own_address_is_refused(address: str) -> None:
    assert problems(cluster_vip=address) == [
        f"cluster_vip: {address} is pg3's own address; take one that no host has"
    ]


def test_two_that_are_one_are_refused() -> None:
    (problem,) = problems(cluster_vip_ro="192.0.2.100")
    assert problem.startswith("cluster_vip_ro: 192.0.2.100 is cluster_vip, too")


def test_without_a_balancer_host_both_remedies_are_told() -> None:
    (problem,) = problems(hosts=[])
    assert "put hosts there" in problem
    assert "cluster_balancer: none" in problem


def test_an_address_that_nothing_follows_the_primary_behind_is_refused() -> None:
    (problem,) = problems(cluster_balancer="none", cluster_pooler="none")
    assert "not to the primary: take cluster_pooler: pgbouncer" in problem


@pytest.mark.parametrize("said", ["192.0.2.100/24", "db.example.org", "192.0.2.100:5432"])
def test_what_is_no_address_is_refused(said: str) -> None:
    assert problems(cluster_vip=said) == [
        f"cluster_vip: {said} is not an address (without prefix and port)"
    ]


def test_an_instance_is_where_the_network_of_its_address_is() -> None:
    assert instances() == [
        {
            "name": "rw",
            "address": "192.0.2.100/32",
            "interface": "eth0",
            "source": "192.0.2.2",
            "peers": ["192.0.2.1", "192.0.2.3"],
            "router_id": 7,
            "priority": 204,
            "secret_addresses": [f"{each}/32" for each in secret_addresses("s rw", 4)],
        }
    ]
    (other,) = instances(cluster_vip="198.51.100.99")
    assert (other["interface"], other["source"]) == ("bond0.7", "198.51.100.2")
    (newer,) = instances(cluster_vip="2001:db8::99")
    assert (newer["address"], newer["source"]) == ("2001:db8::99/128", "2001:db8::2")


def test_a_peer_without_facts_is_known_by_the_inventory() -> None:
    (found,) = instances(world(pg3={"cluster_address": "192.0.2.3"}))
    assert found["peers"] == ["192.0.2.1", "192.0.2.3"]
    with pytest.raises(AnsibleFilterError, match="address of pg3 is not known"):
        instances(world(pg3={}))


def test_the_address_that_moves_is_nobodys_source() -> None:
    (found,) = instances(world(pg2=host(2, "192.0.2.100"), pg3=host(3, "192.0.2.101")))
    assert (found["source"], found["peers"]) == ("192.0.2.2", ["192.0.2.1", "192.0.2.3"])


def test_reading_begins_at_the_other_end_with_a_number_and_a_secret_of_its_own() -> None:
    both = [
        vip_instances(HOSTS, world(), SETTINGS | {"host": name, "cluster_vip_ro": "192.0.2.101"})
        for name in HOSTS
    ]
    assert [[each["priority"] for each in found] for found in both] == [
        [254, 154],
        [204, 204],
        [154, 254],
    ]
    write, read = both[0]
    assert (write["router_id"], read["router_id"]) == (7, 8)
    assert not set(write["secret_addresses"]) & set(read["secret_addresses"])


def test_router_ids_are_in_range_and_stable() -> None:
    assert router_id(0, "demo", 0) == router_id(0, "demo", 0) != router_id(0, "other", 0)
    names = [f"cluster{number}" for number in range(1000)]
    assert {router_id(0, name, number) for name in names for number in (0, 1)} == {*range(1, 256)}
    assert [router_id(255, "demo", number) for number in (0, 1)] == [255, 1]


def test_priorities_fall_along_the_list_and_stay_in_range() -> None:
    assert [priority(place, 3) for place in range(3)] == [254, 204, 154]
    many = [priority(place, 60) for place in range(60)]
    assert many == sorted(set(many), reverse=True)
    assert min(many) >= 1


def test_secret_addresses_are_loopbacks_own_and_not_those_in_use() -> None:
    for number in range(200):
        first, *others = secret_addresses(str(number), 4)
        assert len({first, *others}) == 3
        for address in (first, *others):
            parts = [int(part) for part in address.split(".")]
            assert parts[0] == 127
            assert 1 <= parts[1] <= 254
            assert 1 <= parts[3] <= 254
    assert secret_addresses("a", 4) != secret_addresses("b", 4)
    (newer,) = secret_addresses("a", 6)
    assert newer.startswith("100::")


def test_only_what_no_host_has_is_asked_for() -> None:
    found = instances(cluster_vip_ro="192.0.2.101")
    groups = {"postgres": HOSTS}
    assert vip_free(found, groups, world(pg3=host(3, "192.0.2.100"))) == [
        {"address": "192.0.2.101", "interface": "eth0"}
    ]
    assert vip_free(found, groups, world(pg3={"cluster_address": "192.0.2.3"})) == []


def test_an_address_may_be_where_it_shall_not_be_any_more() -> None:
    # Balancers of their own are taken out, or put in: who has the address so far is no stranger.
    (found,) = instances()
    apart = {"postgres": HOSTS[:2], "balancer": HOSTS[2:]}
    assert vip_free([found], apart, world(pg3=host(3, "192.0.2.100"))) == []


def test_the_address_of_a_balancer_that_is_not_wanted_is_refused() -> None:
    apart = {"postgres": HOSTS[:2], "balancer": HOSTS[2:]}
    (problem,) = problems(
        hosts=HOSTS[:2], cluster_vip="192.0.2.3", cluster_balancer="none", groups=apart
    )
    assert "192.0.2.3 is pg3's own address" in problem


def test_a_stranger_is_named() -> None:
    answers = {"192.0.2.100": "02:42:0a:57:0d:64"}
    (problem,) = vip_strangers(answers, SETTINGS)
    assert problem.startswith("cluster_vip: 192.0.2.100 answers already, from 02:42:0a:57:0d:64")
    assert vip_strangers({}, SETTINGS) == []


def test_a_place_without_an_address_is_passed_over() -> None:
    bare = host(2)
    bare["ansible_facts"]["eth1"] = {"device": "eth1", "type": "ether", "ipv4": {}, "ipv6": [{}]}
    assert problems(world(pg2=bare)) == []


def test_a_host_without_a_place_for_the_address_cannot_have_it() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"cluster_vip: pg2 has no place for 203\.0\.113\.1"
    ):
        instances(cluster_vip="203.0.113.1")
