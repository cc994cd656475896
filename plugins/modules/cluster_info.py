#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what a cluster is, waiting for health within a bound."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Read the members, the leader and the configuration of a pgherd cluster
description:
  - Asks the agents' REST API what the cluster is; P(pgherd.cluster.cluster_config#module) changes
    its configuration, P(pgherd.cluster.cluster_health#module) judges it.
  - Can wait, within a bound, until it has one leader that runs and every other member streams.
  - Patroni's members can be asked as well; what only pgherd tells is null then.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.agent
options:
  members:
    description: Names of all members that must be healthy.
    type: list
    elements: str
    default: []
  wait_seconds:
    description: How long to wait for health; V(0) asks once and never fails.
    type: float
    default: 0
  unit:
    description: The agent's unit, whose journal on this host is quoted when the wait is in vain.
    type: str
    default: pgherd.service
attributes:
  check_mode:
    description: Reads only, so a check run is a run; it does not wait.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: See who leads
  pgherd.cluster.cluster_info:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008, http://10.0.0.3:8008]
  register: cluster

- name: Say who is furthest behind
  ansible.builtin.debug:
    msg: "{{ cluster.lag_bytes | dict2items | sort(attribute='value') | last }}"

- name: Wait until the cluster is healthy
  pgherd.cluster.cluster_info:
    agents: [http://10.0.0.1:8008]
    members: [pg1, pg2, pg3]
    wait_seconds: 120
"""

RETURN = r"""
healthy:
  description: Whether there is one running leader and every member of O(members) streams.
  returned: always
  type: bool
problems:
  description: What stands between the cluster and health, a sentence each.
  returned: always
  type: list
  elements: str
leader:
  description: Name of the leader, empty without one.
  returned: always
  type: str
timeline:
  description: The timeline of the leader, null when nobody tells it.
  returned: always
  type: int
paused:
  description: Whether the cluster is in maintenance mode.
  returned: always
  type: bool
members:
  description: The members as the agent's C(/cluster) has them, none when no agent answers.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    role:
      description: C(leader), C(standby_leader), C(quorum_standby), C(sync_standby) or C(replica).
      type: str
    state:
      description: C(running) or C(streaming) when all is well.
      type: str
    host:
      description: Where its PostgreSQL listens.
      type: str
    port:
      description: On which port.
      type: int
    api_url:
      description: The page of its agent about itself.
      type: str
    timeline:
      description: The timeline it is on; left out when it does not run.
      type: int
    lag:
      description: Bytes that it has yet to apply, or C(unknown); left out of the leader's.
      type: raw
    pending_restart:
      description: True when settings wait for a restart, else left out.
      type: bool
    tags:
      description: Its tags, left out when it has none.
      type: dict
well:
  description: Names of the members that run as leader or stream.
  returned: always
  type: list
  elements: str
lag_bytes:
  description: How many bytes of WAL each standby has yet to apply, null when nobody knows.
  returned: always
  type: dict
sync:
  description: For whom commits wait.
  returned: always
  type: dict
  contains:
    mode:
      description: C(off), C(on) or C(quorum); C(off) in a standby cluster.
      type: str
    strict:
      description: Whether they wait also while there is no standby to wait for.
      type: bool
    standbys:
      description: Names of those who acknowledge.
      type: list
      elements: str
    acknowledgements:
      description: How many of these a commit waits for; null when nobody tells.
      type: int
history:
  description:
    - The timelines that ended, the oldest first, each a list of its number, where it ended, why,
      and where that is known when and who led then.
    - Empty when no agent tells.
  returned: always
  type: list
  elements: list
config:
  description: The dynamic configuration, empty when no agent tells.
  returned: always
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._cluster import journal, wait
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError
from ansible_collections.pgherd.cluster.plugins.module_utils._members import VOTERS, by_name

OPTIONS: dict[str, dict[str, Any]] = {
    "members": {"type": "list", "elements": "str", "default": []},
    "wait_seconds": {"type": "float", "default": 0},
    "unit": {"type": "str", "default": "pgherd.service"},
}
MODES = {"quorum": "quorum", "on": "on", "true": "on"}


def sync_of(cluster: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return for whom commits wait; Patroni's members tell less of it in *cluster*."""
    told = cluster.get("pgherd") or {}
    asked = config.get("synchronous_mode") if not config.get("standby_cluster") else None
    mode = MODES.get(str(told.get("synchronous_mode", asked)).lower(), "off")
    return {
        "mode": mode,
        "strict": bool(told.get("strict", mode != "off" and config.get("synchronous_mode_strict"))),
        "standbys": sorted(n for n, m in by_name(cluster).items() if m.get("role") in VOTERS),
        "acknowledgements": 0 if mode == "off" else told.get("acknowledgements"),
    }


def more(agents: Agents, cluster: dict[str, Any]) -> dict[str, Any]:
    """Return sync, history and configuration; what no agent tells is empty."""
    config: dict[str, Any] = {}
    history: list[Any] = []
    try:
        if cluster:
            history = agents.history()
            config = agents.config()
    except HttpError:
        pass  # a new cluster has none, and an agent that is restarted is asked again later
    return {"sync": sync_of(cluster, config), "history": history, "config": config}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**AGENT_ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    params: dict[str, Any] = dict(module.params)
    agents, unit = Agents.of(params), params["unit"]
    wait_seconds = 0 if module.check_mode else params["wait_seconds"]
    cluster, seen = wait(agents, params["members"], wait_seconds)
    seen.update(more(agents, cluster))
    if wait_seconds and not seen["healthy"]:
        module.fail_json(
            msg=f"The cluster is not healthy after {wait_seconds:g} s: "
            f"{'; '.join(seen['problems'])}. The last lines of {unit} on this host:\n"
            f"{journal(module, unit)}",
            changed=False,
            **seen,
        )
    module.exit_json(changed=False, **seen)


if __name__ == "__main__":
    main()
