#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the login of a drill's probe, and take it away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_login
short_description: Make the login of a drill's probe, and take it away
description:
  - Makes a login and its schema, of the same name, with the table that the write probe of
    the playbook C(failover_drill) writes to; or takes them away, with all rows.
  - Runs on the leader's host, as a user who may become C(postgres).
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options:
  name:
    description:
      - The login, and the schema. Each drill needs another name; a pooler keeps connections of one
        that was taken away.
      - Begins with C(pgherd_drill_). All logins that begin so are taken away first.
    type: str
    required: true
  password:
    description: Its password; needed to make it.
    type: str
    default: ""
  database:
    description: The database of the schema.
    type: str
    default: postgres
  port:
    description: PostgreSQL's port.
    type: int
    default: 5432
  state:
    description: What shall be.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Does nothing.
    support: full
  diff_mode:
    description: Shows nothing.
    support: none
"""

EXAMPLES = r"""
- name: Let the probe in
  pgherd.cluster.drill_login:
    name: pgherd_drill_1
    password: "{{ drill_password }}"
"""

RETURN = r"""#"""

import re

from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"pgherd_drill_[a-z0-9]{1,40}")
# What the server may log of a statement must not hold the password.
QUIET = "SET log_statement = 'none'; SET log_min_duration_statement = -1;"
GONE = """
DO $$ DECLARE login name;
BEGIN
  FOR login IN SELECT rolname FROM pg_roles WHERE rolname ~ '^pgherd_drill_[a-z0-9]+$' LOOP
    EXECUTE format('DROP OWNED BY %I CASCADE', login);
    EXECUTE format('DROP ROLE %I', login);
  END LOOP;
END $$;
"""
MADE = """
CREATE ROLE {name} LOGIN PASSWORD '{password}';
CREATE SCHEMA {name} AUTHORIZATION {name};
CREATE TABLE {name}.rows (
  run text, writer text, number bigint, written timestamptz DEFAULT clock_timestamp(),
  PRIMARY KEY (run, writer, number)
);
ALTER TABLE {name}.rows OWNER TO {name};
"""


def statements(state: str, name: str, password: str) -> str:
    """Return the SQL. Raises ValueError for a name or a password that cannot be written in it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name: `{name}` is none; write pgherd_drill_ and some letters and digits")
    if state == "absent":
        return f"BEGIN; {GONE} COMMIT;"
    if not re.fullmatch(r"[A-Za-z0-9]{12,}", password):
        raise ValueError("password: write at least 12 letters and digits")
    made = MADE.format(name=name, password=password)
    return f"{QUIET} BEGIN; {GONE} {made} COMMIT;"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "default": "", "no_log": True},
            "database": {"type": "str", "default": "postgres"},
            "port": {"type": "int", "default": 5432},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        sql = statements(given["state"], given["name"], given["password"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    if module.check_mode:
        module.exit_json(changed=True)
    code, _output, problems = module.run_command(
        ["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1",
         "-p", str(given["port"]), "-d", given["database"]],
        data=sql, cwd="/",
    )  # fmt: skip
    if code != 0:
        module.fail_json(msg=f"The probe's login {given['name']}: {problems.strip()}")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
