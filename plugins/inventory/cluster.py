# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The members of a running cluster, grouped by what they are at that moment."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster
short_description: The members of a running pgherd cluster as hosts
description:
  - Asks the agents which members there are and what each of them is now.
  - The source is a YAML file named C(pgherd.yml), or one whose name ends in C(.pgherd.yml)
    (or C(.yaml)).
  - The groups C(pgherd_primary), C(pgherd_replicas) and C(pgherd_sync) (for whom commits wait)
    are there even when nobody is in them. Their prefix is O(group_prefix).
  - Fails when no agent answers, and names all that were tried. Ansible itself goes on after a
    source that failed, unless C(any_unparsed_is_failed) of C([inventory]) says otherwise.
  - With a cache the groups are those of when it was filled; a switchover does not renew it.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment:
  - pgherd.cluster.agent
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Says that the file is meant for this plugin.
    type: str
    required: true
    choices: [pgherd.cluster.cluster]
  hostname:
    description: Whether hosts are called by their members' names or by their addresses.
    type: str
    choices: [name, address]
    default: name
  group_prefix:
    description: What the names of the groups begin with.
    type: str
    default: pgherd_
"""

EXAMPLES = r"""
# production.pgherd.yml
plugin: pgherd.cluster.cluster
agents: [http://192.0.2.11:8008, http://192.0.2.12:8008, http://192.0.2.13:8008]
keyed_groups:
  - key: pgherd_state
    prefix: state
"""

from collections import Counter
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import Agents
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import LEADERS, VOTERS

GROUPS = ("primary", "replicas", "sync")
NAMES = ("pgherd.yml", "pgherd.yaml")
TLS_FILES = ("cacert", "cert", "key")
CONNECTION = ("agents", "username", "password", "timeout_seconds", "tls")


def is_ours(path: str) -> bool:
    """Whether a file of that name is a source of this plugin."""
    name = Path(path).name
    return name in NAMES or name.endswith(tuple(f".{each}" for each in NAMES))


def ask(params: dict[str, Any]) -> dict[str, Any]:
    """Return what the first agent that knows of the cluster says of it (`GET /cluster`).

    An agent that answers with an error is passed over, too: it may have lost the others.
    Raises ValueError, which names every agent that was tried and what came of it.
    """
    unknown = sorted(set(params["tls"]) - set(TLS_FILES))
    if unknown:
        raise ValueError(f"tls: {', '.join(unknown)} is not known: say {', '.join(TLS_FILES)}")
    tried = []
    for url in params["agents"]:
        try:
            cluster = Agents.of({**params, "agents": [url]}).get("/cluster")
        except HttpError as error:
            tried.append(str(error) if url.rstrip("/") in str(error) else f"{url}: {error}")
            continue
        except OSError as error:
            raise ValueError(f"tls: the files {params['tls']} cannot be used: {error}") from error
        if isinstance(cluster, dict) and cluster.get("members"):
            return cluster
        tried.append(f"{url}: it answers, and knows of no member")
    raise ValueError(
        f"agents: none of {', '.join(params['agents']) or 'an empty list'} tells the members "
        f"({'; '.join(tried) or 'none was named'})"
    )


def hosts_of(cluster: dict[str, Any], style: str) -> dict[str, dict[str, Any]]:
    """Return the hosts' variables by what they are called: *style* is `name` or `address`.

    Raises ValueError where an address is missing or stands for two members.
    """
    members = cluster["members"]
    if style == "address":
        counted = Counter(str(member.get("host") or "") for member in members)
        wrong = sorted(address for address, count in counted.items() if not address or count > 1)
        if wrong:
            raise ValueError(
                f"hostname: members have no address of their own ({', '.join(wrong) or 'none'}): "
                "say hostname: name"
            )
    key = "host" if style == "address" else "name"
    return {str(member[key]): variables(cluster, member) for member in members}


def variables(cluster: dict[str, Any], member: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of *member*; None stands for what nobody knows.

    The leader is 0 bytes behind itself.
    """
    lag = 0 if member.get("role") in LEADERS else member.get("lag")
    found = {
        "pgherd_name": member["name"],
        "pgherd_cluster": cluster.get("scope"),
        "pgherd_role": member.get("role"),
        "pgherd_state": member.get("state"),
        "pgherd_timeline": member.get("timeline"),
        "pgherd_lag_bytes": lag if isinstance(lag, int) else None,
        "pgherd_tags": member.get("tags") or {},
        "pgherd_api_url": Agents.url_of(member),
    }
    return {"ansible_host": member["host"], **found} if member.get("host") else found


def groups_of(role: str) -> list[str]:
    """Return which of GROUPS a member of that *role* belongs to."""
    if role in LEADERS:
        return ["primary"]
    return ["replicas", "sync"] if role in VOTERS else ["replicas"]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """The inventory plugin."""

    NAME = "pgherd.cluster.cluster"

    def verify_file(self, path: str) -> bool:
        """Whether *path* is a file that this plugin should read."""
        return bool(super().verify_file(path)) and is_ours(path)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the cluster's members to *inventory*; raises AnsibleParserError."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            cluster = self._cluster(path, cache)
            hosts = hosts_of(cluster, self.get_option("hostname"))
        except ValueError as error:
            raise AnsibleParserError(f"{path}: {error}") from error
        prefix = self.get_option("group_prefix")
        for group in GROUPS:
            self.inventory.add_group(prefix + group)
        for name, values in hosts.items():
            self._add(name, values, prefix)

    def _cluster(self, path: str, cache: bool) -> dict[str, Any]:
        """Return the cluster from the cache, where that is wanted and filled, else ask for it.

        *cache* is false when the cache is to be renewed (--flush-cache). Raises as ask() does.
        """
        wanted = self.get_option("cache")
        key = self.get_cache_key(path)
        if wanted and cache and key in self._cache:
            return dict(self._cache[key])
        params = {name: self.templar.template(self.get_option(name)) for name in CONNECTION}
        cluster = ask(params)
        if wanted:
            self._cache[key] = cluster
        return cluster

    def _add(self, name: str, values: dict[str, Any], prefix: str) -> None:
        """Add one host with its variables, to our groups and to those the source asks for."""
        self.inventory.add_host(name)
        for group in groups_of(values["pgherd_role"]):
            self.inventory.add_child(prefix + group, name)
        for variable, value in values.items():
            self.inventory.set_variable(name, variable, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), values, name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), values, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), values, name, strict)
