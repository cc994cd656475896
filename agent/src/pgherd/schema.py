# SPDX-License-Identifier: GPL-3.0-or-later
"""What a configuration file may hold, as a table, and the check that reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pgherd.method_schema import (
    CALLBACKS,
    NOT_FOR_BASEBACKUP,
    NOT_FOR_INITDB,
    NOT_FOR_REWIND,
    is_command,
    is_method,
    is_methods,
    is_options_without,
    is_plain_mapping,
    sections,
)
from pgherd.patronis import why_refused
from pgherd.pooler_config import check_pooler, is_databases, is_port

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
FENCING_MODES: Final = ("off", "best_effort", "required")
FENCING_ACTIONS: Final = ("off", "reboot")


def _is_name(value: Any) -> str | None:
    good = isinstance(value, str) and NAME.fullmatch(value)
    return None if good else "must be a name: letters, digits, `_`, `.` and `-`"


def _is_text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a non-empty string"


def _is_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _is_mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else "must be a mapping"


def _is_lines(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(line, str) for line in value)
    return None if good else "must be a list of strings"


def _is_address(value: Any) -> str | None:
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        if host and port.isdecimal() and 0 < int(port) < 65536:
            return None
    return "must be HOST:PORT, for example 192.0.2.10:8008"


def _is_hosts(value: Any) -> str | None:
    hosts = value.split(",") if isinstance(value, str) else value
    if isinstance(hosts, list) and hosts and not any(_is_address(host) for host in hosts):
        return None
    return "must be a list of HOST:PORT with at least one entry"


def _is_endpoints(value: Any) -> str | None:
    good = (
        isinstance(value, Mapping)
        and not set(value) - {"rw", "ro", "direct"}
        and not any(_is_hosts(value.get(use, value.get("rw"))) for use in ("rw", "ro"))
        and isinstance(value.get("direct", False), bool)
    )
    return None if good else "must be lists of HOST:PORT, rw and perhaps ro, and direct or not"


def _is_path(value: Any) -> str | None:
    good = isinstance(value, str) and value.startswith("/")
    return None if good else "must be an absolute path"


def _is_ttl(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 2
    return None if good else "must be a whole number of seconds, at least 2 (etcd's own minimum)"


def _is_seconds(value: Any) -> str | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return None if good else "must be a number of seconds above 0"


def _is_level(value: Any) -> str | None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    return None if value in levels else f"must be one of {', '.join(levels)}"


def _is_watchdog_mode(value: Any) -> str | None:
    # YAML reads a bare `off` as false, and Patroni takes it for off as well.
    good = value is False or value in ("off", "automatic", "required")
    return None if good else "must be off, automatic or required"


def _is_protocol(value: Any) -> str | None:
    return None if value in ("http", "https") else "must be http or https"


def _is_tags(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return _is_mapping(value)
    flags = ("nofailover", "noloadbalance", "clonefrom", "nosync", "nostream")
    numbers = (value.get(name, 1) for name in ("failover_priority", "sync_priority"))
    are_numbers = all(isinstance(each, int) and not isinstance(each, bool) for each in numbers)
    names_nobody = value.get("replicatefrom") is None
    names_one = names_nobody or _is_name(value["replicatefrom"]) is None
    if (
        are_numbers
        and names_one
        and all(isinstance(value.get(name, False), bool) for name in flags)
    ):
        return None
    return (
        "must be a mapping with true or false for nofailover, noloadbalance, clonefrom, nosync and "
        "nostream, whole numbers for failover_priority and sync_priority, and the name of a member "
        "for replicatefrom"
    )


def _is_count(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else "must be a whole number, 0 or more"


def _one_of(*words: str) -> Callable[[Any], str | None]:
    # YAML 1.1 reads a bare `off` as false.
    allowed = {*words, False} if "off" in words else set(words)

    def problem(value: Any) -> str | None:
        good = isinstance(value, str | bool) and value in allowed
        return None if good else f"must be one of {', '.join(words)}"

    return problem


def _is_agent(value: Any) -> str | None:
    good = isinstance(value, str) and (value.startswith("/") or NAME.fullmatch(value))
    return None if good else "must be an absolute path or the bare name of a program"


def _is_options(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(
        isinstance(name, str)
        and NAME.fullmatch(name)
        and name not in ("action", "nodename")
        and isinstance(given, str | int | float)
        and "\n" not in str(given)
        for name, given in value.items()
    )
    problem = (
        "must be a mapping of the fence agent's options, each a line of text, a number or true or "
        "false; `action` and `nodename` are not among them"
    )
    return None if good else problem


def _is_fenced_hosts(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(
        not _is_name(name) and not _is_options(options) for name, options in value.items()
    )
    return None if good else f"must be a mapping of member names, each of which {_is_options(None)}"


def _is_login(value: Any) -> str | None:
    good = isinstance(value, Mapping) and (
        not value
        or (
            set(value) == {"username", "password"}
            and all(isinstance(each, str) and each for each in value.values())
            and ":" not in value["username"]
        )
    )
    return None if good else "must be a username (without `:`) and a password, or empty"


def _is_headers(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(
        isinstance(name, str)
        and NAME.fullmatch(name)
        and isinstance(text, str)
        and text.isprintable()
        and text.isascii()
        for name, text in value.items()
    )
    return None if good else "must be a mapping of header names to lines of ASCII text"


def _is_server_tokens(value: Any) -> str | None:
    words = ("original", "productonly", "minimal")
    good = isinstance(value, str) and value.lower() in words
    return None if good else f"must be one of {', '.join(words)}"


@dataclass(frozen=True)
class Key:
    """One key: how its value is checked, whether it must be there, whether it is kept secret."""

    problem: Callable[[Any], str | None]
    required: bool = False
    secret: bool = False


Section = dict[str, "Key | Section"]


def _account(*, required: bool) -> Section:
    return {"username": Key(_is_text, required), "password": Key(_is_text, secret=True)}


# What the dynamic configuration may say for all members at once.
TIMING: Final[Section] = {
    "lease_ttl": Key(_is_ttl),
    "keepalive_interval": Key(_is_seconds),
    "loop_interval": Key(_is_seconds),
    "peer_timeout": Key(_is_seconds),
    "etcd_timeout": Key(_is_seconds),
    "hedge_delay": Key(_is_seconds),
    "hang_timeout": Key(_is_seconds),
}
POOLER: Final[Section] = {
    "rw": {
        "socket_directory": Key(_is_path),
        "port": Key(is_port),
        "target_file": Key(_is_path),
    },
    "ro": {"socket_directory": Key(_is_path), "port": Key(is_port)},
    "databases": Key(is_databases),
    "pause_limit": Key(_is_seconds),
}
SCHEMA: Final[Section] = {
    "scope": Key(_is_name, required=True),
    "namespace": Key(_is_text),
    "name": Key(_is_name, required=True),
    "runtime_dir": Key(_is_path),
    "restapi": {
        "listen": Key(_is_address, required=True),
        "connect_address": Key(_is_address, required=True),
        "cafile": Key(_is_path),
        "certfile": Key(_is_path),
        "keyfile": Key(_is_path),
        "keyfile_password": Key(_is_text, secret=True),
        "ciphers": Key(_is_text),
        "verify_client": Key(_one_of("none", "optional", "required")),
        "authentication": Key(_is_login, secret=True),
        "allowlist": Key(_is_lines),
        "allowlist_include_members": Key(_is_flag),
        "http_extra_headers": Key(_is_headers),
        "https_extra_headers": Key(_is_headers),
        "server_tokens": Key(_is_server_tokens),
    },
    "ctl": {
        "authentication": Key(_is_login, secret=True),
        "insecure": Key(_is_flag),
        "cacert": Key(_is_path),
        "certfile": Key(_is_path),
        "keyfile": Key(_is_path),
        "keyfile_password": Key(_is_text, secret=True),
    },
    "etcd3": {
        "hosts": Key(_is_hosts, required=True),
        "protocol": Key(_is_protocol),
        "username": Key(_is_text),
        "password": Key(_is_text, secret=True),
        "cacert": Key(_is_path),
        "cert": Key(_is_path),
        "key": Key(_is_path),
    },
    "pgherd": {**TIMING, "pooler": POOLER, "endpoints": Key(_is_endpoints)},
    "bootstrap": {
        "dcs": Key(_is_mapping),
        "initdb": Key(is_options_without(NOT_FOR_INITDB)),
        "method": Key(_is_name),
        "post_init": Key(is_command),
        "post_bootstrap": Key(is_command),
    },
    "postgresql": {
        "listen": Key(_is_address, required=True),
        "connect_address": Key(_is_address, required=True),
        "data_dir": Key(_is_path, required=True),
        "bin_dir": Key(_is_path, required=True),
        "socket_directory": Key(_is_path),
        "log_file": Key(_is_path),
        "default_parameters": Key(_is_mapping),
        "parameters": Key(_is_mapping),
        "pg_hba": Key(_is_lines),
        "pg_ident": Key(_is_lines),
        "use_slots": Key(_is_flag),
        "use_pg_rewind": Key(_is_flag),
        "remove_data_directory_on_rewind_failure": Key(_is_flag),
        "remove_data_directory_on_diverged_timelines": Key(_is_flag),
        "rewind": Key(is_options_without(NOT_FOR_REWIND)),
        "pg_ctl_timeout": Key(_is_seconds),
        "proxy_address": Key(_is_address),
        "recovery_conf": Key(is_plain_mapping),
        "create_replica_methods": Key(is_methods),
        "basebackup": Key(is_options_without(NOT_FOR_BASEBACKUP)),
        "callbacks": {name: Key(is_command) for name in CALLBACKS},
        "pre_promote": Key(is_command),
        "before_stop": Key(is_command),
        "ssl": {"ca": Key(_is_path), "certificate": Key(_is_path), "key": Key(_is_path)},
        "keep_diverged": {"count": Key(_is_count), "max_mb": Key(_is_count)},
        "authentication": {
            "superuser": _account(required=True),
            "replication": _account(required=True),
            "rewind": _account(required=False),
        },
    },
    "fencing": {
        "mode": Key(_one_of(*FENCING_MODES)),
        "agent": Key(_is_agent),
        "timeout": Key(_is_seconds),
        "action": Key(_one_of(*FENCING_ACTIONS)),
        "options": Key(_is_options, secret=True),
        "hosts": Key(_is_fenced_hosts, secret=True),
    },
    "watchdog": {"mode": Key(_is_watchdog_mode), "device": Key(_is_path)},
    "tags": Key(_is_tags),
    "log": {"level": Key(_is_level)},
}

# Settings the agent itself decides; given as parameters they would fight with it.
MANAGED_PARAMETERS: Final = frozenset(
    {
        "listen_addresses",
        "port",
        "cluster_name",
        "hot_standby",
        "primary_conninfo",
        "primary_slot_name",
        "synchronous_standby_names",
        "synchronized_standby_slots",
        "recovery_target_timeline",
        "unix_socket_directories",
        "hba_file",
        "ident_file",
        "data_directory",
    }
)


def check(raw: Mapping[str, Any], *, partial: bool) -> list[str]:
    """Return one sentence for every key of *raw* that is unknown, wrong or missing.

    :param partial: *raw* is a fragment: nothing needs to be complete.
    """
    problems = check_section(raw, _table(raw), "", partial)
    if not problems:
        problems = [*check_timing(raw.get("pgherd", {})), *_check_parameters(raw)]
        problems += [] if partial else check_etcd_login(raw.get("etcd3", {}))
        problems += [] if partial else _check_fencing(raw.get("fencing", {}))
        problems += [] if partial else _check_method(raw.get("bootstrap", {}))
        problems += [] if partial else check_pooler(raw.get("pgherd", {}).get("pooler", {}))
    return problems


def _table(raw: Mapping[str, Any]) -> Section:
    """Return the table with the methods that *raw* itself names."""
    table = dict(SCHEMA)
    for name, wanted in (("postgresql", "create_replica_methods"), ("bootstrap", "method")):
        section, known = raw.get(name), SCHEMA[name]
        if isinstance(section, Mapping) and isinstance(known, dict):
            found = sections(section, known, section.get(wanted))
            table[name] = {**known, **{method: Key(is_method) for method in found}}
    return table


def check_section(
    raw: Mapping[str, Any], section: Section, prefix: str, partial: bool
) -> list[str]:
    """Return one sentence for every key of *raw* that is not as *section* wants it.

    :param prefix: what stands before the names of its keys, empty or ending with a dot.
    """
    problems = []
    for key in raw:
        if key not in section:
            path = f"{prefix}{key}"
            if reason := why_refused(path):
                problems.append(f"{path}: is not supported: {reason}")
                continue
            near = get_close_matches(str(key), section, 1)
            hint = f"; did you mean `{prefix}{near[0]}`?" if near else ""
            problems.append(f"{path}: unknown key{hint}")
    for key, spec in section.items():
        path = f"{prefix}{key}"
        if isinstance(spec, dict):
            value = raw.get(key, {})
            if not isinstance(value, Mapping):
                problems.append(f"{path}: must be a mapping, not {value!r}")
            elif key in raw or _has_required(spec):
                problems += check_section(value, spec, f"{path}.", partial)
        elif key in raw:
            problem = spec.problem(raw[key])
            if problem:
                shown = "the value given" if spec.secret else repr(raw[key])
                problems.append(f"{path}: {problem}, not {shown}")
        elif spec.required and not partial:
            problems.append(f"{path}: is missing")
    return problems


def _has_required(section: Section) -> bool:
    return any(
        _has_required(spec) if isinstance(spec, dict) else spec.required
        for spec in section.values()
    )


def check_timing(timing: Mapping[str, Any]) -> list[str]:
    """Return one sentence for every inequality that the section ``pgherd`` does not keep."""
    ttl = timing.get("lease_ttl", 5)
    keepalive = timing.get("keepalive_interval", 1.0)
    timeout = timing.get("etcd_timeout", 1.0)
    problems = []
    if keepalive > ttl / 4:
        problems.append(
            f"pgherd.keepalive_interval: {keepalive} > pgherd.lease_ttl / 4 = {ttl / 4}; "
            "one lost keepalive must not cost the lease"
        )
    if timeout >= ttl - keepalive:
        problems.append(
            f"pgherd.etcd_timeout: {timeout} >= pgherd.lease_ttl - pgherd.keepalive_interval = "
            f"{ttl - keepalive}; a request must end before the lease does"
        )
    return problems


def _check_parameters(raw: Mapping[str, Any]) -> list[str]:
    postgresql = raw.get("postgresql", {})
    return [
        f"postgresql.{section}.{name}: is set by the agent and cannot be given here"
        for section in ("default_parameters", "parameters")
        for name in postgresql.get(section, {})
        if name in MANAGED_PARAMETERS
    ]


def check_etcd_login(etcd: Mapping[str, Any]) -> list[str]:
    """Return a sentence when the user of etcd's own authentication is named by half."""
    pair = ("username", "password")
    missing = [name for name in pair if name not in etcd]
    if len(missing) != 1:
        return []
    there = next(name for name in pair if name in etcd)
    return [f"etcd3.{missing[0]}: is missing, and etcd3.{there} is there"]


def _check_fencing(fencing: Mapping[str, Any]) -> list[str]:
    mode, agent = fencing.get("mode") or "off", fencing.get("agent")
    if mode == "off":
        return []
    # Imported when it is needed: it brings asyncio along, and commands shall be quick.
    from pgherd.fence import find_agent

    problems = []
    if agent is None:
        problems.append(f"fencing.agent: is missing, and fencing.mode is {mode}")
    elif find_agent(agent) is None:
        problems.append(f"fencing.agent: there is no program {agent}; is its package installed?")
    if not fencing.get("hosts"):
        problems.append(f"fencing.hosts: is missing, and fencing.mode is {mode}")
    return problems


def _check_method(bootstrap: Mapping[str, Any]) -> list[str]:
    method = bootstrap.get("method", "initdb")
    if method == "initdb" or method in bootstrap:
        return []
    return [f"bootstrap.{method}: is missing, and bootstrap.method names it"]
