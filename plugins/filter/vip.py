# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the addresses that move can be, who speaks for them, and what stands against them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vip
short_description: The addresses of a cluster that move
description:
  - C(vip_problems) says what stands against them, before anything is changed.
  - C(vip_instances) returns what each of them is on one host, for its configuration.
  - C(vip_free) returns those that no host of the cluster has.
  - C(vip_strangers) says which of these somebody else has.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: hostvars, settings
options:
  _input:
    description: Names of the hosts that may have them; of C(vip_strangers) what answered.
    type: raw
    required: true
  hostvars:
    description: The variable of that name.
    type: dict
  settings:
    description: Addresses and names, see the role C(keepalived).
    type: dict
"""

EXAMPLES = r"""
- name: Show what stands against it
  ansible.builtin.debug:
    msg: "{{ groups['balancer'] | pgherd.cluster.vip_problems(hostvars, settings) }}"
  vars:
    settings:
      cluster_vip: 10.0.0.9
      groups: "{{ groups }}"
"""

RETURN = r"""
_value:
  description: Sentences, a list of mappings, or a text.
  type: raw
"""

import hashlib
import ipaddress
import zlib
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

# In the order of what is asked of the host that has it: write first, then read.
VARIABLES = {"rw": "cluster_vip", "ro": "cluster_vip_ro"}
# Whoever stands in one of these is of the cluster, also a balancer that shall be none any more.
GROUPS = ("etcd", "postgres", "balancer")
# An advert names all addresses of its instance, and a receiver drops one that names others.
SECRET_ADDRESSES = 3
HIGHEST_PRIORITY = 254
ROUTER_IDS = 255


def interfaces(facts: Mapping[str, Any]) -> Iterator[tuple[str, Interface]]:
    """Yield name and address with prefix of every address in a host's facts.

    Loopback is no place for an address that others reach.
    """
    for fact in facts.values():
        if not isinstance(fact, dict) or "device" not in fact or fact.get("type") == "loopback":
            continue
        name = str(fact["device"])
        for place in [fact.get("ipv4"), *fact.get("ipv4_secondaries", []), *fact.get("ipv6", [])]:
            if place and place.get("address"):
                prefix = place.get("prefix") or place.get("netmask")
                yield name, ipaddress.ip_interface(f"{place['address']}/{prefix}")


def _is_whole(place: Interface) -> bool:
    """Return whether an address is one of a network: what moves comes without."""
    return place.network.num_addresses > 1


def _facts(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = hostvars[host].get("ansible_facts", {})
    return found


def _place(
    facts: Mapping[str, Any], address: Address, interface: str
) -> tuple[str, Address] | None:
    """Return the interface for *address* on a host, and the host's own address there.

    That is the one whose network has it, or *interface* when it is named.
    """
    for name, place in interfaces(facts):
        if place.version != address.version or not _is_whole(place) or place.is_link_local:
            continue
        if name == interface or (not interface and address in place.network):
            return name, place.ip
    return None


def _address_of_peer(
    host: str, hostvars: Mapping[str, Any], address: Address, interface: str
) -> str:
    found = _place(_facts(hostvars, host), address, interface)
    said = found[1] if found else hostvars[host].get("cluster_address")
    if not said:
        raise AnsibleFilterError(
            f"cluster_address: the address of {host} is not known; set it in the inventory"
            " (needed with --limit)"
        )
    return str(said)


def router_id(wanted: int, name: str, number: int) -> int:
    """Return the VRRP router ID (1 to 255) of a cluster's address *number* (0, 1).

    It is *wanted*, or, with 0, one that the cluster's name gives: the same at every run.
    """
    first = wanted or zlib.crc32(name.encode()) % ROUTER_IDS + 1
    return (first - 1 + number) % ROUTER_IDS + 1


def secret_addresses(secret: str, version: int) -> list[str]:
    """Return the addresses that prove an advert to be of this cluster.

    VRRP version 3 has no field for a password. These are of the host's own loopback network
    (or of IPv6's discard-only network, RFC 6666), which nobody reaches from outside.
    """
    digest = hashlib.sha256(secret.encode()).digest()
    if version == ipaddress.IPv6Address(0).version:
        return [str(ipaddress.IPv6Address(b"\x01" + bytes(7) + digest[:8]))]
    parts = (digest[3 * place : 3 * place + 3] for place in range(SECRET_ADDRESSES))
    # Neither 127.0.x.y, which resolvers and Debian's hosts file use, nor a last byte of 0 or 255.
    return [f"127.{one % 254 + 1}.{two}.{three % 254 + 1}" for one, two, three in parts]


def priority(place: int, hosts: int) -> int:
    """Return the VRRP priority of the host at *place* (from 0) of *hosts*.

    As far apart as there is room: who is next waits a part of an interval less than the others.
    """
    return HIGHEST_PRIORITY - place * min(50, (HIGHEST_PRIORITY - 1) // max(1, hosts - 1))


def vip_instances(
    hosts: list[str], hostvars: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return what each address that moves is on the host `host` of *settings*.

    *settings*: host, name (of the cluster), cluster_vip, cluster_vip_ro, interface, router_id,
    secret. Raises AnsibleFilterError for a host that cannot have the address.

    There are none on a host that is not among *hosts*: Ansible reads what a task is to be done
    for before it looks whether it is to be done.
    """
    found: list[dict[str, Any]] = []
    if settings["host"] not in hosts:
        return found
    for number, (kind, variable) in enumerate(VARIABLES.items()):
        if not settings.get(variable):
            continue
        address = ipaddress.ip_address(settings[variable])
        here = _place(_facts(hostvars, settings["host"]), address, settings["interface"])
        if here is None:
            raise AnsibleFilterError(f"{variable}: {settings['host']} has no place for {address}")
        # For reading, the others way round: each keeps to its own end of the list.
        order = hosts if kind == "rw" else hosts[::-1]
        peers = [
            _address_of_peer(
                host, hostvars, address, str(hostvars[host].get("keepalived_interface") or "")
            )
            for host in hosts
            if host != settings["host"]
        ]
        found.append(
            {
                "name": kind,
                "address": f"{address}/{address.max_prefixlen}",
                "interface": here[0],
                "source": str(here[1]),
                "peers": peers,
                "router_id": router_id(int(settings["router_id"]), str(settings["name"]), number),
                "priority": priority(order.index(settings["host"]), len(hosts)),
                "secret_addresses": [
                    f"{each}/{address.max_prefixlen}"
                    for each in secret_addresses(f"{settings['secret']} {kind}", address.version)
                ],
            }
        )
    return found


def _parsed(settings: Mapping[str, Any]) -> tuple[dict[str, Address], list[str]]:
    """Return the addresses by the variable that says them, and a sentence for what is none."""
    addresses, problems = {}, []
    for variable in VARIABLES.values():
        said = str(settings.get(variable) or "")
        try:
            if said:
                addresses[variable] = ipaddress.ip_address(said)
        except ValueError:
            problems.append(f"{variable}: {said} is not an address (without prefix and port)")
    return addresses, problems


def _nobodys(settings: Mapping[str, Any], hosts: list[str]) -> Iterator[str]:
    """Yield why no host may have the addresses at all."""
    if settings.get("cluster_balancer") == "none" and settings.get("cluster_pooler") == "none":
        yield (
            "cluster_vip without balancer and pooler leads to whichever server the address is on, "
            "not to the primary: take cluster_pooler: pgbouncer or cluster_balancer: haproxy, or "
            "empty cluster_vip"
        )
    elif not hosts:
        yield (
            "cluster_vip: the group `balancer` has no host that could have it: put hosts there, "
            "or take cluster_balancer: none for an address straight onto the poolers"
        )


def _place_problems(
    variable: str, address: Address, hosts: list[str], hostvars: Mapping[str, Any]
) -> Iterator[str]:
    lost: dict[str, list[str]] = {}
    for host in hosts:
        facts = _facts(hostvars, host)
        places = [(name, place) for name, place in interfaces(facts) if _is_whole(place)]
        wanted = str(hostvars[host].get("keepalived_interface") or "")
        if not places or _place(facts, address, wanted):
            continue
        there = ", ".join(
            f"{name} {place.network}" for name, place in places if not place.is_link_local
        )
        if wanted and wanted not in [name for name, _place in places]:
            yield f"keepalived_interface: {host} has no interface {wanted}; it has {there}"
        else:
            lost.setdefault(there, []).append(host)
    for there, names in lost.items():
        yield (
            f"{variable}: {address} is in no network of {', '.join(names)}: there is {there}. "
            "Take a free address of one of them (or name the interface in keepalived_interface)"
        )


def _owner(address: Address, hosts: list[str], hostvars: Mapping[str, Any]) -> str | None:
    """Return the host that *address* belongs to, not only for a while."""
    for host in hosts:
        said = str(hostvars[host].get("cluster_address") or "")
        own = {place.ip for _name, place in interfaces(_facts(hostvars, host)) if _is_whole(place)}
        if address in own or said == str(address):
            return host
    return None


def _members(groups: Mapping[str, list[str]]) -> list[str]:
    """Return the hosts of the cluster, each once."""
    return list(dict.fromkeys(host for name in GROUPS for host in groups.get(name, [])))


def vip_free(
    instances: list[Mapping[str, Any]],
    groups: Mapping[str, list[str]],
    hostvars: Mapping[str, Any],
) -> list[dict[str, str]]:
    """Return address and interface of those *instances* that no host of *groups* has.

    One that may not have it any more, for a balancer was added or taken out, may have it still.
    A host without facts (`--limit`) may be the one that has it, so there are none then.
    """
    hosts = _members(groups)
    if not all(_facts(hostvars, host) for host in hosts):
        return []
    held = {place.ip for host in hosts for _name, place in interfaces(_facts(hostvars, host))}
    places = (
        (ipaddress.ip_interface(instance["address"]).ip, str(instance["interface"]))
        for instance in instances
    )
    return [
        {"address": str(address), "interface": interface}
        for address, interface in places
        if address not in held
    ]


def vip_strangers(answers: Mapping[str, str], settings: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each address of *settings* that answered.

    *answers*: hardware addresses by address, of those that no host of the cluster has.
    """
    return [
        f"{variable}: {settings[variable]} answers already, from {answers[settings[variable]]}, "
        "and no host of the cluster has it: take a free address, or switch that one off"
        for variable in VARIABLES.values()
        if settings.get(variable) in answers
    ]


def vip_problems(
    hosts: list[str], hostvars: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    """Return what stands against the addresses of *settings* on *hosts*.

    *settings*: cluster_vip, cluster_vip_ro, cluster_balancer, cluster_pooler, and groups, those
    of the inventory.
    """
    addresses, problems = _parsed(settings)
    if not addresses or problems:
        return problems
    problems += _nobodys(settings, hosts)
    if len(set(addresses.values())) < len(addresses):
        problems.append(
            f"cluster_vip_ro: {settings['cluster_vip_ro']} is cluster_vip, too; take another "
            "address, or leave it empty: reading has a port of its own at cluster_vip"
        )
    for variable, address in addresses.items():
        owner = _owner(address, _members(settings["groups"]), hostvars)
        if owner:
            problems.append(
                f"{variable}: {address} is {owner}'s own address; take one that no host has"
            )
        else:
            problems += _place_problems(variable, address, hosts, hostvars)
    return problems


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "vip_instances": vip_instances,
            "vip_problems": vip_problems,
            "vip_free": vip_free,
            "vip_strangers": vip_strangers,
        }
