#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients do in this host's PostgreSQL; also as a wait until they do nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_queries_info
short_description: Wait until no client of this host's PostgreSQL is at work
description:
  - Counts client connections that run a query or are in a transaction.
  - The agent's own do not count.
  - A PostgreSQL that does not run has none.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  port:
    description: Port of PostgreSQL.
    type: int
    default: 5432
  system_user:
    description: User of the host who may log in as the superuser of the same name.
    type: str
    default: postgres
  wait_seconds:
    description: How long to wait until there are none; what is left then is told, and no failure.
    type: float
    default: 0
attributes:
  check_mode:
    description: Reads only, so a check run is a run; it does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Let clients finish
  pgherd.cluster.client_queries_info:
    wait_seconds: 30
"""

RETURN = r"""
running:
  description: Whether PostgreSQL runs.
  returned: success
  type: bool
queries:
  description: Connections at work, each as C(pid), C(user), C(database), C(state) and C(seconds).
  returned: success
  type: list
  elements: dict
"""

import json
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._psql import SERVER_ARGUMENTS, ask

if TYPE_CHECKING:
    from collections.abc import Callable

PAUSE_SECONDS = 0.5
AT_WORK = """
SELECT coalesce(json_agg(json_build_object(
    'pid', pid, 'user', usename, 'database', datname, 'state', state,
    'seconds', round(extract(epoch FROM clock_timestamp() - xact_start))) ORDER BY pid), '[]')
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()
  AND application_name <> 'pgherd'
"""


def await_none(
    look: Callable[[], list[dict[str, Any]] | None], wait_seconds: float
) -> list[dict[str, Any]] | None:
    """Return what *look* finds (None: no server) once that is nothing, or the bound has passed."""
    deadline = time.monotonic() + wait_seconds
    while True:
        found = look()
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**SERVER_ARGUMENTS, "wait_seconds": {"type": "float", "default": 0}},
        supports_check_mode=True,
    )

    def look() -> list[dict[str, Any]] | None:
        text = ask(module, AT_WORK)
        if text is None:
            return None
        found: list[dict[str, Any]] = json.loads(text)
        return found

    wait_seconds = 0 if module.check_mode else module.params["wait_seconds"]
    found = await_none(look, wait_seconds)
    module.exit_json(changed=False, running=found is not None, queries=found or [])


if __name__ == "__main__":
    main()
