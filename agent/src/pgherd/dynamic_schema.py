# SPDX-License-Identifier: GPL-3.0-or-later
"""What the dynamic configuration may hold, as a table, and the check that reads it.

Names and floors are Patroni's, since its members read the same key; what is ours stands below
`pgherd`. PostgreSQL's parameters are checked against the server, in `pgherd.server_settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pgherd.method_schema import (
    CALLBACKS,
    NOT_FOR_BASEBACKUP,
    NOT_FOR_REWIND,
    is_command,
    is_method,
    is_methods,
    is_options_without,
    is_plain_mapping,
    sections,
)
from pgherd.schema import MANAGED_PARAMETERS, TIMING, Key, Section, check_section, check_timing
from pgherd.units import amount, flag

SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
SLOT_KEYS: Final = frozenset({"type", "database", "plugin", "cluster_type", "failover"})
# Patroni's defaults, for the inequality between the three.
PATRONI_TIMING: Final = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}
# Patroni goes back to its default where one is lower.
FLOORS: Final = {
    "max_connections": 25,
    "max_wal_senders": 3,
    "max_replication_slots": 4,
    "max_locks_per_transaction": 32,
}


def _at_least(least: float, unit: str, what: str) -> Callable[[Any], str | None]:
    def problem(value: Any) -> str | None:
        number = amount(value, unit)
        return None if number is not None and number >= least else f"must be {what}"

    return problem


def _seconds(least: int) -> Key:
    return Key(_at_least(least, "s", f"a number of seconds, at least {least}"))


def _count(least: int) -> Key:
    return Key(_at_least(least, "", f"a whole number, at least {least}"))


def _is_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _is_text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a non-empty string"


def _is_texts(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return None if good else "must be a list of strings"


def _is_mode(value: Any) -> str | None:
    word = str(value).lower()
    good = isinstance(value, bool) or word in ("quorum", "off", "on", "true", "false")
    return None if good else "must be off, on or quorum"


def _is_slots(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(
        isinstance(name, str) and SLOT_NAME.fullmatch(name) and _is_slot(slot)
        for name, slot in value.items()
    )
    keys = ", ".join(sorted(SLOT_KEYS))
    problem = (
        f"must be a mapping of slots ({SLOT_NAME.pattern}) to mappings of {keys}; "
        "a logical slot has a database and a plugin"
    )
    return None if good else problem


def _is_slot(slot: Any) -> bool:
    if not isinstance(slot, Mapping):
        return slot is None or (slot == 0 and not isinstance(slot, bool))
    kind = slot.get("type", "logical" if "plugin" in slot or "database" in slot else "physical")
    if kind == "logical" and not (slot.get("database") and slot.get("plugin")):
        return False
    return kind in ("physical", "logical") and set(slot) <= SLOT_KEYS


def _is_ignored(value: Any) -> str | None:
    good = isinstance(value, list) and all(
        isinstance(each, Mapping) and each and set(each) <= {"name", "type", "database", "plugin"}
        for each in value
    )
    return None if good else "must be a list of mappings of name, type, database and plugin"


def _is_port(value: Any) -> str | None:
    ports = str(value).split(",")
    good = not isinstance(value, bool) and all(
        re.fullmatch(r"\s*[0-9]{1,5}\s*", port) and 0 < int(port) < 65536 for port in ports
    )
    return None if good else "must be a port, or a list of ports with commas"


POSTGRESQL: Final[Section] = {
    "parameters": Key(is_plain_mapping),
    "pg_hba": Key(_is_texts),
    "pg_ident": Key(_is_texts),
    "recovery_conf": Key(is_plain_mapping),
    "use_slots": Key(_is_flag),
    "use_pg_rewind": Key(_is_flag),
    "remove_data_directory_on_rewind_failure": Key(_is_flag),
    "remove_data_directory_on_diverged_timelines": Key(_is_flag),
    "pg_ctl_timeout": _seconds(1),
    "create_replica_methods": Key(is_methods),
    "basebackup": Key(is_options_without(NOT_FOR_BASEBACKUP)),
    "rewind": Key(is_options_without(NOT_FOR_REWIND)),
    "callbacks": {name: Key(is_command) for name in CALLBACKS},
    "pre_promote": Key(is_command),
    "before_stop": Key(is_command),
}
DYNAMIC: Final[Section] = {
    "ttl": _seconds(20),
    "loop_wait": _seconds(1),
    "retry_timeout": _seconds(3),
    "maximum_lag_on_failover": Key(_at_least(0, "B", "a number of bytes, 0 or more")),
    "maximum_lag_on_syncnode": Key(_at_least(-1, "B", "a number of bytes, -1 for any")),
    "check_timeline": Key(_is_flag),
    "max_timelines_history": _count(0),
    "primary_start_timeout": _seconds(0),
    "master_start_timeout": _seconds(0),
    "primary_stop_timeout": _seconds(0),
    "master_stop_timeout": _seconds(0),
    "primary_race_backoff": _seconds(0),
    "synchronous_mode": Key(_is_mode),
    "synchronous_mode_strict": Key(_is_flag),
    "synchronous_node_count": _count(1),
    "failsafe_mode": Key(_is_flag),
    "pause": Key(_is_flag),
    "member_slots_ttl": _seconds(0),
    "slots": Key(_is_slots),
    "permanent_slots": Key(_is_slots),
    "permanent_replication_slots": Key(_is_slots),
    "ignore_slots": Key(_is_ignored),
    "standby_cluster": {
        "host": Key(_is_text),
        "port": Key(_is_port),
        "primary_slot_name": Key(_is_text),
        "create_replica_methods": Key(is_methods),
        "restore_command": Key(_is_text),
        "archive_cleanup_command": Key(_is_text),
        "recovery_min_apply_delay": Key(_at_least(0, "ms", "a time, such as 5min")),
    },
    "postgresql": POSTGRESQL,
    "pgherd": TIMING,
}


def check_dynamic(raw: Mapping[str, Any], timing: Mapping[str, Any]) -> list[str]:
    """Return one sentence for every key of *raw* that is unknown or wrong.

    :param timing: the section ``pgherd`` of this member's file, for what *raw* does not give.
    """
    problems = check_section(without_nulls(raw), _table(raw), "", partial=True)
    if problems:
        return problems
    return [
        *_check_patroni_timing(raw),
        *check_timing({**timing, **without_nulls(raw.get("pgherd") or {})}),
        *_check_parameters(raw),
    ]


def without_nulls(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return *raw* without the keys, at any depth, whose value is null: they count as absent."""
    return {
        key: without_nulls(value) if isinstance(value, Mapping) else value
        for key, value in raw.items()
        if value is not None
    }


