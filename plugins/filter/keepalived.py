# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of Keepalived: a mapping, and the text that it reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: keepalived
short_description: The configuration of Keepalived
description:
  - C(keepalived_settings) returns it as a mapping, to be changed by the user's.
  - C(keepalived_text) writes such a mapping.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: settings
options:
  _input:
    description: What C(vip_instances) returned, or the mapping.
    type: raw
    required: true
  settings:
    description: What all instances share, see the role C(keepalived).
    type: dict
"""

EXAMPLES = r"""
- name: Show a block
  ansible.builtin.debug:
    msg: "{{ {'global_defs': {'router_id': 'pg1'}} | pgherd.cluster.keepalived_text }}"
"""

RETURN = r"""
_value:
  description: A mapping, or a text.
  type: raw
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Runs, a second apart, for which an agent may say nothing: one that is restarted is back by then.
SILENT_RUNS = 5
# An advert that was sent on by a router has a lower one, so nobody from outside the network speaks.
TTL = 255


def looks(kind: str, settings: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Return words of the program that looks, and failed runs that count, by name of the look.

    Behind a balancer both addresses need the same: that it answers. Without one each needs its
    own pooler: that it answers, and that the agent does not say no to it.
    """
    ports = settings["ports"]
    if settings["balancer"] == "haproxy":
        return {"balancer": (f"http 127.0.0.1 {ports['balancer_statistics']} /health", 1)}
    agent = f"http {settings['agent_address']} {ports['rest']} /pooler/{kind}"
    return {
        f"pooler_{kind}": (f"postgres 127.0.0.1 {ports[f'pooler_{kind}']}", 1),
        f"agent_{kind}": (f"{agent} silence-passes", 1),
        f"agent_{kind}_silent": (agent, SILENT_RUNS),
    }


def _instance(instance: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    peers = [f"{peer} min_ttl {TTL}" for peer in instance["peers"]]
    return {
        # All begin as backups and none takes from another what that one has.
        "state": "BACKUP",
        "nopreempt": True,
        "interface": instance["interface"],
        "virtual_router_id": instance["router_id"],
        "priority": instance["priority"],
        "advert_int": settings["advert_seconds"],
        "unicast_src_ip": instance["source"] if peers else False,
        "check_unicast_src": bool(peers),
        # With IPv6 adverts would have the kernel's 64, be taken from nobody, and all would lead.
        "unicast_ttl": TTL if peers else False,
        "unicast_peer": peers or False,
        "virtual_ipaddress": [
            f"{instance['address']} dev {instance['interface']}",
            f"include {settings['secret_file']}.{instance['name']}",
        ],
        "track_script": list(looks(instance["name"], settings)),
    }


def keepalived_settings(
    instances: list[Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the configuration for *instances*, block by block.

    *settings*: host, user and program of the looks, advert_seconds, balancer (haproxy or none),
    ports by name, agent_address, secret_file (of which each instance
    has one of its own).
    """
    found: dict[str, Any] = {
        "global_defs": {
            "router_id": settings["host"],
            "vrrp_version": 3,
            "enable_script_security": True,
            "script_user": settings["user"],
            # Neighbours learn it at once, again a second later, and from time to time: one may
            # have heard a host that was frozen and went on.
            "vrrp_garp_master_delay": 1,
            "vrrp_garp_master_repeat": 3,
            "vrrp_garp_master_refresh": 10,
            "vrrp_garp_lower_prio_delay": 0,
            "vrrp_garp_lower_prio_repeat": 3,
            "vrrp_higher_prio_send_advert": True,
            # A busy host is no lost one.
            "vrrp_priority": -20,
        }
    }
    for instance in instances:
        for name, (words, fall) in looks(instance["name"], settings).items():
            found[f"vrrp_script {name}"] = {
                "script": f'"{settings["program"]} {words}"',
                "interval": 1,
                "timeout": 5,
                "fall": fall,
                "rise": 2,
            }
    for instance in instances:
        found[f"vrrp_instance {instance['name']}"] = _instance(instance, settings)
    return found


def _lines(name: str, value: Any, indent: str) -> Iterator[str]:
    if value is None or value is False:
        return
    if value is True:
        yield f"{indent}{name}"
    elif isinstance(value, dict):
        yield f"{indent}{name} {{"
        for key, inner in value.items():
            yield from _lines(str(key), inner, indent + "    ")
        yield f"{indent}}}"
    elif isinstance(value, list):
        yield f"{indent}{name} {{"
        yield from (f"{indent}    {word}" for word in value)
        yield f"{indent}}}"
    else:
        yield f"{indent}{name} {value}"


def keepalived_text(settings: Mapping[str, Any]) -> str:
    """Return *settings* as a configuration file of Keepalived.

    A mapping or a list is a block in braces, true a word alone; false and null leave it out.
    """
    return "\n".join(line for name, value in settings.items() for line in _lines(name, value, ""))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"keepalived_settings": keepalived_settings, "keepalived_text": keepalived_text}
