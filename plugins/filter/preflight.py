# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands against a deployment, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight
short_description: What stands against a deployment
description:
  - Compares what the hosts said with what the inventory wants.
  - The hosts said it to M(pgherd.cluster.host_facts).
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: hostvars, settings
options:
  _input:
    description: Names of hosts by group (C(etcd), C(postgres), C(balancer)).
    type: dict
    required: true
  hostvars:
    description: The variable of that name.
    type: dict
    required: true
  settings:
    description: The limits and names to compare with.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what stands against it
  ansible.builtin.debug:
    msg: "{{ groups | pgherd.cluster.preflight(hostvars, {'cluster_name': 'demo'}) }}"
"""

RETURN = r"""
_value:
  description: Lists C(problems) (nothing may be changed) and C(warnings) (what is given up).
  type: dict
"""

from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MIB = 1024**2


def _facts(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = hostvars[host].get("ansible_facts", {})
    return found


def _ours(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _facts(hostvars, host).get("pgherd", {})
    return found


def address_problems(hosts: list[str], hostvars: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every host that does not have the address the inventory gives it."""
    for host in hosts:
        said = hostvars[host].get("cluster_address")
        facts = _facts(hostvars, host)
        own = [*facts.get("all_ipv4_addresses", []), *facts.get("all_ipv6_addresses", [])]
        if said and own and str(said) not in own:
            yield f"cluster_address: {host} has no address {said}; it has {', '.join(own)}"


def clock_problems(
    hosts: list[str], hostvars: Mapping[str, Any], limit_seconds: float
) -> Iterator[str]:
    """Yield a sentence for the two hosts whose clocks are surely furthest apart."""
    worst: tuple[float, str] | None = None
    clocks = {host: _ours(hostvars, host).get("clock", {}) for host in hosts}
    for one, other in combinations([host for host in hosts if clocks[host]], 2):
        apart = abs(clocks[one]["offset_seconds"] - clocks[other]["offset_seconds"])
        doubt = clocks[one]["error_seconds"] + clocks[other]["error_seconds"]
        sure = apart - doubt
        if sure > limit_seconds and (worst is None or sure > worst[0]):
            text = (
                f"the clocks of {one} and {other} are {apart:.1f} s apart (measured within "
                f"{doubt:.1f} s; {limit_seconds:g} s are allowed): run a time service on both"
            )
            worst = (sure, text)
    if worst:
        yield worst[1]


def disk_problems(hosts: list[str], hostvars: Mapping[str, Any], least_mb: int) -> Iterator[str]:
    """Yield a sentence for every path with too little room."""
    for host in hosts:
        for path, numbers in _ours(hostvars, host).get("disks", {}).items():
            free = int(numbers["free_bytes"]) // MIB
            if free < least_mb:
                yield (
                    f"{host} has {free} MB free for {path}, {least_mb} MB are wanted "
                    "(cluster_disk_free_mb)"
                )


def data_problems(
    hosts: list[str], hostvars: Mapping[str, Any], name: str, port: int
) -> Iterator[str]:
    """Yield a sentence for every data directory that belongs to another cluster or server."""
    known = cluster_identifier(hosts, hostvars)
    found: dict[str, list[str]] = {}
    for host in hosts:
        data = _ours(hostvars, host).get("data", {})
        if data.get("system_identifier"):
            found.setdefault(data["system_identifier"], []).append(f"{host}:{data['path']}")
    for identifier, places in found.items():
        if known and identifier != known:
            yield (
                f"{', '.join(places)} holds PostgreSQL cluster {identifier}, but {name} is "
                f"{known}: move that directory away, or give the cluster another cluster_name"
            )
    if not known and len(found) > 1:
        sides = "; ".join(f"{', '.join(places)} is {key}" for key, places in found.items())
        yield f"the hosts of {name} hold different PostgreSQL clusters: {sides}. Keep one of them"
    for host in hosts:
        ours = _ours(hostvars, host).get("data", {}).get("path")
        for server in _ours(hostvars, host).get("postmasters", []):
            if server["port"] == port and server["data_dir"] != ours:
                yield (
                    f"on {host} port {port} is taken by the PostgreSQL server of "
                    f"{server['data_dir']}: stop and disable it, or set postgresql_port"
                )


def cluster_identifier(hosts: list[str], hostvars: Mapping[str, Any]) -> str:
    """Return the system identifier etcd has for the cluster, empty before its first start."""
    for host in hosts:
        answers = _ours(hostvars, host).get("etcd", {}).get("endpoints", {})
        for answer in answers.values():
            if answer["value"]:
                return str(answer["value"])
    return ""


