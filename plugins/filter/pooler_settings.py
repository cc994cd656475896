# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's settings as data: what may be said, and how its files want it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pooler_settings
short_description: PgBouncer's settings as its file wants them
description:
  - Returns the values of a mapping of settings as texts; booleans as 1 and 0, lists with commas.
  - The filter C(pooler_problems) says what is wrong with such a mapping.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description: The settings by name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show a setting
  ansible.builtin.debug:
    msg: "{{ {'tcp_keepalive': true} | pgherd.cluster.pooler_settings }}"
"""

RETURN = r"""
_value:
  description: The settings by name.
  type: dict
"""

import re
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# SHOW CONFIG of PgBouncer 1.18 (Debian 12).
SETTINGS = frozenset((
    "admin_users", "application_name_add_host", "auth_file", "auth_hba_file", "auth_query",
    "auth_type", "auth_user", "autodb_idle_timeout", "client_idle_timeout",
    "client_login_timeout", "client_tls_ca_file", "client_tls_cert_file", "client_tls_ciphers",
    "client_tls_dheparams", "client_tls_ecdhcurve", "client_tls_key_file",
    "client_tls_protocols", "client_tls_sslmode", "conffile", "default_pool_size",
    "disable_pqexec", "dns_max_ttl", "dns_nxdomain_ttl", "dns_zone_check_period",
    "idle_transaction_timeout", "ignore_startup_parameters", "job_name", "listen_addr",
    "listen_backlog", "listen_port", "log_connections", "log_disconnections",
    "log_pooler_errors", "log_stats", "logfile", "max_client_conn", "max_db_connections",
    "max_packet_size", "max_user_connections", "min_pool_size", "pidfile", "pkt_buf",
    "pool_mode", "query_timeout", "query_wait_timeout", "reserve_pool_size",
    "reserve_pool_timeout", "resolv_conf", "sbuf_loopcnt", "server_check_delay",
    "server_check_query", "server_connect_timeout", "server_fast_close", "server_idle_timeout",
    "server_lifetime", "server_login_retry", "server_reset_query", "server_reset_query_always",
    "server_round_robin", "server_tls_ca_file", "server_tls_cert_file", "server_tls_ciphers",
    "server_tls_key_file", "server_tls_protocols", "server_tls_sslmode", "so_reuseport",
    "stats_period", "stats_users", "suspend_timeout", "syslog", "syslog_facility",
    "syslog_ident", "tcp_defer_accept", "tcp_keepalive", "tcp_keepcnt", "tcp_keepidle",
    "tcp_keepintvl", "tcp_socket_buffer", "tcp_user_timeout", "unix_socket_dir",
    "unix_socket_group", "unix_socket_mode", "user", "verbose",
))  # fmt: skip
# What came by 1.24 (Debian 13).
LATER_SETTINGS = frozenset(
    {
        "auth_dbname",
        "auth_ident_file",
        "cancel_wait_timeout",
        "max_db_client_connections",
        "max_prepared_statements",
        "max_user_client_connections",
        "peer_id",
        "track_extra_parameters",
    }
)
# Ours: other parts rely on them, or the unit gives them.
OURS = {
    "listen_addr": "pgbouncer_listen gives it",
    "listen_port": "the ports are those of all pgherd clusters",
    "unix_socket_dir": "the agent reaches the console there",
    "peer_id": "every data node has its own",
    **dict.fromkeys(("conffile", "job_name", "logfile", "pidfile", "user"), "the unit gives it"),
}
# What PgBouncer takes only when it starts (SHOW CONFIG, column changeable).
STARTING = frozenset(
    {
        "disable_pqexec",
        "listen_addr",
        "listen_backlog",
        "listen_port",
        "pkt_buf",
        "resolv_conf",
        "so_reuseport",
        "track_extra_parameters",
        "unix_socket_dir",
        "unix_socket_group",
        "unix_socket_mode",
    }
)
DATABASE_OPTIONS = frozenset((
    "auth_query", "auth_user", "client_encoding", "connect_query", "datestyle", "dbname",
    "max_db_connections", "min_pool_size", "password", "pool_mode", "pool_size",
    "reserve_pool_size", "timezone", "user",
))  # fmt: skip
LATER_DATABASE_OPTIONS = frozenset({"auth_dbname", "max_db_client_connections", "server_lifetime"})
USER_OPTIONS = frozenset({"max_user_connections", "pool_mode"})
LATER_USER_OPTIONS = frozenset(
    {
        "client_idle_timeout",
        "idle_transaction_timeout",
        "max_user_client_connections",
        "pool_size",
        "query_timeout",
        "reserve_pool_size",
    }
)
RESERVED_NAMES = ("*", "pgbouncer", "pgherd_auth")
# The sizes that the budget reckons with.
NUMBERS = re.compile(r"(_size|_connections|_conn)$")
LATER = (1, 24)
KINDS = {
    "settings": (SETTINGS, LATER_SETTINGS),
    "databases": (DATABASE_OPTIONS, LATER_DATABASE_OPTIONS),
    "users": (USER_OPTIONS, LATER_USER_OPTIONS),
}


def is_later(version: str) -> bool:
    """Return whether PgBouncer *version*, as 1.24, has what came after Debian 12's."""
    return tuple(int(part) for part in version.split(".")[:2]) >= LATER


