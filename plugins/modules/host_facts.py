#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read, in one call, what deployment must know of a host before it changes anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read what a pgherd deployment must know of a host
description:
  - Reads memory, cores, disks, kernel settings, packages, PostgreSQL and etcd in one call.
  - Changes nothing. The results are the facts C(pgherd) and C(pgherd_installed).
  - An action plugin of the same name adds how far the host's clock is from the controller's.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  installed_only:
    description: Whether only packages and units are read, after an installation.
    type: bool
    default: false
  data_dir:
    description: PostgreSQL data directory whose system identifier is wanted.
    type: str
    default: ''
  disk_paths:
    description: Paths whose file systems are measured; of a missing path its nearest parent.
    type: list
    elements: str
    default: []
  kernel_settings:
    description: Names of sysctl settings to read.
    type: list
    elements: str
    default: []
  packages:
    description: Names of Debian packages; the ones not installed are returned.
    type: list
    elements: str
    default: []
  units:
    description: systemd units; whether each is known to systemd is returned.
    type: list
    elements: str
    default: []
  etcd_data_dir:
    description: Data directory of this host's etcd member; empty on a host without one.
    type: str
    default: ''
  etcd_urls:
    description: Client URLs of etcd, all of which are asked.
    type: list
    elements: str
    default: []
  etcd_key:
    description: Key whose value is wanted, the cluster's C(initialize) key.
    type: str
    default: ''
  etcd_timeout_seconds:
    description: After how many seconds an endpoint counts as silent.
    type: float
    default: 3
  tls:
    description: Client certificate files for etcd.
    type: dict
    default: {}
    suboptions:
      cacert:
        description: The CA.
        type: str
        default: ''
      cert:
        description: The certificate.
        type: str
        default: ''
      key:
        description: Its key.
        type: str
        default: ''
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Learn what the host is
  pgherd.cluster.host_facts:
    data_dir: /var/lib/postgresql/17/demo
    disk_paths: [/var/lib/postgresql]
    packages: [postgresql-17]
"""

RETURN = r"""
ansible_facts:
  description:
    - The fact V(pgherd) with memory_bytes, cores, clock, disks, kernel, data, postmasters, etcd,
      listening_ports.
    - The fact V(pgherd_installed) with packages_missing and units.
  returned: always
  type: dict
"""

import math
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._environment import parse
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import EtcdClient
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpRefused,
    HttpSilent,
    Tls,
)

CGROUP = Path("/sys/fs/cgroup")
ETCD_SETTINGS = Path("/etc/default/etcd")


def read_text(path: Path) -> str:
    """Return a file's text without the surrounding space, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""  # a missing file under /proc or /sys is an answer: the kernel has no such thing


def memory_bytes(meminfo: str, limit: str) -> int:
    """Return the bytes of memory there are: the machine's, or less under a cgroup's *limit*."""
    total = next(
        int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemTotal")
    )
    return min(total, int(limit)) if limit.isdigit() else total


def cores(available: int, limit: str) -> int:
    """Return the cores of *available* that a cgroup's `cpu.max` *limit* leaves, at least one."""
    quota, _blank, period = limit.partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return available
    return max(1, min(available, math.ceil(int(quota) / int(period))))


def disk(path: str) -> dict[str, Any]:
    """Return size and free bytes of the file system that holds, or will hold, *path*."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    numbers = os.statvfs(place)
    return {
        "device": place.stat().st_dev,
        "free_bytes": numbers.f_bavail * numbers.f_frsize,
        "total_bytes": numbers.f_blocks * numbers.f_frsize,
    }


def kernel_setting(name: str) -> dict[str, Any]:
    """Return value of a sysctl setting and whether this host lets root change it."""
    path = Path("/proc/sys") / name.replace(".", "/")
    value = " ".join(read_text(path).split())
    return {"value": value, "writable": os.access(path, os.W_OK)}


def system_identifier(data_dir: str) -> str | None:
    """Return the system identifier of a data directory, None where there is no cluster.

    It is the first field of global/pg_control, 64 bits in the machine's own byte order.
    """
    try:
        with (Path(data_dir) / "global" / "pg_control").open("rb") as control:
            return str(struct.unpack("=Q", control.read(8))[0])
    except (FileNotFoundError, NotADirectoryError, struct.error):
        return None  # absent, or not written to its end: an initdb that was cut short


def postmasters(root: Path) -> list[dict[str, Any]]:
    """Return data directory and port of every running server below *root* (MAJOR/NAME)."""
    found = []
    for pidfile in sorted(root.glob("*/*/postmaster.pid")):
        lines = read_text(pidfile).splitlines()
        if len(lines) > 3 and Path("/proc", lines[0].strip()).exists():
            found.append({"data_dir": str(pidfile.parent), "port": int(lines[3])})
    return found


def listening_ports(*tables: str) -> list[int]:
    """Return the TCP ports that somebody listens on, by *tables* as the kernel has them.

    Their second column is the local address and port in hexadecimal digits, their fourth the state.
    """
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"})


def ask_etcd(url: str, key: str, timeout_seconds: float, tls: Tls) -> dict[str, Any]:
    """Return `status`, `detail` and the key's `value` of one endpoint."""
    client = EtcdClient(url, timeout_seconds, tls)
    try:
        return {"status": "answers", "detail": "", "value": client.get(key, serializable=True)}
    except HttpSilent as error:
        return {"status": "silent", "detail": str(error), "value": None}
    except HttpRefused as error:
        return {"status": "refused", "detail": str(error), "value": None}
    except HttpError as error:
        return {"status": "failed", "detail": str(error), "value": None}


