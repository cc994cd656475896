#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Assert that a cluster is well, now or within a bound."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_health
short_description: Assert that a pgherd cluster is well
description:
  - Asks the agents and fails with a sentence for each condition that does not hold.
  - With O(wait_seconds) it waits until all of them hold.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  members:
    description: Names of the members that have to be there; others may be there too.
    type: list
    elements: str
    default: []
  checks:
    description:
      - What is looked at; without it everything.
      - V(leader), one leads and runs; V(members), all answer and stream; V(timeline), they are on
        one timeline; V(lag), they are within O(lag_bytes_max).
      - V(sync), commits wait for standbys that stream, where they shall; V(quorum), any one
        standby may be lost without an end to writes (three members or more).
      - V(pending_restart), no setting waits for a restart; V(paused), it is not in maintenance
        mode; V(guard), a guard watches the primary; V(disk), the data disks are well.
      - V(slots), no slot is lost, or unused and beyond O(slot_bytes_max).
      - V(certificates), those of agents and O(etcd_endpoints) that speak TLS are good for
        O(certificate_days_min); V(archiving), where WAL is archived the last attempt was good and
        none waits longer than O(archive_seconds_max).
      - V(backup), every repository of O(backups) has a good backup of the last O(backup_hours_max)
        and all WAL since; V(restore_drill), the last one passed, in the last O(drill_days_max).
    type: list
    elements: str
    choices:
      - leader
      - members
      - timeline
      - lag
      - sync
      - quorum
      - pending_restart
      - paused
      - guard
      - disk
      - slots
      - certificates
      - archiving
      - backup
      - restore_drill
  lag_bytes_max:
    description: How many bytes of WAL a standby may be behind.
    type: int
    default: 16777216
  slot_bytes_max:
    description: How many bytes of WAL a slot that nobody reads may keep.
    type: int
    default: 1073741824
  certificate_days_min:
    description: For how many days certificates have to be good.
    type: float
    default: 7
  archive_seconds_max:
    description: How long a segment of WAL may wait to be archived.
    type: float
    default: 300
  backups:
    description:
      - What M(pgherd.cluster.backup_info) found on the host that takes backups; without it they are
        not looked at. A mapping with V(problem) says that nobody knows.
    type: dict
    default: {}
  backup_hours_max:
    description: How old the newest backup may be.
    type: float
    default: 36
  drill_days_max:
    description: How long ago the last restore drill may be.
    type: float
    default: 8
  etcd_endpoints:
    description: Client URLs of etcd's members, whose certificates are looked at, too.
    type: list
    elements: str
    default: []
  etcd_tls:
    description: Client certificate files for them (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
  wait_seconds:
    description: How long to wait; V(0) looks once.
    type: float
    default: 0
  fail:
    description: Whether to fail when something does not hold.
    type: bool
    default: true
attributes:
  check_mode:
    description: Reads only, so a check run is a run; it does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Go on when the cluster is well
  pgherd.cluster.cluster_health:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008, http://10.0.0.3:8008]
    members: [pg1, pg2, pg3]
    wait_seconds: 120

- name: Tell what is not well, and go on
  pgherd.cluster.cluster_health:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008, http://10.0.0.3:8008]
    fail: false
  register: health
"""

RETURN = r"""
healthy:
  description: Whether all that was looked at holds.
  returned: always
  type: bool
problems:
  description: What does not hold, a sentence each.
  returned: always
  type: list
  elements: str
checks:
  description: The sentences of each check that was made, none where it holds.
  returned: when an agent answered
  type: dict
skipped:
  description:
    - Why a check did not look at anything, by its name. A cluster without TLS has no certificates,
      and one that does not archive no archiver; that is no problem.
  returned: when an agent answered
  type: dict
  sample: {certificates: nothing that was asked speaks TLS}
leader:
  description: Name of the leader, empty without one.
  returned: always
  type: str
members:
  description: The members as C(/cluster) has them.
  returned: always
  type: list
  elements: dict
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._certificates import ask_all
from ansible_collections.pgherd.cluster.plugins.module_utils._health import (
    CHECKS,
    Allowed,
    examine,
    skipped,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError, Tls
from ansible_collections.pgherd.cluster.plugins.module_utils._members import leader_of
from ansible_collections.pgherd.cluster.plugins.module_utils._observe import observe

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._health import Seen

PAUSE_SECONDS = 0.5
BOUNDS = (
    "lag_bytes_max",
    "slot_bytes_max",
    "certificate_days_min",
    "archive_seconds_max",
    "backup_hours_max",
    "drill_days_max",
)
OPTIONS: dict[str, dict[str, Any]] = {
    "members": {"type": "list", "elements": "str", "default": []},
    "checks": {"type": "list", "elements": "str", "choices": list(CHECKS)},
    "lag_bytes_max": {"type": "int", "default": 16777216},
    "slot_bytes_max": {"type": "int", "default": 1073741824},
    "certificate_days_min": {"type": "float", "default": 7},
    "archive_seconds_max": {"type": "float", "default": 300},
    "backups": {"type": "dict", "default": {}},
    "backup_hours_max": {"type": "float", "default": 36},
    "drill_days_max": {"type": "float", "default": 8},
    "etcd_endpoints": {"type": "list", "elements": "str", "default": []},
    "etcd_tls": {"type": "dict", "default": {}},
    "wait_seconds": {"type": "float", "default": 0},
    "fail": {"type": "bool", "default": True},
}


def certificates_of(agents: Agents, seen: Seen, params: dict[str, Any]) -> dict[str, float | str]:
    """Return the days that are left of each certificate, or what is wrong with it."""
    rest = {f"the agent of {name}": agents.url_of(row) for name, row in seen.members.items()}
    etcd = {f"etcd at {url}": url for url in params["etcd_endpoints"]}
    return {
        **ask_all(rest, agents.timeout_seconds, agents.tls),
        **ask_all(etcd, agents.timeout_seconds, Tls(**params["etcd_tls"])),
    }


def look(agents: Agents, params: dict[str, Any]) -> dict[str, Any]:
    """Look once and return what the module returns; an agent that is silent is a problem."""
    names = params["checks"] or list(CHECKS)
    bounds = {name: params[name] for name in BOUNDS}
    allowed = Allowed(tuple(params["members"]), **bounds)
    try:
        seen = observe(agents)
    except HttpError as error:
        return {"healthy": False, "problems": [str(error)], "leader": "", "members": []}
    seen = replace(seen, backups=params["backups"])
    if "certificates" in names:
        seen = replace(seen, certificates=certificates_of(agents, seen, params))
    checks = examine(seen, allowed, names)
    # One sentence may answer two questions.
    problems = list(dict.fromkeys(sentence for said in checks.values() for sentence in said))
    return {
        "healthy": not problems,
        "problems": problems,
        "checks": checks,
        "skipped": skipped(seen, names),
        "leader": leader_of(seen.cluster),
        "members": list(seen.members.values()),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**AGENT_ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    params: dict[str, Any] = dict(module.params)
    agents = Agents.of(params)
    wait_seconds = 0 if module.check_mode else params["wait_seconds"]
    deadline = time.monotonic() + wait_seconds
    while True:
        found = look(agents, params)
        if found["healthy"] or time.monotonic() >= deadline:
            break
        time.sleep(PAUSE_SECONDS)
    if params["fail"] and not found["healthy"]:
        after = f" after {wait_seconds:g} s" if wait_seconds else ""
        said = "; ".join(found["problems"])
        module.fail_json(msg=f"The cluster is not well{after}: {said}.", changed=False, **found)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
