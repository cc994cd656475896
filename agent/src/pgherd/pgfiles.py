# SPDX-License-Identifier: GPL-3.0-or-later
"""The files the agent writes for PostgreSQL: postgresql.conf, pg_hba.conf, the password file."""

from __future__ import annotations

import json
import logging
import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgherd.model import Remote
from pgherd.programs import SENSITIVE_PARAMETERS
from pgherd.schema import MANAGED_PARAMETERS
from pgherd.units import amount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgherd.config import Config, PostgresConfig
    from pgherd.model import Control, Member

log = logging.getLogger(__name__)

HEADER: Final = "# Written by pgherd; changes made here are overwritten.\n"

# The first major version whose standbys keep logical slots by themselves.
FAILOVER_SLOTS: Final = 17

# What replication needs whatever the operator says less of; everything can be overridden.
BASE_PARAMETERS: Final[Mapping[str, Any]] = {
    "wal_level": "replica",
    "hot_standby": True,
    "wal_log_hints": True,
    # PostgreSQL's defaults, written down: a standby may need more than they are (see `parameters`),
    # and a setting that leaves the file after a promotion would wait for a restart.
    "max_connections": 100,
    "max_worker_processes": 8,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "wal_keep_size": "128MB",
    # How soon a standby tries again after its upstream went away; the default of 5 s would be most
    # of an outage.
    "wal_retrieve_retry_interval": "200ms",
}


def quote(value: Any) -> str:
    """Return *value* as a setting in postgresql.conf: quoted, with booleans as on and off.

    A line break, as at the end of a YAML block, is escaped: a setting is one line.
    """
    if isinstance(value, bool):
        value = "on" if value else "off"
    escaped = str(value).replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def write_atomically(path: Path, content: str, mode: int = 0o600) -> bool:
    """Write *content* to *path* by rename; tell whether it was different before."""
    try:
        if path.read_text(encoding="utf-8") == content:
            return False
    except OSError:
        pass
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return True


def take_back(auto_conf: Path) -> bool:
    """Take what the agent decides out of *auto_conf*, which PostgreSQL reads last.

    ALTER SYSTEM and `pg_basebackup -R` write there, and copies of the data directory carry it on.

    :return: whether anything was taken out.
    """
    try:
        lines = auto_conf.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return False
    names = {line: line.partition("=")[0].strip().lower() for line in lines}
    foreign = [line for line in lines if names[line] in MANAGED_PARAMETERS]
    for line in foreign:
        # Without the value: it may be a password.
        log.warning("%s is set by the agent: taken out of %s", names[line], auto_conf)
    kept = [line for line in lines if line not in foreign]
    return bool(foreign) and write_atomically(auto_conf, "".join(kept))


def slot_name(member: str) -> str:
    """Return the physical slot that *member* streams from (Patroni's naming)."""
    return re.sub(r"[^a-z0-9_]", "_", member.lower())[:63]


def conninfo(settings: Mapping[str, Any]) -> str:
    """Return a libpq connection string; empty and None values are left out."""
    pairs = []
    for name, value in settings.items():
        if value not in (None, ""):
            escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
            pairs.append(f"{name}='{escaped}'")
    return " ".join(pairs)


def local_conninfo(postgres: PostgresConfig, database: str) -> str:
    """Return how the agent reaches its own instance: over the socket, as superuser."""
    return conninfo(
        {
            "host": postgres.socket_directory,
            "port": postgres.port,
            "user": postgres.superuser.username,
            "dbname": database,
            "application_name": "pgherd",
            # Our own statements must work whatever the operator's defaults are.
            "options": "-c statement_timeout=0 -c lock_timeout=0 -c synchronous_commit=local "
            "-c search_path=pg_catalog -c log_statement=none "
            "-c log_min_duration_statement=-1",
        }
    )


def tls_settings(postgres: PostgresConfig) -> dict[str, str | None]:
    """Return what a libpq client of ours needs to verify its server, empty without TLS."""
    if postgres.tls.ca is None:
        return {}
    return {"sslmode": "verify-full", "sslrootcert": postgres.tls.ca}


