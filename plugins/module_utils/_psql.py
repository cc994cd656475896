# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's PostgreSQL, asked over its socket by the system user that owns it.

Private to the collection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# psql's exit code when the server cannot be reached (its man page).
NO_CONNECTION = 2
SERVER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "port": {"type": "int", "default": 5432},
    "system_user": {"type": "str", "default": "postgres"},
}


def ask(module: AnsibleModule, sql: str) -> str | None:
    """Return what psql prints of *sql*, bare, or None where no server can be reached.

    Reads SERVER_ARGUMENTS of *module*, and ends it with the server's complaint.
    """
    user, port = module.params["system_user"], str(module.params["port"])
    words = ["runuser", "-u", user, "--", "psql", "-XAtq", "-p", port, "-d", "postgres"]
    code, text, problems = module.run_command([*words, "-c", sql], cwd="/")
    if code == NO_CONNECTION:
        return None
    if code != 0:
        module.fail_json(msg=f"PostgreSQL at port {port}: {problems.strip()}")
    return str(text).strip()
