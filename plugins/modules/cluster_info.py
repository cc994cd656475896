#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a cluster's state from one of its agents, waiting for health within a bound."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Read the members of a pgherd cluster
description:
  - Asks one agent's REST API for the cluster.
  - Can wait, within a bound, until it has one leader that runs and every other member streams.
  - On failure it says what is missing and quotes the last lines of this host's journal.
version_added: 0.1.0
author: The pgherd developers
options:
  url:
    description: URL of an agent's REST API.
    type: str
    required: true
  members:
    description: Names of all members that must be healthy.
    type: list
    elements: str
    default: []
  wait_seconds:
    description: How long to wait for health; V(0) asks once and never fails.
    type: float
    default: 0
  timeout_seconds:
    description: After how many seconds an agent counts as silent.
    type: float
    default: 2
  unit:
    description: The agent's unit, whose journal is quoted.
    type: str
    default: pgherd.service
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Reads only, so a check run is a run; it does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Wait until the cluster is healthy
  pgherd.cluster.cluster_info:
    url: http://10.0.0.1:8008
    members: [pg1, pg2, pg3]
    wait_seconds: 120
"""

RETURN = r"""
healthy:
  description: Whether there is one running leader and every other member streams.
  returned: always
  type: bool
leader:
  description: Name of the leader, empty without one.
  returned: always
  type: str
members:
  description: The members as the agent's C(/cluster) has them.
  returned: always
  type: list
  elements: dict
well:
  description: Names of the members that run as leader or stream.
  returned: always
  type: list
  elements: str
problems:
  description: What stands between the cluster and health, a sentence each.
  returned: always
  type: list
  elements: str
config:
  description: The dynamic configuration as the agent has it, empty when it does not tell.
  returned: always
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import (
    ARGUMENTS,
    journal,
    wait,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    Tls,
    request_json,
)


def dynamic_config(params: dict[str, Any], tls: Tls) -> dict[str, Any]:
    """Return the dynamic configuration, empty while the agent cannot tell."""
    try:
        config = request_json(f"{params['url']}/config", None, params["timeout_seconds"], tls)
    except HttpError:
        return {}  # a new cluster has none, and an agent that is restarted is asked again later
    return config if isinstance(config, dict) else {}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**ARGUMENTS, "wait_seconds": {"type": "float", "default": 0}},
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    if module.check_mode:
        params["wait_seconds"] = 0
    tls = Tls(**params["tls"])
    seen = wait(params, tls)
    seen["config"] = dynamic_config(params, tls) if seen["leader"] else {}
    if params["wait_seconds"] and not seen["healthy"]:
        module.fail_json(
            msg=f"The cluster is not healthy after {params['wait_seconds']:g} s: "
            f"{'; '.join(seen['problems'])}. The last lines of {params['unit']} on this host:\n"
            f"{journal(module, params['unit'])}",
            changed=False,
            **seen,
        )
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