class Upstream(NamedTuple):
    """Whom a standby streams from: host, port, and its replication slot there, empty for none."""

    host: str
    port: int
    slot: str = ""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


def held_back(wanted: Mapping[str, Any], control: Control | None) -> dict[str, dict[str, str]]:
    """Return what a standby must keep higher than *wanted*, as its primary still has it.

    PostgreSQL's own default may be lower, too.

    :param control: the standby's; None for a server that is none.
    :return: old and new value by name, as Patroni publishes what waits for a restart.
    """
    found = {}
    for name in SENSITIVE_PARAMETERS if control is not None else ():
        limit = control.limits[name] if control is not None else 0
        configured = amount(wanted.get(name, 0))
        if configured is not None and configured < limit:
            found[name] = {"old_value": str(limit), "new_value": str(wanted.get(name, 0))}
    return found


class Files:
    """Writes one instance's files."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.pgpass = config.runtime_dir / "pgpass"
        # With what a restored cluster recovers before its first primary is one; None otherwise.
        self.recovering: Mapping[str, Any] | None = None
        self.use_slots = True
        self.syncs_slots = True
        # There are logical slots that standbys keep copies of (see `slot_copies`).
        self.copies_slots = False
        self.subscribers_wait_for: tuple[str, ...] = ()
        # What of these was written last; None before anything was.
        self.paced_by: frozenset[str] | None = None

    @property
    def major(self) -> int:
        """The data directory's major version; 0 when there is none."""
        try:
            return int((self._config.postgres.data_dir / "PG_VERSION").read_text())
        except (OSError, ValueError):
            return 0

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    def upstream(self, leader: Member) -> Upstream | None:
        """Return how to stream from *leader*, None when it has not published its address."""
        if not leader.host:
            return None
        own = slot_name(self._config.name) if self.use_slots else ""
        slot = leader.slot if isinstance(leader, Remote) else own
        return Upstream(leader.host, leader.port, slot)

    def upstream_conninfo(self, host: str, port: int, user: str, database: str = "") -> str:
        """Return how this member connects to another PostgreSQL.

        :param host: several, separated by commas: the one among them that takes writes.
        """
        timing = self._config.timing
        return conninfo(
            {
                "user": user,
                "passfile": self.pgpass,
                "host": host,
                "port": port,
                "dbname": database,
                "target_session_attrs": "read-write" if "," in host else "",
                "application_name": self._config.name,
                # libpq's floor is 2 s.
                "connect_timeout": max(2, int(timing.lease_ttl)),
                "tcp_user_timeout": timing.lease_ttl * 1000,
                **tls_settings(self._config.postgres),
            }
        )

    def write_pgpass(self) -> None:
        """Write the password file that all connections to other members use."""
        postgres = self._config.postgres
        accounts = {postgres.replication, postgres.rewind, postgres.superuser}
        lines = [
            f"*:*:*:{_escape(account.username)}:{_escape(account.password)}\n"
            for account in sorted(accounts, key=lambda account: account.username)
            if account.password
        ]
        write_atomically(self.pgpass, "".join(lines))

    @property
    def _kept(self) -> Path:
        return self._config.postgres.data_dir / "patroni.dynamic.json"

    def keep_dynamic(self, dynamic: Mapping[str, Any]) -> None:
        """Keep a copy of the dynamic configuration with the data, where Patroni has it.

        :raises OSError: it cannot be written.
        """
        # An empty directory must stay empty: data grows beside it and takes its place.
        if (self._kept.parent / "PG_VERSION").exists():
            write_atomically(self._kept, json.dumps(dynamic))

    def kept_dynamic(self) -> dict[str, Any] | None:
        """Return that copy, None when there is none that can be read."""
        try:
            dynamic = json.loads(self._kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return dynamic if isinstance(dynamic, dict) else None

    def write_server_config(
        self,
        dynamic: Mapping[str, Any],
        upstream: Upstream | None,
        control: Control | None,
        sync_names: str = "",
    ) -> bool:
        """Write postgresql.conf, pg_hba.conf and pg_ident.conf; tell whether anything changed.

        :param dynamic: `postgresql.parameters` of the cluster's dynamic configuration.
        :param upstream: whom to stream from, None for nobody.
        :param control: given for a standby, whose limits may not be below its primary's (R-list of
            hot-standby-sensitive settings, PostgreSQL documentation 26.4).
        :param sync_names: whose acknowledgement commits wait for.
        """
        postgres = self._config.postgres
        data_dir = postgres.data_dir
        base = data_dir / "postgresql.base.conf"
        if not base.exists() and (data_dir / "postgresql.conf").exists():
            (data_dir / "postgresql.conf").rename(base)
        settings = self.parameters(dynamic, control)
        if upstream is not None:
            user = postgres.replication.username
            # Slots are copied over an ordinary connection, which needs a database.
            database = "postgres" if settings.get("sync_replication_slots") else ""
            settings["primary_conninfo"] = self.upstream_conninfo(*upstream[:2], user, database)
            settings["primary_slot_name"] = upstream.slot
        settings["recovery_target_timeline"] = "latest"
        settings["synchronous_standby_names"] = sync_names
        is_paced = "synchronized_standby_slots" in settings
        self.paced_by = frozenset(self.subscribers_wait_for if is_paced else ())
        settings |= self.recovering or {}
        lines = [f"{name} = {quote(value)}\n" for name, value in settings.items()]
        include = "include_if_exists 'postgresql.base.conf'\n"
        changed = write_atomically(data_dir / "postgresql.conf", HEADER + include + "".join(lines))
        hba = HEADER + "".join(f"{line}\n" for line in postgres.pg_hba)
        changed |= write_atomically(data_dir / "pg_hba.conf", hba)
        ident = HEADER + "".join(f"{line}\n" for line in postgres.pg_ident)
        changed |= write_atomically(data_dir / "pg_ident.conf", ident)
        if self.recovering is not None:
            # The command that restored it may have left the recovery's configuration there.
            return changed
        return take_back(data_dir / "postgresql.auto.conf") or changed

    def parameters(self, dynamic: Mapping[str, Any], control: Control | None) -> dict[str, Any]:
        """Return the settings in force: computed < dynamic < given on this host < ours."""
        postgres = self._config.postgres
        # The files of this host are refused with the names that are ours to set; what etcd holds
        # may have them.
        allowed = {name: dynamic[name] for name in dynamic if name not in MANAGED_PARAMETERS}
        own = {
            name: value
            for name, value in postgres.recovery_conf.items()
            if name not in MANAGED_PARAMETERS
        }
        merged = {**BASE_PARAMETERS, **postgres.default_parameters, **allowed, **own}
        merged.update(postgres.parameters)
        settings = {name: value for name, value in merged.items() if value is not None}
        for name, reason in held_back(settings, control).items():
            settings[name] = int(reason["old_value"])
        settings |= self._failover_slots(settings)
        settings["listen_addresses"] = postgres.listen
        settings["port"] = postgres.port
        settings["unix_socket_directories"] = postgres.socket_directory
        settings["cluster_name"] = self._config.scope
        return settings

    def _failover_slots(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what PostgreSQL needs so that logical slots live through a failover.

        Whoever sets `wal_level` to logical wants such slots; other clusters are left alone. What is
        given explicitly counts.
        """
        if not self.use_slots or settings.get("wal_level") != "logical":
            return {}
        if self.major < FAILOVER_SLOTS:
            name = "hot_standby_feedback"
            return {name: settings.get(name, True)} if self.copies_slots else {}
        found: dict[str, Any] = {
            name: settings.get(name, True)
            for name in ("sync_replication_slots", "hot_standby_feedback")
        }
        if not self.syncs_slots:
            found["sync_replication_slots"] = False
        if self.subscribers_wait_for:
            names = ",".join(f'"{name}"' for name in self.subscribers_wait_for)
            found["synchronized_standby_slots"] = names
        return found


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
