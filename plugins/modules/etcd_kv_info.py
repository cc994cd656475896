#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read keys of etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_kv_info
short_description: Read keys of etcd
description:
  - Reads one key, or all keys with a common beginning, through the quorum.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.etcd
options:
  key:
    description: Name of one key.
    type: str
  prefix:
    description: Beginning of the names of keys; V("") means all.
    type: str
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Read what the members say of themselves
  pgherd.cluster.etcd_kv_info:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    prefix: /service/demo/members/
"""

RETURN = r"""
keys:
  description:
    - The keys that are there, sorted, each with C(key), C(value), C(create_revision),
      C(mod_revision) and C(lease) (hexadecimal, empty for none).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import (
    ETCD_ARGUMENTS,
    EtcdStore,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ETCD_ARGUMENTS,
            "key": {"type": "str", "no_log": False},
            "prefix": {"type": "str"},
        },
        required_one_of=[("key", "prefix")],
        mutually_exclusive=[("key", "prefix")],
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    try:
        store = EtcdStore.of(params)
        if params["key"] is None:
            found = store.range(params["prefix"])
        else:
            one = store.get(params["key"])
            found = [one] if one else []
    except (HttpError, OSError, ValueError) as error:
        module.fail_json(msg=f"etcd cannot be read: {error}")
    module.exit_json(changed=False, keys=[each.as_dict() for each in found])


if __name__ == "__main__":
    main()
