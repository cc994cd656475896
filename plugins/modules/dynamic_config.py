#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring keys into a cluster's dynamic configuration, through one of its agents."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dynamic_config
short_description: Change the dynamic configuration of a pgherd cluster
description:
  - Lays a mapping on the dynamic configuration that all members of a cluster share.
  - What is not named stays as it is.
  - The agent checks the result before it is stored, and says what is wrong.
version_added: 0.2.0
author: The pgherd developers
options:
  url:
    description: URL of an agent's REST API.
    type: str
    required: true
  config:
    description: What the configuration shall hold, merged key by key; null takes a key out.
    type: dict
    default: {}
  timings:
    description:
      - The agents' timings of the inventory.
      - They are in the agents' files as well, which count where the cluster says nothing.
        So those that the dynamic configuration does not hold are not put there.
    type: dict
    default: {}
  username:
    description: Name for the agent's REST API.
    type: str
    default: ""
  password:
    description: Password for the agent's REST API.
    type: str
    default: ""
  timeout_seconds:
    description: After how many seconds an agent counts as silent.
    type: float
    default: 10
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Reads the configuration and says what would be changed.
    support: full
  diff_mode:
    description: Shows the configuration before and after.
    support: full
"""

EXAMPLES = r"""
- name: Let standbys lag no more than 16 MB behind to be elected
  pgherd.cluster.dynamic_config:
    url: http://10.0.0.1:8008
    config:
      maximum_lag_on_failover: 16777216
    username: pgherd
    password: "{{ password }}"
"""

RETURN = r"""
config:
  description: The configuration as it is now.
  returned: success
  type: dict
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    Tls,
    request_json,
)


def laid_on(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return *base* with *patch* laid on it as the agents do: null takes a key out."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            old = merged.get(key)
            merged[key] = laid_on(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def patch_of(
    current: dict[str, Any], config: dict[str, Any], timings: dict[str, Any]
) -> dict[str, Any]:
    """Return what has to be asked for: *config*, and of *timings* what *current* holds."""
    given = current.get("pgherd")
    held = given if isinstance(given, dict) else {}
    ours = {name: value for name, value in timings.items() if name in held}
    if not ours or config.get("pgherd", {}) is None:
        return config
    return {**config, "pgherd": {**ours, **config.get("pgherd", {})}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "config": {"type": "dict", "default": {}},
            "timings": {"type": "dict", "default": {}},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "timeout_seconds": {"type": "float", "default": 10},
            "tls": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    url, tls = f"{params['url']}/config", Tls(**params["tls"])
    login = (params["username"], params["password"]) if params["password"] else None
    try:
        before = request_json(url, None, params["timeout_seconds"], tls)
        patch = patch_of(before, params["config"], params["timings"])
        after = laid_on(before, patch)
        if after != before and not module.check_mode:
            after = request_json(
                url, patch, params["timeout_seconds"], tls, method="PATCH", login=login
            )
    except HttpError as error:
        module.fail_json(msg=f"The dynamic configuration at {url}: {error}", changed=False)
    shown = {"before": json.dumps(before, indent=2), "after": json.dumps(after, indent=2)}
    module.exit_json(changed=after != before, config=after, diff=shown)


if __name__ == "__main__":
    main()
