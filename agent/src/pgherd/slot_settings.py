# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators say about slots in the dynamic configuration, in Patroni's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# What PostgreSQL takes for a slot's name (ReplicationSlotValidateName in slot.c).
_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
# Patroni's names for one thing; the first that is there counts.
PERMANENT_KEYS: Final = ("slots", "permanent_replication_slots", "permanent_slots")


@dataclass(frozen=True)
class PermanentSlot:
    """A slot that is always to be there.

    :param database: and *plugin*: of a logical slot, None for a physical one.
    :param cluster_type: ``primary`` or ``standby``, the only kind of cluster it is for.
    """

    name: str
    database: str | None = None
    plugin: str | None = None
    cluster_type: str | None = None

    @property
    def is_logical(self) -> bool:
        return self.plugin is not None


def permanent_slots(raw: Mapping[str, Any]) -> tuple[PermanentSlot, ...]:
    """Return the permanent slots of a dynamic configuration.

    Names that PostgreSQL would refuse and logical slots without a database or a plugin are left
    out: there is nothing to be done for them.
    """
    given: Mapping[Any, Any] = next(
        (raw[key] for key in PERMANENT_KEYS if isinstance(raw.get(key), Mapping)), {}
    )
    found = (_permanent_slot(name, value) for name, value in given.items())
    return tuple(slot for slot in found if slot is not None)


def _permanent_slot(name: Any, value: Any) -> PermanentSlot | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    # Patroni takes 0 and null for a physical slot without more to say.
    spec = value if isinstance(value, Mapping) else {}
    database, plugin = spec.get("database"), spec.get("plugin")
    is_complete = bool(database and plugin)
    kind = spec.get("type", "logical" if is_complete else "physical")
    cluster_type = spec.get("cluster_type")
    if kind == "physical":
        return PermanentSlot(name, cluster_type=cluster_type)
    if kind != "logical" or not is_complete:
        return None
    return PermanentSlot(name, str(database), str(plugin), cluster_type)


def ignored_slots(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the entries of `ignore_slots`, each of name, type, database and plugin."""
    given = raw.get("ignore_slots")
    entries = given if isinstance(given, list) else []
    return tuple(entry for entry in entries if isinstance(entry, Mapping))


def is_ignored(ignored: tuple[Mapping[str, Any], ...], name: str, slot: Mapping[str, Any]) -> bool:
    """Tell whether an entry of *ignored* matches a slot in everything that it names."""
    known = {"name": name, **{key: slot.get(key) for key in ("type", "database", "plugin")}}
    return any(
        all(entry.get(key) in (None, value) for key, value in known.items()) for entry in ignored
    )
