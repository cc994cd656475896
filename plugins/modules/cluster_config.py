#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring keys into a cluster's dynamic configuration, and tell what that takes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_config
short_description: Change the dynamic configuration of a pgherd cluster
description:
  - Lays a mapping on the dynamic configuration that all members of a cluster share.
  - What is not named stays as it is.
  - Every member's agent checks the result before anything is stored, and says what is wrong; and
    tells whether the change takes effect by itself, or waits for a restart of PostgreSQL there.
  - Nothing is restarted. P(pgherd.cluster.member#module) does that, in the order that is returned.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
seealso:
  - module: pgherd.cluster.cluster_info
    description: Reads the dynamic configuration.
extends_documentation_fragment: pgherd.cluster.agent
options:
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
  wait_seconds:
    description:
      - How long to wait until every member that runs has taken the configuration in.
      - V(0) does not wait.
    type: float
    default: 30
attributes:
  check_mode:
    description: Asks every member what would come of it, and says what would be refused.
    support: full
  diff_mode:
    description: Shows the configuration before and after.
    support: full
"""

EXAMPLES = r"""
- name: Give each query more memory, and take the limit of the lag out
  pgherd.cluster.cluster_config:
    agents: [http://10.0.0.1:8008, http://10.0.0.2:8008]
    username: pgherd
    password: "{{ password }}"
    config:
      maximum_lag_on_failover: null
      postgresql:
        parameters:
          work_mem: 16MB
  register: done

- name: Say who waits for a restart
  ansible.builtin.debug:
    msg: "{{ done.restart_order | join(', then ') }}"
"""

RETURN = r"""
config:
  description: The configuration as it is now; in check mode as it would be.
  returned: success
  type: dict
changes:
  description: What differs, down to the single settings.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: Where it stands, such as C(postgresql.parameters.work_mem).
      type: str
    before:
      description: The value before; null for none.
      type: raw
    after:
      description: The value after; null for none.
      type: raw
    effect:
      description:
        - C(restart), some members have to be restarted for it; C(reload), PostgreSQL reads it
          again, by itself; C(agent), the agents heed it, at once; C(none), nothing comes of it, as
          members' own files say otherwise or it is the same; C(unknown), no PostgreSQL could be
          asked.
        - Where it is not the same on all members it is the greatest of them.
      type: str
    restarts:
      description: Names of the members that have to be restarted for it.
      type: list
      elements: str
restart_members:
  description: Names of the members that wait for a restart then, for this or an earlier change.
  returned: success
  type: list
  elements: str
restart_reasons:
  description: For what each of them waits, C(old_value) and C(new_value) by setting.
  returned: success
  type: dict
restart_order:
  description:
    - The order in which a rolling restart of those who wait takes the members.
    - Standbys come first and the leader last. Where C(max_connections), C(max_worker_processes),
      C(max_wal_senders), C(max_prepared_transactions) or C(max_locks_per_transaction) is lowered
      the leader is first, and everybody is restarted; with others of them raised the standbys have
      a turn before and one after it.
  returned: success
  type: list
  elements: str
restart_in_place:
  description:
    - Whether the leader is restarted without handing the lead over, where its turn comes. That is
      so when it has to be before others, when it is alone, and in a standby cluster.
  returned: success
  type: bool
leader:
  description: Name of the leader, empty without one.
  returned: success
  type: str
silent:
  description: Why a member did not tell what would come of it there, by name.
  returned: success
  type: dict
problems:
  description: Why it is refused, the agents' own sentences.
  returned: when it is refused
  type: list
  elements: str
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._agents import (
    AGENT_ARGUMENTS,
    Agents,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._configuration import (
    Told,
    laid_on,
    outcome,
    patch_of,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpRefused,
    HttpSilent,
    Reply,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._members import by_name, leader_of
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import OperationError

PAUSE_SECONDS = 0.2
OPTIONS: dict[str, dict[str, Any]] = {
    "config": {"type": "dict", "default": {}},
    "timings": {"type": "dict", "default": {}},
    "wait_seconds": {"type": "float", "default": 30},
}
# Statuses of `POST /config_plan`: the change cannot be, the agent is older, it cannot tell now.
REFUSED = 422
UNHEARD_OF = 501
CANNOT = 503


def ask(agents: Agents, member: dict[str, Any], patch: dict[str, Any]) -> Reply | str:
    """Return what the agent of *member* answers, or why it does not.

    Raises HttpFailed when it does not let us ask.
    """
    url = agents.url_of(member)
    if not url:
        return "nobody knows where its agent listens"
    accept = (REFUSED, UNHEARD_OF, CANNOT)
    try:
        return agents.send("POST", "/config_plan", patch, at=url, accept=accept)
    except (HttpRefused, HttpSilent) as error:
        return str(error)


def gather(answers: dict[str, Reply | str]) -> Told:
    """Return what the members' *answers*, by their names, tell."""
    plans, silent, refusals = {}, {}, []
    for name, answer in answers.items():
        if isinstance(answer, str):
            silent[name] = answer
        elif answer.status == REFUSED:
            refusals += answer.text.splitlines()
        elif answer.status == UNHEARD_OF:
            silent[name] = "its agent is older than this collection, and cannot tell"
        elif answer.status == CANNOT:
            silent[name] = answer.text
        else:
            plans[name] = answer.json()
    return Told(plans, silent, tuple(dict.fromkeys(refusals)))


def foretell(agents: Agents, cluster: dict[str, Any], patch: dict[str, Any]) -> Told:
    """Ask all members at the same time what *patch* would do; raises HttpFailed as ask()."""
    members = by_name(cluster)
    with ThreadPoolExecutor(max_workers=max(1, len(members))) as pool:
        answers = pool.map(lambda member: ask(agents, member, patch), members.values())
        return gather(dict(zip(members, answers, strict=True)))


def await_all(agents: Agents, wait_seconds: float) -> None:
    """Wait until all members that run have the configuration; raises OperationError, HttpError."""
    deadline = time.monotonic() + wait_seconds
    while True:
        late = (agents.cluster().get("pgherd") or {}).get("uninformed", [])
        if not late:
            return
        if time.monotonic() >= deadline:
            raise OperationError(
                f"it is stored, and after {wait_seconds:g} s {', '.join(late)} did not take it in"
            )
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**AGENT_ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    params: dict[str, Any] = dict(module.params)
    agents, changed = Agents.of(params), False
    try:
        cluster, before = agents.cluster(), agents.config()
        patch = patch_of(before, params["config"], params["timings"])
        after = laid_on(before, patch)
        told = foretell(agents, cluster, patch)
        if told.refusals:
            problems = list(told.refusals)
            said = "The dynamic configuration stays as it is, for the agents refuse this"
            module.fail_json(msg=f"{said}: {'; '.join(problems)}.", problems=problems)
        if after != before and not module.check_mode:
            after, changed = agents.send("PATCH", "/config", patch).json(), True
        if params["wait_seconds"] and not module.check_mode:
            await_all(agents, params["wait_seconds"])
    except (HttpError, OperationError) as error:
        module.fail_json(msg=f"The dynamic configuration: {error}", changed=changed)
    module.exit_json(
        changed=after != before,
        config=after,
        diff={"before": json.dumps(before, indent=2), "after": json.dumps(after, indent=2)},
        **outcome(told, leader_of(cluster), after),
    )


if __name__ == "__main__":
    main()
