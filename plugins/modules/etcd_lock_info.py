#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell who holds a lock in etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_lock_info
short_description: Tell who holds a lock in etcd
description:
  - Reads what P(pgherd.cluster.etcd_lock#module) writes.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.etcd
options:
  key:
    description: Name of the lock's key.
    type: str
    required: true
  required:
    description: Whether to fail when etcd does not answer; else RV(text) says that it does not.
    type: bool
    default: true
attributes:
  check_mode:
    description: Reads only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: See who works on the cluster
  pgherd.cluster.etcd_lock_info:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    key: /service/demo/playbook_lock
"""

RETURN = r"""
held:
  description: Whether anybody holds the lock.
  returned: success
  type: bool
lock:
  description:
    - Who holds it, C(holder), C(controller), C(pid), C(playbook), C(since), C(reason), C(depth),
      C(token).
  returned: when it is held
  type: dict
left_seconds:
  description: After how many seconds it ends by itself; not there when it does not.
  returned: when it is held
  type: int
text:
  description: The same as a sentence, empty when nobody holds it.
  returned: success
  type: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import (
    ETCD_ARGUMENTS,
    EtcdStore,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._lock import Holder, sentence


def look(store: EtcdStore, key: str, now: float) -> dict[str, Any]:
    """Return what the module does; *now* is in seconds of the epoch. Raises HttpError."""
    found = store.get(key)
    if found is None:
        return {"held": False, "text": ""}
    holder = Holder.from_text(found.value)
    left = store.lease_ttl(found.lease) if found.lease else None
    ends = {} if left is None else {"left_seconds": left}
    text = sentence(holder, now, left)
    return {"held": True, "lock": holder.as_dict(), "text": text, **ends}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ETCD_ARGUMENTS,
            "key": {"type": "str", "required": True, "no_log": False},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    try:
        result = look(EtcdStore.of(params), params["key"], time.time())
    except HttpError as error:
        if params["required"]:
            module.fail_json(msg=f"{params['key']}: {error}")
        result = {"held": False, "text": f"Nobody knows who holds the lock: {error}"}
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{params['key']}: {error}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
