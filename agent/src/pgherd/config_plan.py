# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of the dynamic configuration would do to this member, told before it is made. Pure.

Each member tells for itself: what its own files say stands above what all share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgherd.dynamic import parameters_of
from pgherd.patronis import WITHOUT_EFFECT
from pgherd.rolling import changes_of, stages
from pgherd.schema import MANAGED_PARAMETERS
from pgherd.server_settings import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgherd.config import PostgresConfig
    from pgherd.pgfiles import Files
    from pgherd.server_settings import Known

Path = tuple[str, ...]

PARAMETERS: Final = ("postgresql", "parameters")
RECOVERY: Final = ("postgresql", "recovery_conf")
# What PostgreSQL reads again when it is told to, besides its parameters.
RULES: Final = ("pg_hba", "pg_ident")
# Members that run Patroni heed these, ours do not.
PATRONIS: Final = frozenset({"ttl", "loop_wait", "retry_timeout", *WITHOUT_EFFECT})
# Where a member's own file keeps what has another name there.
FIELDS: Final = {
    "create_replica_methods": "replica_methods",
    "rewind": "rewind_options",
    "basebackup": "method_options",
}


@dataclass(frozen=True)
class Local:
    """What one member knows.

    :param given: the section ``postgresql`` of its own files.
    :param known: what its server knows, None while that one does not answer.
    :param pending: what waits for a restart there already, as Patroni publishes it.
    """

    given: PostgresConfig
    files: Files
    known: Known | None
    pending: Mapping[str, Mapping[str, str]]


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], path: Path = ()
) -> Iterator[tuple[Path, Any, Any]]:
    """Yield path, value before and value after of all that differs, down to the single settings.

    None stands for what is not there.
    """
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if (before or after) and _is_section(before) and _is_section(after):
            yield from differences(before or {}, after or {}, (*path, name))
        elif before != after or isinstance(before, bool) is not isinstance(after, bool):
            yield (*path, name), before, after


def _is_section(value: Any) -> bool:
    """Whether there is nothing but single settings to tell of *value*."""
    return value is None or isinstance(value, Mapping)


def foretell(old: Mapping[str, Any], new: Mapping[str, Any], local: Local) -> dict[str, Any]:
    """Return the body of `POST /config_plan`.

    Of each change: `restart`, PostgreSQL has to be restarted; `reload`, it reads it again; `agent`,
    the agent heeds it; `none`, nothing comes of it here; `unknown`, the server cannot be asked.
    """
    found = list(differences(old, new))
    names = {path[2] for path, _, _ in found if path[:2] in (PARAMETERS, RECOVERY) and path[2:]}
    wanted = _wanted(new, local)
    restart = waiting(wanted, names, local.known) if local.known is not None else {}
    pending = {name: reason for name, reason in local.pending.items() if name not in names}
    pending |= restart
    before = _wanted(old, local)
    same = {name for name in names if str(before.get(name)) == str(wanted.get(name))}
    changes = []
    for path, was, will_be in found:
        # An empty section that comes or goes says nothing.
        is_empty = _is_section(was) and _is_section(will_be)
        effect = "none" if is_empty else _effect(path, same, restart, local)
        changes.append({"key": ".".join(path), "before": was, "after": will_be, "effect": effect})
    kinds = changes_of(pending)
    return {
        "config": new,
        "changes": changes,
        "pending_restart": pending,
        "restart_order": list(stages(kinds)),
        "restart_all": "lowered" in kinds,
    }


def _wanted(raw: Mapping[str, Any], local: Local) -> dict[str, Any]:
    """Return PostgreSQL's parameters as this member sets them with *raw*."""
    parameters = local.files.parameters(parameters_of(raw), None)
    postgresql = raw.get("postgresql")
    recovery = postgresql.get("recovery_conf") if isinstance(postgresql, Mapping) else None
    if local.given.recovery_conf or not isinstance(recovery, Mapping):
        return parameters
    above = local.given.parameters
    return {**parameters, **{name: recovery[name] for name in recovery if name not in above}}


def _effect(
    path: Path, same: set[str], restart: Mapping[str, Mapping[str, str]], local: Local
) -> str:
    if path[:2] in (PARAMETERS, RECOVERY) and path[2:]:
        name = path[2]
        if name in MANAGED_PARAMETERS or name in same:
            return "none"
        if local.known is None:
            return "unknown"
        return "restart" if name in restart else "reload"
    if ".".join(path) in PATRONIS:
        return "none"
    if path[0] != "postgresql" or not path[1:]:
        return "agent"
    own = getattr(local.given, FIELDS.get(path[1], path[1]), None)
    if own is not None and own not in ((), {}, ""):
        return "none"  # the member's own files say it, and count
    return "reload" if path[1] in RULES else "agent"
