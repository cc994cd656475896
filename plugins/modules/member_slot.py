#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give up the replication slot of a member that has left for good."""

from __future__ import annotations

DOCUMENTATION = r"""
module: member_slot
short_description: Give up the replication slot of a member that has left
description:
  - Drops the slot on this host, which has to be the leader's. The agents of the others do the same
    then, and make it again only when the member is back.
  - Without it the slot keeps WAL for the member until C(member_slots_ttl) has passed.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  member:
    description: Name of the member.
    type: str
    required: true
  wait_seconds:
    description: How long to wait until nobody uses the slot.
    type: float
    default: 30
  port:
    description: Port of PostgreSQL.
    type: int
    default: 5432
  system_user:
    description: User of the host who may log in as the superuser of the same name.
    type: str
    default: postgres
attributes:
  check_mode:
    description: Says whether there is a slot to drop.
    support: full
  diff_mode:
    description: Names the slot.
    support: full
"""

EXAMPLES = r"""
- name: Keep no more WAL for pg3
  pgherd.cluster.member_slot:
    member: pg3
"""

RETURN = r"""
slot:
  description: Name of the slot.
  returned: success
  type: str
"""

import re
import time
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._psql import SERVER_ARGUMENTS, ask

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 0.3
LOOK = "SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
# By a query that finds it: somebody else may be faster.
DROP = (
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
    "WHERE slot_name = '{slot}' AND slot_type = 'physical'"
)


def slot_name(member: str) -> str:
    """Return the slot that *member* streams from (Patroni's naming); safe within quotes."""
    return re.sub(r"[^a-z0-9_]", "_", member.lower())[:63]


def plan(active: str) -> str:
    """Return what is to be done about a slot that is *active* ('' when there is none)."""
    return {"": "nothing", "t": "wait"}.get(active, "drop")


def settle(look: Callable[[], str], wait_seconds: float) -> str:
    """Return what is to be done once that is not to wait, or once the bound has passed."""
    deadline = time.monotonic() + wait_seconds
    while True:
        action = plan(look())
        if action != "wait" or time.monotonic() >= deadline:
            return action
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **SERVER_ARGUMENTS,
            "member": {"type": "str", "required": True},
            "wait_seconds": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    slot = slot_name(module.params["member"])

    def run(sql: str) -> str:
        text = ask(module, sql.format(slot=slot))
        if text is None:
            module.fail_json(msg="No PostgreSQL answers here: run this on the leader's host.")
        return str(text)

    action = settle(lambda: run(LOOK), 0 if module.check_mode else module.params["wait_seconds"])
    if action == "wait" and not module.check_mode:
        module.fail_json(
            msg=f"Somebody still streams from the slot {slot}: stop PostgreSQL on "
            f"{module.params['member']}, then run this again."
        )
    if action == "drop" and not module.check_mode:
        run(DROP)
    there = action != "nothing"
    diff = {"before": f"{slot}\n" if there else "", "after": ""}
    module.exit_json(changed=there, slot=slot, diff=diff)


if __name__ == "__main__":
    main()