def _table(raw: Mapping[str, Any]) -> Section:
    """Return the table with the replica methods that *raw* itself names."""
    postgresql = raw.get("postgresql")
    if not isinstance(postgresql, Mapping):
        return DYNAMIC
    named = sections(postgresql, POSTGRESQL, postgresql.get("create_replica_methods"))
    methods: Section = {name: Key(is_method) for name in named}
    return {**DYNAMIC, "postgresql": {**POSTGRESQL, **methods}}


def _check_patroni_timing(raw: Mapping[str, Any]) -> list[str]:
    """`loop_wait + 2 * retry_timeout <= ttl`; Patroni would lower what does not fit by itself."""
    given = {**PATRONI_TIMING, **without_nulls(raw)}
    ttl, wait, retry = (amount(given[name], "s") or 0 for name in PATRONI_TIMING)
    if wait + 2 * retry <= ttl:
        return []
    needed = f"loop_wait + 2 * retry_timeout = {wait + 2 * retry:g} > ttl = {ttl:g}"
    return [f"ttl: {needed}; a Patroni member could not tell in time that its lease runs out"]


def _check_parameters(raw: Mapping[str, Any]) -> list[str]:
    parameters = (raw.get("postgresql") or {}).get("parameters") or {}
    problems = [
        f"postgresql.parameters.{name}: must be at least {least}, or members could not be added, "
        f"not {parameters[name]!r}"
        for name, least in FLOORS.items()
        if (number := amount(parameters.get(name))) is not None and number < least
    ]
    if str(parameters.get("wal_level", "replica")).lower() == "minimal":
        problems.append(
            "postgresql.parameters.wal_level: must be replica or logical, not 'minimal', with "
            "which no standby can follow"
        )
    return problems + [
        f"postgresql.parameters.{name}: is set by the agent and cannot be given here"
        for name, value in parameters.items()
        # Patroni's own examples say so, and it is what the agent sets.
        if name.lower() in MANAGED_PARAMETERS and not (name == "hot_standby" and flag(value))
    ]
