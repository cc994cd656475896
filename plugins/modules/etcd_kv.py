#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write and delete a key of etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_kv
short_description: Write or delete a key of etcd
description:
  - Writes only what differs, and only if nobody else wrote the key meanwhile.
  - A key that hangs on a lease keeps it.
  - The keys below C(/NAMESPACE/CLUSTER/) belong to the agents, and are not to be written by others.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.etcd
options:
  key:
    description: Name of the key.
    type: str
    required: true
  value:
    description: What it holds. Required with O(state=present).
    type: str
  state:
    description: Whether the key shall be there.
    type: str
    choices: [present, absent]
    default: present
  mod_revision:
    description:
      - Go on only if the key was last written at this revision; V(0) means that it is not there.
      - P(pgherd.cluster.etcd_kv_info#module) tells the revision.
    type: int
attributes:
  check_mode:
    description: Says whether anything would be changed.
    support: full
  diff_mode:
    description: Shows the value before and after.
    support: full
"""

EXAMPLES = r"""
- name: Leave a note for other programs
  pgherd.cluster.etcd_kv:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    key: /notes/window
    value: saturday
"""

RETURN = r"""
mod_revision:
  description: At which revision the key was last written; 0 when it is not there.
  returned: success
  type: int
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import (
    ETCD_ARGUMENTS,
    EtcdStore,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import KeyValue


def plan(found: KeyValue | None, value: str | None, expected: int | None) -> str:
    """Return what makes the key hold *value* (None: be gone): nothing, put, delete or refuse.

    *expected* is the revision that the key must have, None for any.
    """
    if expected is not None and expected != (found.mod_revision if found else 0):
        return "refuse"
    if value is None:
        return "delete" if found else "nothing"
    return "nothing" if found and found.value == value else "put"


def apply(store: EtcdStore, key: str, found: KeyValue | None, action: str, value: str) -> bool:
    """Do *action* if the key is still as *found*; tell whether it was. Raises HttpError."""
    revision = found.mod_revision if found else 0
    if action == "put":
        return bool(store.put_if(key, value, revision, found.lease if found else 0))
    return bool(store.delete_if(key, revision))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ETCD_ARGUMENTS,
            "key": {"type": "str", "required": True, "no_log": False},
            "value": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "mod_revision": {"type": "int"},
        },
        required_if=[("state", "present", ["value"])],
        supports_check_mode=True,
    )
    params: dict[str, Any] = dict(module.params)
    key, value = params["key"], params["value"] if params["state"] == "present" else None
    try:
        store = EtcdStore.of(params)
        found = store.get(key)
        action = plan(found, value, params["mod_revision"])
        revision = found.mod_revision if found else 0
        if action == "refuse":
            module.fail_json(
                msg=f"mod_revision is {params['mod_revision']}, and {key} has {revision}: somebody "
                "wrote it; nothing was changed. Read it again.",
                mod_revision=revision,
            )
        if action != "nothing" and not module.check_mode:
            if not apply(store, key, found, action, value or ""):
                module.fail_json(msg=f"{key} was written by somebody else meanwhile; run again.")
            now = store.get(key)
            revision = now.mod_revision if now else 0
    except (HttpError, OSError, ValueError) as error:
        module.fail_json(msg=f"{key} cannot be {params['state']}: {error}")
    shown = {"before": found.value if found else "", "after": value or ""}
    module.exit_json(changed=action != "nothing", mod_revision=revision, diff=shown)


if __name__ == "__main__":
    main()
