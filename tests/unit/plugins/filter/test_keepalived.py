# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Keepalived."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgherd.cluster.plugins.filter.keepalived import (
    keepalived_settings,
    keepalived_text,
)

PORTS = {"balancer_statistics": 7000, "rest": 8008, "pooler_rw": 6432, "pooler_ro": 6433}


def instance(name: str = "rw", **changed: Any) -> dict[str, Any]:
    """Return one as `vip_instances` does."""
    return {
        "name": name,
        "address": "192.0.2.100/32",
        "interface": "eth0",
        "source": "192.0.2.1",
        "peers": ["192.0.2.2", "192.0.2.3"],
        "router_id": 7,
        "priority": 254,
        **changed,
    }


def settings(*instances: dict[str, Any], balancer: str = "haproxy") -> dict[str, Any]:
    """Return the mapping for *instances* on the host pg1."""
    shared = {
        "host": "pg1",
        "user": "nobody",
        "program": "/look",
        "secret_file": "/secret",
        "advert_seconds": 0.3,
        "balancer": balancer,
        "ports": PORTS,
        "agent_address": "192.0.2.1",
    }
    found: dict[str, Any] = keepalived_settings(list(instances), shared)
    return found


def test_an_instance_speaks_to_its_peers_only_and_takes_from_nobody() -> None:
    found = settings(instance())["vrrp_instance rw"]
    assert found["state"] == "BACKUP"
    assert found["nopreempt"] is True
    assert found["check_unicast_src"] is True
    # What the peers ask for is said by this host, too: with IPv6 the kernel would say less.
    assert found["unicast_ttl"] == 255
    assert found["unicast_peer"] == ["192.0.2.2 min_ttl 255", "192.0.2.3 min_ttl 255"]
    assert found["virtual_ipaddress"] == ["192.0.2.100/32 dev eth0", "include /secret.rw"]


def test_behind_a_balancer_both_addresses_need_the_same() -> None:
    found = settings(instance(), instance("ro"))
    assert [name for name in found if name.startswith("vrrp_script")] == ["vrrp_script balancer"]
    assert found["vrrp_script balancer"]["script"] == '"/look http 127.0.0.1 7000 /health"'
    assert found["vrrp_instance ro"]["track_script"] == ["balancer"]


def test_without_one_each_needs_its_own_pooler_and_waits_for_a_silent_agent() -> None:
    found = settings(instance("ro"), balancer="none")
    assert found["vrrp_script pooler_ro"]["script"] == '"/look postgres 127.0.0.1 6433"'
    no, silence = found["vrrp_script agent_ro"], found["vrrp_script agent_ro_silent"]
    assert no["script"] == '"/look http 192.0.2.1 8008 /pooler/ro silence-passes"'
    assert silence["script"] == '"/look http 192.0.2.1 8008 /pooler/ro"'
    assert no["fall"] < silence["fall"]
    assert found["vrrp_instance ro"]["track_script"] == [
        "pooler_ro",
        "agent_ro",
        "agent_ro_silent",
    ]


def test_a_host_without_peers_speaks_to_nobody_by_name() -> None:
    text = keepalived_text(settings(instance(peers=[])))
    assert "unicast" not in text


def test_a_mapping_is_a_block_and_false_is_left_out() -> None:
    assert keepalived_text(
        {"a b": {"c": 1, "d": True, "e": False, "f": None, "g": ["x y", "z"], "h": {"i": "j"}}}
    ).splitlines() == [
        "a b {",
        "    c 1",
        "    d",
        "    g {",
        "        x y",
        "        z",
        "    }",
        "    h {",
        "        i j",
        "    }",
        "}",
    ]
