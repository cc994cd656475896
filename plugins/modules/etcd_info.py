#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the health of an etcd cluster, waiting for it within a bound."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_info
short_description: Read members and health of an etcd cluster
description:
  - Asks every endpoint at once for its status and for a read through the quorum.
  - Can wait, within a bound, until all of them are healthy.
  - Fails with what each sick one says when they are not.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  urls:
    description: Client URLs of all members.
    type: list
    elements: str
    required: true
  wait_seconds:
    description: How long to wait for all endpoints to be healthy; V(0) asks once and never fails.
    type: float
    default: 0
  timeout_seconds:
    description: After how many seconds an endpoint counts as silent.
    type: float
    default: 2
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait until etcd has all its members
  pgherd.cluster.etcd_info:
    urls: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    wait_seconds: 20
"""

RETURN = r"""
healthy:
  description: Whether every endpoint is healthy.
  returned: always
  type: bool
endpoints:
  description:
    - Per endpoint url, status, detail, version and is_leader.
    - The status is healthy, unhealthy, silent or refused.
  returned: always
  type: list
  elements: dict
members:
  description: The cluster's own list of members.
  returned: always
  type: list
  elements: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import (
    EtcdClient,
    Health,
    probe_all,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError, Tls

PAUSE_SECONDS = 0.3


def complaint(healths: list[Health]) -> str:
    """Return one sentence about the endpoints that are not healthy."""
    sick = [f"{health.url} {health.detail}" for health in healths if not health.healthy]
    return "; ".join(sick)


def wait(params: dict[str, Any], tls: Tls) -> list[Health]:
    """Probe all endpoints until they are healthy or the bound has passed."""
    deadline = time.monotonic() + params["wait_seconds"]
    while True:
        healths: list[Health] = probe_all(params["urls"], params["timeout_seconds"], tls)
        left = deadline - time.monotonic()
        if left <= 0 or all(health.healthy for health in healths):
            return healths
        time.sleep(min(PAUSE_SECONDS, left))


def member_list(healths: list[Health], timeout_seconds: float, tls: Tls) -> list[dict[str, Any]]:
    """Return the members as the first healthy endpoint knows them."""
    for health in healths:
        if not health.healthy:
            continue
        try:
            members = EtcdClient(health.url, timeout_seconds, tls).members()
        except HttpError:
            continue  # it fell ill since the probe; the next one knows the same list
        found: list[dict[str, Any]] = [member.as_dict() for member in members]
        return found
    return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "wait_seconds": {"type": "float", "default": 0},
            "timeout_seconds": {"type": "float", "default": 2},
            "tls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    tls = Tls(**params["tls"])
    if module.check_mode:
        params["wait_seconds"] = 0
    healths = wait(params, tls)
    result = {
        "changed": False,
        "healthy": all(health.healthy for health in healths),
        "endpoints": [health.as_dict() for health in healths],
        "members": member_list(healths, params["timeout_seconds"], tls),
    }
    if params["wait_seconds"] and not result["healthy"]:
        module.fail_json(
            msg=f"etcd is not healthy after {params['wait_seconds']:g} s: {complaint(healths)}. "
            "Look at `journalctl -u etcd` on the host it names.",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
