#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Let PgBouncer look users' passwords up, and do nothing else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pooler_access
short_description: Let PgBouncer look users up in a PostgreSQL server
description:
  - Makes the role with which PgBouncer asks for the SCRAM verifiers of those who log in, and the
    function that it asks. The role can do nothing else, and nobody else can call the function.
  - Superusers and roles that may replicate are not found, unless O(superusers).
  - Run it on every data node. Only a server that is not in recovery is written to; all others
    replicate it.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  name:
    description: The role's name.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  databases:
    description:
      - Databases to make the function in.
      - An empty list means all that take connections, and template1 for those to come. PgBouncer
        before 1.19 needs it, for it asks in the database that a client wants.
    type: list
    elements: str
    default: [postgres]
  superusers:
    description: Whether superusers are found, too.
    type: bool
    default: false
  socket_dir:
    description: Where the server's socket is.
    type: str
    default: /run/postgresql
  port:
    description: The server's port.
    type: int
    default: 5432
  system_user:
    description: Who connects; the server must let that user of the host in without a password.
    type: str
    default: postgres
attributes:
  check_mode:
    description: Says what it would do, and does not.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Let PgBouncer look users up
  pgherd.cluster.pooler_access:
    name: pgbouncer_auth
    password: "{{ password }}"
"""

RETURN = r"""
done:
  description: What was made or put right, a sentence each.
  returned: success
  type: list
  elements: str
in_recovery:
  description: Whether the server is in recovery, so that nothing was looked at.
  returned: success
  type: bool
"""

import base64
import contextlib
import hashlib
import hmac
import os
import pwd
import unicodedata
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import psycopg
    from psycopg import sql
except ImportError:  # told of when the module runs
    PSYCOPG = False
else:
    PSYCOPG = True

SCHEMA = "pgbouncer"
FUNCTION = "pgherd_lookup"
FOUND = {
    False: "NOT (rolsuper OR rolreplication)",
    True: "(rolsuper OR NOT rolreplication)",
}
ATTRIBUTES = ("super", "createdb", "createrole", "replication", "bypassrls")
# What of a function decides what it does and as whom.
LOOK = f"""
SELECT p.prosrc, p.prosecdef, p.proconfig, l.lanname, o.rolsuper, p.proretset,
       pg_get_function_result(p.oid),
       ARRAY(SELECT coalesce(g.rolname, 'public') FROM aclexplode(p.proacl) a
             LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> p.proowner ORDER BY 1),
       so.rolsuper,
       EXISTS (SELECT FROM aclexplode(n.nspacl) a
               WHERE a.grantee <> n.nspowner AND a.privilege_type = 'CREATE'),
       EXISTS (SELECT FROM aclexplode(n.nspacl) a JOIN pg_roles g ON g.oid = a.grantee
               WHERE g.rolname = %s AND a.privilege_type = 'USAGE'),
       has_database_privilege(%s, current_database(), 'CONNECT'),
       p.proacl IS NOT NULL
FROM pg_namespace n JOIN pg_roles so ON so.oid = n.nspowner
JOIN pg_proc p ON p.pronamespace = n.oid JOIN pg_language l ON l.oid = p.prolang
JOIN pg_roles o ON o.oid = p.proowner
WHERE n.nspname = '{SCHEMA}' AND p.proname = '{FUNCTION}'
  AND pg_get_function_identity_arguments(p.oid) = 'wanted text'
"""
RESULT = "TABLE(username text, verifier text)"
SETTINGS = ["search_path=pg_catalog, pg_temp"]


def is_verifier_of(stored: str | None, password: str) -> bool:
    """Return whether *stored*, as in pg_authid, is a SCRAM verifier of *password* (RFC 5803)."""
    if not stored or not stored.startswith("SCRAM-SHA-256$"):
        return False
    _name, start, keys = stored.split("$")
    iterations, salt = start.split(":")
    text = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", text, base64.b64decode(salt), int(iterations))
    client = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    ours = base64.b64encode(hashlib.sha256(client).digest()).decode()
    return hmac.compare_digest(ours, keys.split(":")[0])


def body(superusers: bool) -> str:
    """Return the function's SQL. A password that has run out is none."""
    return (
        "SELECT rolname::text, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
        f"FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin AND {FOUND[superusers]}"
    )


def role_due(row: tuple[Any, ...] | None, password: str) -> str:
    """Return what is to be done to the role, empty when it is as it must be.

    *row*: its verifier, whether it may log in, whether it may do more, and whether it runs out.
    """
    if row is None:
        return "make the role"
    verifier, login, more, runs_out = row
    if not login or more or runs_out:
        return "give the role back its attributes"
    return "" if is_verifier_of(verifier, password) else "give the role its password"


def is_function_right(row: tuple[Any, ...] | None, name: str, superusers: bool) -> bool:
    """Return whether the *row* of LOOK says that all is as it must be for the role *name*."""
    wanted = (
        body(superusers), True, SETTINGS, "sql", True, True, RESULT, [name], True, False, True,
        True, True,
    )  # fmt: skip
    return row == wanted


