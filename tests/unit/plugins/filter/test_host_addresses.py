# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of hosts and URLs made of them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.host_addresses import (
    host_addresses,
    host_urls,
)


def test_what_the_inventory_says_wins_over_the_route() -> None:
    route = {"default_ipv4": {"address": "192.0.2.9"}}
    hostvars = {
        "one": {"cluster_address": "192.0.2.1", "ansible_facts": route},
        "two": {"ansible_facts": route},
    }
    assert host_addresses(["one", "two"], hostvars) == {"one": "192.0.2.1", "two": "192.0.2.9"}


def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="the address of one is not known"):
        host_addresses(["one"], {"one": {"ansible_facts": {}}})


def test_urls_put_brackets_round_an_ipv6_address() -> None:
    assert host_urls({"one": "192.0.2.1", "two": "fd00::2"}, "https", 2379) == {
        "one": "https://192.0.2.1:2379",
        "two": "https://[fd00::2]:2379",
    }
