# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask for: tags of one member, and the cluster's dynamic configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pgherd.slot_settings import PermanentSlot, ignored_slots, permanent_slots
from pgherd.units import amount

# A start is given so long where nobody says anything else, seconds.
START_SECONDS: Final = 300.0


def whole(value: Any) -> int | None:
    """Return *value* as an integer, None when it is not one.

    What one member wrote into its key must not end the agents of the others.
    """
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Tags:
    """What an operator says about one member (Patroni's tags).

    :param nostream: it gets its WAL from the archive only.
    :param replicatefrom: the member it streams from while that one is of use, empty for the leader.
    """

    nofailover: bool = False
    failover_priority: int = 1
    noloadbalance: bool = False
    clonefrom: bool = False
    nosync: bool = False
    sync_priority: int = 1
    nostream: bool = False
    replicatefrom: str = ""
    other: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Tags:
        """Read the mapping of a configuration file or of a member key; unknown tags are kept.

        A priority that is no number counts as not given.
        """
        known = {"nofailover", "failover_priority", "noloadbalance", "clonefrom"}
        known |= {"nosync", "sync_priority", "nostream", "replicatefrom"}
        priority = whole(raw.get("failover_priority"))
        priority = 1 if priority is None else priority
        sync_priority = whole(raw.get("sync_priority"))
        sync_priority = 1 if sync_priority is None else sync_priority
        return cls(
            nofailover=bool(raw.get("nofailover", priority <= 0)),
            failover_priority=priority,
            noloadbalance=bool(raw.get("noloadbalance", False)),
            clonefrom=bool(raw.get("clonefrom", False)),
            nosync=bool(raw.get("nosync", sync_priority <= 0)),
            sync_priority=sync_priority,
            nostream=bool(raw.get("nostream", False)),
            replicatefrom=str(raw.get("replicatefrom") or ""),
            other={key: value for key, value in raw.items() if key not in known},
        )

    def published(self) -> dict[str, Any]:
        """Return the tags as Patroni publishes them: false well-known ones are left out."""
        flags = {
            "nofailover": self.nofailover,
            "noloadbalance": self.noloadbalance,
            "clonefrom": self.clonefrom,
            "nosync": self.nosync,
            "nostream": self.nostream,
        }
        tags: dict[str, Any] = dict(self.other)
        tags.update({name: True for name, is_set in flags.items() if is_set})
        if self.failover_priority != 1:
            tags["failover_priority"] = self.failover_priority
        if self.sync_priority != 1:
            tags["sync_priority"] = self.sync_priority
        if self.replicatefrom:
            tags["replicatefrom"] = self.replicatefrom
        return tags


@dataclass(frozen=True)
class Settings:
    """The dynamic configuration, as far as decisions need it (names and defaults of Patroni)."""

    maximum_lag_on_failover: int = 1048576
    check_timeline: bool = False
    primary_start_timeout: float = 300
    primary_stop_timeout: float = 0
    pg_ctl_timeout: float = 0
    member_slots_ttl: float = 1800
    max_timelines_history: int = 0
    pause: bool = False
    use_pg_rewind: bool = True
    use_slots: bool = True
    permanent_slots: tuple[PermanentSlot, ...] = ()
    ignore_slots: tuple[Mapping[str, Any], ...] = ()
    synchronous_mode: str = "off"
    synchronous_mode_strict: bool = False
    synchronous_node_count: int = 1
    maximum_lag_on_syncnode: int = -1
    failsafe_mode: bool = False
    standby_cluster: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def stop_seconds(self, default: float) -> float:
        """Return how long a primary may take to stop before it is stopped immediately (R17).

        What an operator says counts with synchronous replication only, as in Patroni.
        """
        is_set = self.primary_stop_timeout > 0 and self.synchronous_mode != "off"
        return self.primary_stop_timeout if is_set else default

    @property
    def start_seconds(self) -> float:
        """How long a start that somebody waits for may take until PostgreSQL answers."""
        return self.pg_ctl_timeout or self.primary_start_timeout or START_SECONDS

    @classmethod
    def parse(cls, raw: Mapping[str, Any], local: Mapping[str, Any] | None = None) -> Settings:
        """Read what ``/config`` holds; a value of the wrong type counts as not given.

        :param local: what this member's file gives of the section ``postgresql``; it wins.
        """
        postgresql = raw.get("postgresql")
        postgresql = postgresql if isinstance(postgresql, Mapping) else {}
        postgresql = {**postgresql, **(local or {})}
        parameters = postgresql.get("parameters")
        remote = followed(raw.get("standby_cluster"))
        return cls(
            maximum_lag_on_failover=int(_number(raw, "maximum_lag_on_failover", 1048576, "B")),
            check_timeline=raw.get("check_timeline") is True,
            primary_start_timeout=_renamed(raw, "start_timeout", 300),
            primary_stop_timeout=_renamed(raw, "stop_timeout", 0),
            pg_ctl_timeout=_number(postgresql, "pg_ctl_timeout", 0, "s"),
            max_timelines_history=max(0, int(_number(raw, "max_timelines_history", 0))),
            member_slots_ttl=max(0.0, _number(raw, "member_slots_ttl", 1800, "s")),
            pause=raw.get("pause") is True,
            use_pg_rewind=postgresql.get("use_pg_rewind", True) is True,
            use_slots=postgresql.get("use_slots", True) is True,
            permanent_slots=permanent_slots(raw),
            ignore_slots=ignored_slots(raw),
            # Nobody commits in a standby cluster.
            synchronous_mode="off" if remote else _sync_mode(raw.get("synchronous_mode")),
            synchronous_mode_strict=raw.get("synchronous_mode_strict") is True,
            synchronous_node_count=max(1, int(_number(raw, "synchronous_node_count", 1))),
            maximum_lag_on_syncnode=int(_number(raw, "maximum_lag_on_syncnode", -1, "B")),
            failsafe_mode=raw.get("failsafe_mode") is True,
            standby_cluster=remote,
            parameters=parameters if isinstance(parameters, Mapping) else {},
        )


def followed(value: Any) -> Mapping[str, Any]:
    """Return whom a standby cluster follows; nobody unless there is a way to get WAL (Patroni)."""
    ways = ("host", "port", "restore_command")
    given = isinstance(value, Mapping) and any(value.get(way) for way in ways)
    return value if given else {}


def _sync_mode(value: Any) -> str:
    """Return off, on or quorum; YAML and JSON know on and off as booleans too."""
    word = str(value).lower()
    if word == "quorum":
        return word
    return "on" if word in ("on", "true", "yes", "1") else "off"


def _renamed(raw: Mapping[str, Any], key: str, default: float) -> float:
    """Read what Patroni called by another name before its release 3."""
    return _number(raw, f"primary_{key}", _number(raw, f"master_{key}", default, "s"), "s")


def _number(raw: Mapping[str, Any], key: str, default: float, unit: str = "") -> float:
    """Return a number, also one that is spelled as text, with a unit perhaps."""
    value = amount(raw.get(key), unit)
    return default if value is None else value
