#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take, give back and break a lock in etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_lock
short_description: Take, give back or break a lock in etcd
description:
  - One run of C(ansible-playbook) at a time holds the lock; others fail and are told who does.
  - A run may take it several times, and has to give it back as often.
  - The lock hangs on a lease. It ends by itself when nobody gives it back.
  - A holder on the same controller whose process is gone is replaced.
  - Taking it and giving it back is no change; breaking it is.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.etcd
options:
  key:
    description: Name of the lock's key.
    type: str
    required: true
  state:
    description:
      - V(present) takes the lock, V(absent) gives it back if this run holds it.
      - V(renewed) counts its time anew, for a run that takes long, and does not have to be given
        back once more; a lock that nobody holds any more is taken.
      - V(broken) ends it, whoever holds it.
    type: str
    choices: [present, renewed, absent, broken]
    default: present
  ttl_seconds:
    description:
      - After how many seconds the lock ends by itself.
      - They are counted anew whenever it is taken or renewed.
    type: int
    default: 3600
  reason:
    description: What others are told of why it is held.
    type: str
    default: ""
  remedy:
    description: What a run is told to which the lock is refused.
    type: str
    default: The module etcd_lock with state=broken breaks it.
  required:
    description:
      - Whether to fail when etcd does not answer.
      - With V(false) the run goes on without the lock; quietly when nothing listens there,
        with a warning when something does.
    type: bool
    default: true
  holder:
    description: Who runs the playbook. The controller fills this in, and what follows.
    type: str
    default: ""
  controller:
    description: Name of the controller.
    type: str
    default: ""
  pid:
    description: Number of the process C(ansible-playbook).
    type: int
    default: 0
  playbook:
    description: What it runs.
    type: str
    default: ""
  since:
    description: The controller's time, in seconds of the epoch.
    type: float
    default: 0
  token:
    description: Names that process and no other.
    type: str
    default: ""
  dead_token:
    description: The token of a holder of which the controller knows that it is gone.
    type: str
    default: ""
attributes:
  check_mode:
    description: Takes nothing; warns when the lock would be refused.
    support: full
  diff_mode:
    description: Shows who held a lock that is broken.
    support: full
"""

EXAMPLES = r"""
- name: Have nobody else do this meanwhile
  pgherd.cluster.etcd_lock:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    key: /locks/backup
    ttl_seconds: 600

- name: Let others in again
  pgherd.cluster.etcd_lock:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379']
    key: /locks/backup
    state: absent
"""

RETURN = r"""
action:
  description:
    - What was done, C(nothing), C(take), C(enter), C(renew), C(replace), C(leave), C(release),
      C(break), C(refuse), or C(skip) when etcd does not answer.
  returned: always
  type: str
lock:
  description:
    - Who held the lock before, C(holder), C(controller), C(pid), C(playbook), C(since), C(reason),
      C(depth), C(token).
  returned: when it was held
  type: dict
text:
  description: The same as a sentence.
  returned: when it was held
  type: str
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import (
    ETCD_ARGUMENTS,
    EtcdStore,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpNobody,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._lock import (
    Holder,
    Plan,
    plan,
    sentence,
)

if TYPE_CHECKING:
    from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import KeyValue

# Somebody else may be faster now and then, not always.
TRIES = 5
WRITING = ("take", "replace", "enter", "leave")
LOCK_ARGUMENTS: dict[str, dict[str, Any]] = {
    "key": {"type": "str", "required": True, "no_log": False},
    "state": {
        "type": "str",
        "choices": ["present", "renewed", "absent", "broken"],
        "default": "present",
    },
    "ttl_seconds": {"type": "int", "default": 3600},
    "reason": {"type": "str", "default": ""},
    "remedy": {
        "type": "str",
        "default": "The module etcd_lock with state=broken breaks it.",
    },
    "required": {"type": "bool", "default": True},
    "holder": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "pid": {"type": "int", "default": 0},
    "playbook": {"type": "str", "default": ""},
    "since": {"type": "float", "default": 0},
    "token": {"type": "str", "default": "", "no_log": False},
    "dead_token": {"type": "str", "default": "", "no_log": False},
}


def carry_out(
    store: EtcdStore, key: str, found: KeyValue | None, wanted: Plan, ttl_seconds: int
) -> bool:
    """Do what is *wanted* if the lock is still as *found*; tell whether it was.

    A lease that is not used any more is dropped. Raises HttpError.
    """
    revision, old = (found.mod_revision, found.lease) if found else (0, 0)
    if wanted.action in ("release", "break"):
        done = bool(store.delete_if(key, revision)) or store.get(key) is None
        if done and old:
            store.lease_revoke(old)
        return done
    if wanted.action == "renew":
        return not old or store.lease_keepalive(old) > 0
    if wanted.value is None:
        return True
    keeps = wanted.action in ("enter", "leave")
    lease = old if keeps else store.lease_grant(ttl_seconds)
    text = wanted.value.to_text()
    done = bool(store.put_if(key, text, revision, lease))
    if not done:
        # The answer to a write that counted may be lost, and the write sent again elsewhere.
        now = store.get(key)
        done = now is not None and now.value == text
    if done and keeps and lease:
        store.lease_keepalive(lease)
    if not keeps and (old if done else lease):
        store.lease_revoke(old if done else lease)
    return done


def converge(
    store: EtcdStore, params: dict[str, Any], mine: Holder, check: bool
) -> tuple[str, Holder | None, str]:
    """Bring the lock to `params["state"]`; return what was done, who held it, and a sentence.

    Raises HttpError; ValueError when somebody else is faster again and again.
    """
    for _try in range(TRIES):
        found = store.get(params["key"])
        before = Holder.from_text(found.value) if found else None
        wanted = plan(params["state"], before, mine, params["dead_token"])
        text = ""
        if found and before:
            left = store.lease_ttl(found.lease) if found.lease else None
            text = sentence(before, mine.since, left)
        if check or carry_out(store, params["key"], found, wanted, params["ttl_seconds"]):
            return wanted.action, before, text
    raise ValueError("others change it all the time; run again")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**ETCD_ARGUMENTS, **LOCK_ARGUMENTS}, supports_check_mode=True
    )
    params: dict[str, Any] = dict(module.params)
    key = params["key"]
    if params["ttl_seconds"] < 1:
        module.fail_json(msg=f"ttl_seconds is {params['ttl_seconds']}: give 1 or more.")
    if not params["token"]:
        module.fail_json(msg="token is empty: run the action pgherd.cluster.etcd_lock.")
    names = ("holder", "controller", "pid", "playbook", "since", "token", "reason")
    mine = Holder(**{name: params[name] for name in names})
    try:
        store = EtcdStore.of(params)
        action, before, text = converge(store, params, mine, bool(module.check_mode))
    except HttpError as error:
        if params["required"]:
            module.fail_json(msg=f"{key}: {error}", action="skip")
        if not isinstance(error, HttpNobody):
            module.warn(f"{key}: {error}. No other playbook is kept out.")
        module.exit_json(changed=False, action="skip")
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{key}: {error}", action="skip")
    held = {"lock": before.as_dict(), "text": text} if before else {}
    if action == "refuse":
        refusal = f"{key} is held: {text} {params['remedy']}"
        if not module.check_mode:
            module.fail_json(msg=refusal, action=action, **held)
        module.warn(refusal)
    if action == "replace":
        module.warn(f"Took over what a process left that is gone: {text}")
    shown = {"before": f"{text}\n" if action == "break" else "", "after": ""}
    module.exit_json(changed=action == "break", action=action, diff=shown, **held)


if __name__ == "__main__":
    main()