def foreign_keys() -> int:
    """Return how many keys an etcd on this host holds that pgherd did not configure."""
    if "pgherd" in read_text(ETCD_SETTINGS):
        return 0
    try:
        return int(EtcdClient("http://127.0.0.1:2379", 2.0).count_keys())
    except HttpError:
        return 0  # nothing there, or nothing that speaks plain HTTP to strangers


def etcd_facts(params: dict[str, Any]) -> dict[str, Any]:
    """Return what etcd on this host and every endpoint say."""
    urls = params["etcd_urls"]
    tls = Tls(**params["tls"])

    def ask(url: str) -> dict[str, Any]:
        return ask_etcd(url, params["etcd_key"], params["etcd_timeout_seconds"], tls)

    with ThreadPoolExecutor(max_workers=max(1, len(urls))) as pool:
        answers = dict(zip(urls, pool.map(ask, urls)))
    local = params["etcd_data_dir"]
    return {
        "endpoints": answers,
        "data_dir": local,
        "has_data": bool(local) and (Path(local) / "member").is_dir(),
        "foreign_keys": foreign_keys() if local else 0,
        "settings": parse(read_text(ETCD_SETTINGS)) if local else {},
    }


def missing_packages(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return those of *names* that dpkg does not have installed."""
    if not names:
        return []
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *names]
    _code, output, _errors = module.run_command(query)  # fails when one of them is unknown
    installed = {line.split()[1] for line in output.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in installed]


def known_units(module: AnsibleModule, names: list[str]) -> dict[str, bool]:
    """Return for each of *names* whether systemd finds the unit."""
    known = {}
    for name in names:
        _code, output, _errors = module.run_command(
            ["systemctl", "show", "-p", "LoadState", "--value", name]
        )
        known[name] = output.strip() not in ("", "not-found")
    return known


def gather(params: dict[str, Any]) -> dict[str, Any]:
    """Return the fact `pgherd`."""
    return {
        "clock": {"remote_seconds": time.time()},
        "memory_bytes": memory_bytes(
            read_text(Path("/proc/meminfo")), read_text(CGROUP / "memory.max")
        ),
        "cores": cores(len(os.sched_getaffinity(0)), read_text(CGROUP / "cpu.max")),
        "disks": {path: disk(path) for path in params["disk_paths"]},
        "kernel": {name: kernel_setting(name) for name in params["kernel_settings"]},
        "data": {
            "path": params["data_dir"],
            "system_identifier": (
                system_identifier(params["data_dir"]) if params["data_dir"] else None
            ),
        },
        "postmasters": postmasters(Path("/var/lib/postgresql")),
        "listening_ports": listening_ports(
            read_text(Path("/proc/net/tcp")), read_text(Path("/proc/net/tcp6"))
        ),
        "etcd": etcd_facts(params),
    }


def main() -> None:
    """Run the module."""
    path = {"type": "str", "default": ""}
    tls = {"cacert": path, "cert": path, "key": {**path, "no_log": False}}  # paths, no secrets
    strings = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "installed_only": {"type": "bool", "default": False},
            "data_dir": {"type": "str", "default": ""},
            "disk_paths": strings,
            "kernel_settings": strings,
            "packages": strings,
            "units": strings,
            "etcd_data_dir": {"type": "str", "default": ""},
            "etcd_urls": strings,
            "etcd_key": {"type": "str", "default": "", "no_log": False},
            "etcd_timeout_seconds": {"type": "float", "default": 3},
            "tls": {"type": "dict", "default": {}, "options": tls},
        },
        supports_check_mode=True,
    )
    if not module.params["tls"]:
        module.params["tls"] = {}
    facts = {
        "pgherd_installed": {
            "packages_missing": missing_packages(module, module.params["packages"]),
            "units": known_units(module, module.params["units"]),
        }
    }
    if not module.params["installed_only"]:
        facts["pgherd"] = gather(module.params)
    module.exit_json(changed=False, ansible_facts=facts)


if __name__ == "__main__":
    main()
