#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a host's HAProxy send new connections elsewhere, and there again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Drain a server of this host's HAProxy
description:
  - Changes the administrative state of a server in every backend that has it, at run time.
  - A drained server keeps the connections it has, and gets no new ones.
  - A restart or a reload of HAProxy may end it; nothing is written to its configuration.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: Name of the server.
    type: str
    required: true
  state:
    description: V(ready) takes part, V(drain) gets no new connections, V(maint) none at all.
    type: str
    choices: [ready, drain, maint]
    default: ready
  wait_seconds:
    description:
      - How long to wait until the server has no connections any more, unless O(state=ready).
      - What is left then is told, and no failure.
    type: float
    default: 0
  socket:
    description: HAProxy's socket for administration.
    type: path
    default: /run/haproxy/admin.sock
attributes:
  check_mode:
    description: Says whether anything would be changed.
    support: full
  diff_mode:
    description: Shows the states before and after.
    support: full
"""

EXAMPLES = r"""
- name: Send no new clients to pg2
  pgherd.cluster.haproxy_server:
    name: pg2
    state: drain
    wait_seconds: 30
"""

RETURN = r"""
backends:
  description: Names of the backends that have the server.
  returned: success
  type: list
  elements: str
sessions:
  description: Connections that the server still has.
  returned: success
  type: int
"""

import csv
import socket
import time

from ansible.module_utils.basic import AnsibleModule

PAUSE_SECONDS = 0.5
ANSWER_SECONDS = 5.0
PART_BYTES = 65536
# Flags of srv_admin_state: what was said at the socket (HAProxy's management guide, "show servers
# state"). The status among the statistics says DOWN of a drained server that is down as well.
FORCED_MAINT = 0x01
FORCED_DRAIN = 0x08
BACKEND = 1
SERVER = 3
ADMIN_STATE = 6


def say(path: str, command: str) -> str:
    """Return what the HAProxy at *path* answers to *command*. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(ANSWER_SECONDS)
        console.connect(path)
        console.sendall(f"{command}\n".encode())
        text = b""
        while part := console.recv(PART_BYTES):
            text += part
    return text.decode()


def states(path: str, name: str) -> dict[str, str]:
    """Return the state of the server *name* by backend: ready, drain or maint. Raises OSError."""
    rows = [line.split() for line in say(path, "show servers state").splitlines()]
    return {
        row[BACKEND]: state_of(int(row[ADMIN_STATE]))
        for row in rows
        if len(row) > ADMIN_STATE and row[SERVER] == name
    }


def state_of(flags: int) -> str:
    """Return what an administrator said of a server."""
    return "maint" if flags & FORCED_MAINT else "drain" if flags & FORCED_DRAIN else "ready"


def due(seen: dict[str, str], state: str) -> list[str]:
    """Return the backends whose server is not in *state* yet."""
    return [backend for backend, found in seen.items() if found != state]


def sessions(path: str, name: str) -> int:
    """Return the connections that the server has, over all backends. Raises OSError."""
    rows = csv.DictReader(say(path, "show stat").lstrip("# ").splitlines())
    return sum(int(row["scur"] or 0) for row in rows if row.get("svname") == name)


def settle(path: str, name: str, state: str, wait_seconds: float) -> int:
    """Bring the server to *state* and return its connections in the end.

    Raises OSError; ValueError with what HAProxy says against it.
    """
    for backend in due(states(path, name), state):
        said = say(path, f"set server {backend}/{name} state {state}").strip()
        if said:
            raise ValueError(f"{backend}: {said}")
    deadline = time.monotonic() + wait_seconds
    while True:
        left = sessions(path, name)
        if not left or state == "ready" or time.monotonic() >= deadline:
            return left
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["ready", "drain", "maint"], "default": "ready"},
            "wait_seconds": {"type": "float", "default": 0},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
        },
        supports_check_mode=True,
    )
    name, state, path = (module.params[key] for key in ("name", "state", "socket"))
    try:
        before = states(path, name)
        if not before:
            module.fail_json(msg=f"name: no backend of the HAProxy at {path} has a server {name}.")
        left = sessions(path, name)
        if not module.check_mode:
            left = settle(path, name, state, module.params["wait_seconds"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"HAProxy at {path}, server {name}, state {state}: {error}")
    shown = {
        "before": "".join(f"{key}: {value}\n" for key, value in before.items()),
        "after": "".join(f"{key}: {state}\n" for key in before),
    }
    module.exit_json(
        changed=bool(due(before, state)), backends=sorted(before), sessions=left, diff=shown
    )


if __name__ == "__main__":
    main()