def etcd_problems(hosts: list[str], hostvars: Mapping[str, Any], external: bool) -> Iterator[str]:
    """Yield a sentence for every etcd that hangs, is a stranger's, or cannot be reached."""
    told: dict[str, list[str]] = {}
    for host in hosts:
        etcd = _ours(hostvars, host).get("etcd", {})
        if etcd.get("foreign_keys"):
            yield (
                f"on {host} runs an etcd with {etcd['foreign_keys']} keys that pgherd did not set "
                "up: name it in cluster_etcd_endpoints, or remove it"
            )
        answers = etcd.get("endpoints", {})
        works = any(answer["status"] == "answers" for answer in answers.values())
        for url, answer in answers.items():
            if answer["status"] == "silent" or (external and not works):
                told.setdefault(f"{url}: {answer['detail']}", []).append(host)
    for what, seen_from in told.items():
        remedy = (
            "check cluster_etcd_endpoints and that etcd"
            if external
            else "it hangs; `systemctl restart etcd` there"
        )
        yield f"etcd does not answer at {what} (asked from {', '.join(seen_from)}): {remedy}"


def size_warnings(etcd: int, postgres: int) -> Iterator[str]:
    """Yield what the numbers of members give up; 0 of etcd stands for an external one."""
    if etcd == 1:
        yield (
            "etcd has one member: while its host is down the primary turns read-only and nobody "
            "can take over, and with its disk the cluster's state is lost. Three survive one"
        )
    elif etcd and etcd % 2 == 0:
        yield (
            f"etcd has {etcd} members: they survive the loss of {(etcd - 1) // 2}, no more than "
            f"{etcd - 1} would, and one more host can fail. Take {etcd - 1} or {etcd + 1}"
        )
    if postgres == 1:
        yield "there is one PostgreSQL host: when it is lost, the service is, until a restore"
    elif postgres == 2:
        yield (
            "there are two PostgreSQL hosts: after the loss of one nothing stands by, and an "
            "acknowledged write may be on one host only. Three make quorum commit possible"
        )


def kernel_warnings(
    hosts: list[str], hostvars: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Iterator[str]:
    """Yield one sentence for the kernel settings that hosts do not let us change."""
    refused: dict[str, list[str]] = {}
    for host in hosts:
        kernel = _ours(hostvars, host).get("kernel", {})
        for name, value in wanted.items():
            now = kernel.get(name)
            if now and not now["writable"] and now["value"] != str(value):
                refused.setdefault(f"{name}={value} (is {now['value'] or 'absent'})", []).append(
                    host
                )
    if refused:
        places = sorted({host for found in refused.values() for host in found})
        yield (
            f"the kernel of {', '.join(places)} cannot be set from inside (a container?), set on "
            f"its machine what matters: {', '.join(refused)}"
        )


def stranger_warnings(
    cluster: list[Mapping[str, Any]],
    etcd: list[Mapping[str, Any]],
    postgres: list[str],
    peers: list[str],
) -> list[str]:
    """Return a sentence for every member that runs and that the inventory does not have.

    *cluster* and *etcd* are the lists of members of the agents and of etcd, *postgres* the hosts
    and *peers* the peer URLs of the inventory.
    """
    strangers = [str(member["name"]) for member in cluster if member["name"] not in postgres]
    lost = [member for member in etcd if not set(member["peer_urls"]) & set(peers)]
    return [
        f"the cluster has a member {name} that the inventory does not have: stop pgherd there"
        for name in strangers
    ] + [
        f"etcd has a member {member['name'] or member['id']} that the inventory does not have and "
        f"that counts for the quorum: `etcdctl member remove {member['id']}`"
        for member in lost
    ]


def kernel_changes(
    kernel: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]
) -> dict[str, str]:
    """Return those of the settings *wanted* that *kernel* has otherwise and lets us change."""
    return {
        name: str(value)
        for name, value in wanted.items()
        if name in kernel and kernel[name]["writable"] and kernel[name]["value"] != str(value)
    }


def preflight(
    hosts_by_group: Mapping[str, list[str]],
    hostvars: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Return the `problems` that forbid any change and the `warnings` to show at the end.

    *settings*: cluster_name; etcd_external, whether etcd is somebody else's; and, where they
    matter, clock_seconds, disk_free_mb, port, kernel (settings by name).
    """
    etcd, postgres = hosts_by_group.get("etcd", []), hosts_by_group.get("postgres", [])
    hosts = list(dict.fromkeys([*etcd, *postgres]))
    everybody = list(dict.fromkeys([*hosts, *hosts_by_group.get("balancer", [])]))
    external = bool(settings.get("etcd_external", False))
    problems = [
        *address_problems(everybody, hostvars),
        *clock_problems(hosts, hostvars, float(settings.get("clock_seconds", 1))),
        *disk_problems(hosts, hostvars, int(settings.get("disk_free_mb", 0))),
        *etcd_problems(hosts, hostvars, external),
        *data_problems(
            postgres, hostvars, str(settings["cluster_name"]), int(settings.get("port", 5432))
        ),
    ]
    warnings = [
        *size_warnings(0 if external else len(etcd), len(postgres)),
        *kernel_warnings(postgres, hostvars, settings.get("kernel", {})),
    ]
    return {"problems": problems, "warnings": warnings}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "preflight": preflight,
            "cluster_identifier": cluster_identifier,
            "kernel_changes": kernel_changes,
            "stranger_warnings": stranger_warnings,
        }
