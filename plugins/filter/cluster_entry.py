# SPDX-License-Identifier: GPL-3.0-or-later
"""Where clients of a cluster connect."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_entry
short_description: Where clients connect
description:
  - Returns the places that clients connect to, for writing and for reading, out of what stands
    between them and PostgreSQL.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: ports
options:
  _input:
    description:
      - C(vip) and C(vip_ro), empty where there is none; C(balancers), C(poolers) and C(servers),
        addresses by name of host, empty where there are none of that kind.
    type: dict
    required: true
  ports:
    description: C(balancer_rw), C(balancer_ro), C(pooler_rw), C(pooler_ro) and C(server).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where clients connect
  ansible.builtin.debug:
    msg: "{{ path | pgherd.cluster.cluster_entry({'balancer_rw': 5000, 'balancer_ro': 5001}) }}"
  vars:
    path:
      vip: 192.0.2.100
      vip_ro: ""
      balancers: {one: 192.0.2.11}
      poolers: {}
      servers: {}
"""

RETURN = r"""
_value:
  description:
    - C(rw) and C(ro), lists of HOST:PORT, where an IPv6 address is in brackets; C(multi_host),
      whether one of them has several entries; C(direct), whether these are the servers themselves,
      so that a client has to look for the primary among them.
  type: dict
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def cluster_entry(path: Mapping[str, Any], ports: Mapping[str, int]) -> dict[str, Any]:
    """Return where the clients of *path* connect: at what is nearest to them, at its addresses.

    An address that moves stands for all hosts that answer at it. Servers have none: what follows
    the primary is in front of them, or the client itself.
    """
    kind, hosts = _nearest(path)
    direct = kind == "server"
    entry = {}
    for use, vip in (("rw", path["vip"]), ("ro", path["vip_ro"] or path["vip"])):
        port = ports[kind if direct else f"{kind}_{use}"]
        entry[use] = _places([vip] if vip and not direct else hosts, port)
    return {**entry, "multi_host": any(len(each) > 1 for each in entry.values()), "direct": direct}


def _nearest(path: Mapping[str, Any]) -> tuple[str, list[str]]:
    # Lists, for the values of Ansible's own mappings can be read only once.
    for kind in ("balancer", "pooler"):
        if path[f"{kind}s"]:
            return kind, list(path[f"{kind}s"].values())
    return "server", list(path["servers"].values())


def _places(hosts: Iterable[str], port: int) -> list[str]:
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"cluster_entry": cluster_entry}
