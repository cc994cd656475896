# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of hosts and URLs made of them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_addresses
short_description: Addresses of hosts
description:
  - Returns the address of each host, its C(cluster_address) or the address of its default route.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: hostvars
options:
  _input:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable of that name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the addresses
  ansible.builtin.debug:
    msg: "{{ groups['postgres'] | pgherd.cluster.host_addresses(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Addresses by name of host.
  type: dict
"""

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def host_addresses(hosts: list[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """Return the address of each of *hosts*.

    Raises AnsibleFilterError for a host whose address nobody said and no facts tell.
    """
    return {host: _address(host, hostvars[host]) for host in hosts}


def _address(host: str, variables: Mapping[str, Any]) -> str:
    said = variables.get("cluster_address")
    if said:
        return str(said)
    route = variables.get("ansible_facts", {}).get("default_ipv4", {})
    if route.get("address"):
        return str(route["address"])
    raise AnsibleFilterError(
        f"cluster_address: the address of {host} is not known; set it in the inventory"
        " (needed with --limit, and on a host without a default route)"
    )


def host_urls(addresses: dict[str, str], scheme: str, port: int) -> dict[str, str]:
    """Return a URL for each of *addresses*; an IPv6 address gets its brackets."""
    return {
        host: f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
        for host, address in addresses.items()
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"host_addresses": host_addresses, "host_urls": host_urls}