def put_role(connection: Any, name: str, password: str, due: str) -> None:
    """Make the role, or put it right; only the verifier goes over the wire, and into no log."""
    verifier = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    verb = "CREATE" if due == "make the role" else "ALTER"
    connection.execute("SET LOCAL log_statement = 'none'")
    connection.execute("SET LOCAL log_min_duration_statement = -1")
    connection.execute("SET LOCAL log_min_error_statement = 'panic'")
    connection.execute(
        sql.SQL(
            verb + " ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
            "PASSWORD {} VALID UNTIL 'infinity'"
        ).format(sql.Identifier(name), sql.Literal(verifier))
    )


def put_function(connection: Any, name: str, superusers: bool) -> None:
    """Make the schema and the function of the database connected to, or put them right."""
    role = sql.Identifier(name)
    database = sql.Identifier(connection.info.dbname)
    function = (
        f"CREATE FUNCTION {SCHEMA}.{FUNCTION}(wanted text) RETURNS {RESULT} LANGUAGE sql STABLE "
        "SECURITY DEFINER SET search_path = pg_catalog, pg_temp "
        f"AS $pgherd${body(superusers)}$pgherd$"
    )
    for text in (
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        f"ALTER SCHEMA {SCHEMA} OWNER TO CURRENT_USER",
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC",
        # A function of other columns cannot be replaced.
        f"DROP FUNCTION IF EXISTS {SCHEMA}.{FUNCTION}(text)",
        function,
        f"REVOKE ALL ON FUNCTION {SCHEMA}.{FUNCTION}(text) FROM PUBLIC",
    ):
        connection.execute(text)
    # Whoever else may make something here could put another function into its place.
    for (other,) in connection.execute(
        "SELECT DISTINCT g.rolname FROM pg_namespace n, aclexplode(n.nspacl) a "
        "JOIN pg_roles g ON g.oid = a.grantee "
        "WHERE n.nspname = %s AND a.grantee <> n.nspowner AND a.privilege_type = 'CREATE'",
        [SCHEMA],
    ).fetchall():
        connection.execute(
            sql.SQL(f"REVOKE CREATE ON SCHEMA {SCHEMA} FROM {{}}").format(sql.Identifier(other))
        )
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role))
    connection.execute(sql.SQL(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {{}}").format(role))
    connection.execute(
        sql.SQL(f"GRANT EXECUTE ON FUNCTION {SCHEMA}.{FUNCTION}(text) TO {{}}").format(role)
    )


@contextlib.contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Be *user* of this host for a moment, where we are root; raises KeyError for nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(pwd.getpwnam(user).pw_uid)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def settle(params: dict[str, Any], changes: bool) -> tuple[bool, list[str]]:
    """Return whether the server is in recovery, and what was (to be) done; raises psycopg.Error."""
    name = params["name"]

    def connect(database: str) -> Any:
        with acting_as(params["system_user"]):
            return psycopg.connect(
                host=params["socket_dir"], port=params["port"], user=params["system_user"],
                dbname=database, connect_timeout=10, application_name="pgherd-pooler-access",
                options="-c statement_timeout=30s",
            )  # fmt: skip

    done = []
    with connect("postgres") as first:
        if first.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
            return True, []
        more = " OR ".join(f"rol{attribute}" for attribute in ATTRIBUTES)
        row = first.execute(
            f"SELECT rolpassword, rolcanlogin, {more}, "
            "coalesce(rolvaliduntil <> 'infinity', false) FROM pg_authid WHERE rolname = %s",
            [name],
        ).fetchone()
        due = role_due(row, params["password"])
        if due:
            done.append(due)
            if changes:
                put_role(first, name, params["password"], due)
        listed = first.execute(
            "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname"
        ).fetchall()
    if row is None and not changes:
        return False, [*done, "make the function"]
    for database in params["databases"] or [each[0] for each in listed]:
        with connect(database) as connection:
            row = connection.execute(LOOK, [name, name]).fetchone()
            if not is_function_right(row, name, params["superusers"]):
                done.append(f"{'make' if row is None else 'put right'} the function in {database}")
                if changes:
                    put_function(connection, name, params["superusers"])
    return False, done


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "databases": {"type": "list", "elements": "str", "default": ["postgres"]},
            "superusers": {"type": "bool", "default": False},
            "socket_dir": {"type": "str", "default": "/run/postgresql"},
            "port": {"type": "int", "default": 5432},
            "system_user": {"type": "str", "default": "postgres"},
        },
        supports_check_mode=True,
    )
    if not PSYCOPG:
        module.fail_json(msg=missing_required_lib("psycopg"))
    try:
        in_recovery, done = settle(module.params, not module.check_mode)
    except (psycopg.Error, KeyError) as error:
        module.fail_json(msg=f"PostgreSQL here cannot be prepared for PgBouncer: {error}")
    module.exit_json(changed=bool(done), done=done, in_recovery=in_recovery)


if __name__ == "__main__":
    main()
