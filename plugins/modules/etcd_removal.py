#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a member out of etcd, unless that costs the quorum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_removal
short_description: Take a member out of etcd
description:
  - Takes the member out of the cluster's list, from any host that reaches another member.
  - Refused when too few of those that are left are healthy, and for the last one.
  - A member that runs ends itself then, and what it has on its disk is of no use any more.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: Name of the member.
    type: str
    required: true
  peer_url:
    description: Its peer URL; a member that never ran has no name.
    type: str
    required: true
  urls:
    description: Client URLs of the other members.
    type: list
    elements: str
    required: true
  timeout_seconds:
    description: After how many seconds an endpoint counts as silent.
    type: float
    default: 2
  wait_seconds:
    description: How long to wait until those that are left have a leader again.
    type: float
    default: 20
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says whether the member would be taken out; fails where that would be refused.
    support: full
  diff_mode:
    description: Shows the names of the members before and after.
    support: full
"""

EXAMPLES = r"""
- name: Have etcd do without pg3
  pgherd.cluster.etcd_removal:
    name: pg3
    peer_url: http://10.0.0.3:2380
    urls: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379']
"""

RETURN = r"""
left:
  description: Names of the members that are left.
  returned: success
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import (
    EtcdClient,
    Member,
    probe_all,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpRefused,
    Tls,
)

PAUSE_SECONDS = 0.3


def find(members: list[Member], name: str, peer_url: str) -> Member | None:
    """Return the member that is meant, None when it is not in the list."""
    return next((each for each in members if each.name == name or peer_url in each.peer_urls), None)


def refusal(members: list[Member], going: Member, healthy: set[str]) -> str:
    """Return why *going* must stay, or an empty string; *healthy* are ids of members."""
    left = [each for each in members if each.id != going.id and not each.learner]
    if not left:
        return "it is the last member of etcd, without which no agent can lead: add others first"
    needed = len(left) // 2 + 1
    well = [each for each in left if each.id in healthy]
    if going.learner or len(well) >= needed:
        return ""
    sick = ", ".join(each.name or each.peer_urls[0] for each in left if each not in well)
    return (
        f"of the {len(left)} members of etcd that would be left only {len(well)} are healthy and "
        f"{needed} are needed: mend {sick} first"
    )


def ask(urls: list[str], timeout_seconds: float, tls: Tls) -> tuple[EtcdClient, list[Member]]:
    """Return the first member that answers through the quorum, and its list; raises HttpError."""
    problems = []
    for url in urls:
        client = EtcdClient(url, timeout_seconds, tls)
        try:
            return client, client.members()
        except HttpError as error:
            problems.append(f"{url}: {error}")
    raise HttpRefused(
        f"etcd has no quorum, so that its list cannot be changed ({'; '.join(problems)}): start "
        "members that are stopped first"
    )


def healthy_ids(members: list[Member], timeout_seconds: float, tls: Tls) -> set[str]:
    """Return the ids of the members that answer through the quorum."""
    urls = [each.client_urls[0] for each in members if each.client_urls]
    return {health.member_id for health in probe_all(urls, timeout_seconds, tls) if health.healthy}


def await_quorum(urls: list[str], params: dict[str, Any], tls: Tls) -> bool:
    """Wait until one of *urls* answers through the quorum: who leads may have been taken out."""
    deadline = time.monotonic() + params["wait_seconds"]
    while True:
        if any(each.healthy for each in probe_all(urls, params["timeout_seconds"], tls)):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(PAUSE_SECONDS)


def remove(params: dict[str, Any], tls: Tls, check: bool) -> dict[str, Any]:
    """Take the member out and return the module's result; raises HttpError, ValueError."""
    client, members = ask(params["urls"], params["timeout_seconds"], tls)
    going = find(members, params["name"], params["peer_url"])
    names = sorted(each.name for each in members)
    left = sorted(each.name for each in members if each is not going)
    if going is not None:
        reason = refusal(members, going, healthy_ids(members, params["timeout_seconds"], tls))
        if reason:
            raise ValueError(f"{reason}. Nothing was changed.")
        if not check:
            client.member_remove(going)
            if not await_quorum(params["urls"], params, tls):
                raise ValueError(
                    f"it is taken out, and the others ({', '.join(left)}) have no leader after "
                    f"{params['wait_seconds']:g} s: look at `journalctl -u etcd` there"
                )
    diff = {"before": "".join(f"{name}\n" for name in names)}
    diff["after"] = "".join(f"{name}\n" for name in left)
    return {"changed": going is not None, "left": left, "diff": diff}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "peer_url": {"type": "str", "required": True},
            "urls": {"type": "list", "elements": "str", "required": True},
            "timeout_seconds": {"type": "float", "default": 2},
            "wait_seconds": {"type": "float", "default": 20},
            "tls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    try:
        result = remove(params, Tls(**params["tls"]), bool(module.check_mode))
    except (HttpError, ValueError) as error:
        module.fail_json(msg=f"etcd member {params['name']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