def text_of(value: Any) -> str:
    """Return *value* as PgBouncer reads it; raises ValueError for what is no value of a setting."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    if not isinstance(value, str) or not (value == "" or value.isprintable()):
        raise ValueError("must be a number, a boolean, a text of one line, or a list of texts")
    return value


def _option_problems(
    where: str, options: Any, version: str, kind: str, ours: Mapping[str, str]
) -> list[str]:
    """Return one sentence for every name in *options* that cannot be, and every such value."""
    if not isinstance(options, dict):
        return [f"{where}: must be a mapping"]
    first, later = KINDS[kind]
    problems = []
    for name, value in options.items():
        if name in ours:
            problems.append(f"{where}.{name}: cannot be set, {ours[name]}")
        elif name in later and not is_later(version):
            problems.append(f"{where}.{name}: PgBouncer {version} of this Debian does not have it")
        elif name not in first | later:
            hint = did_you_mean(str(name), first | later)
            problems.append(f"{where}: PgBouncer has no {name}{hint}")
        else:
            try:
                text_of(value)
                if NUMBERS.search(name) and not _is_count(value):
                    raise ValueError(f"{value!r} is no whole number")
            except ValueError as error:
                problems.append(f"{where}.{name}: {error}")
    return problems


def pooler_problems(options: Any, where: str, version: str, kind: str = "settings") -> list[str]:
    """Return what is wrong with the variable *where* for PgBouncer *version*.

    *kind*: `settings` is a mapping of settings; `databases` and `users` map a name to such.
    """
    if kind == "settings":
        return _option_problems(where, options, version, kind, OURS)
    ours = dict.fromkeys(("host", "port"), "the target is the cluster's")
    problems = []
    for name, given in options.items():
        if not re.fullmatch(r"[\w.-]+|\*", str(name), re.ASCII):
            # Its parser knows no quotes in a key, whatever its manual says.
            problems.append(
                f"{where}.{name}: PgBouncer's file takes names of letters, digits, _, . and - only"
            )
        if kind == "databases" and name in RESERVED_NAMES:
            problems.append(
                f"{where}.{name}: the name is taken; pgbouncer_config is for all others"
            )
        problems += _option_problems(f"{where}.{name}", given, version, kind, ours)
    return problems


def pooler_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return *settings* with their values as texts; raises AnsibleFilterError."""
    try:
        return {name: text_of(value) for name, value in settings.items()}
    except ValueError as error:
        raise AnsibleFilterError(f"PgBouncer's settings: a value {error}") from error


def split_settings(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return those that PgBouncer takes only at its start as `start`, the others as `reload`."""
    found: dict[str, dict[str, Any]] = {"start": {}, "reload": {}}
    for name, value in settings.items():
        found["start" if name in STARTING else "reload"][name] = value
    return found


def pooler_options(options: Mapping[str, Any]) -> str:
    """Return the *options* of a database or a user as one line of PgBouncer's has them.

    reserve_pool is the name that all versions know.
    """
    words = []
    for name, value in pooler_settings(options).items():
        key = "reserve_pool" if name == "reserve_pool_size" else name
        quoted = (
            value if re.fullmatch(r"[\w./:+-]+", value) else "'" + value.replace("'", "''") + "'"
        )
        words.append(f"{key}={quoted}")
    return " ".join(words)


def _is_count(value: Any) -> bool:
    # Ansible's own variables are of a type below int, and so is bool.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "pooler_settings": pooler_settings,
            "pooler_problems": pooler_problems,
            "pooler_options": pooler_options,
            "split_pooler_settings": split_settings,
        }
