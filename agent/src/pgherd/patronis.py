# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni's keys that mean nothing here: taken and told of, or refused with what to do instead.

What is in neither table is heeded, or is no key of Patroni's. docs/compatibility.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

KEEPS: Final = (
    "a member that cannot be rewound is always copied anew, and what it had is kept aside"
)
# Taken, since a cluster that comes over may have them; whoever sets them is told.
WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "primary_race_backoff": (
        "a primary is killed by its guard before its lease ends, so nobody has to wait and see "
        "whether it still writes"
    ),
    "postgresql.remove_data_directory_on_rewind_failure": KEEPS,
    "postgresql.remove_data_directory_on_diverged_timelines": KEEPS,
}

ETCD_ONLY: Final = "the state of a cluster is in etcd, through its v3 API: section `etcd3`"
NO_THREADS: Final = "the REST API has limits of its own, and no threads"
HOSTS_ONLY: Final = "name the members of etcd in `etcd3.hosts`"
OWN_SOCKET: Final = "agents reach their own PostgreSQL by `postgresql.socket_directory`"
ONE_FOR_ALL: Final = "`postgresql.ssl` is for all connections between members"
LATER: Final = "it is of a later release of Patroni than 4.1; `postgresql.parameters` is for all"
REFUSED: Final[Mapping[str, str]] = {
    "consul": ETCD_ONLY,
    "zookeeper": ETCD_ONLY,
    "exhibitor": ETCD_ONLY,
    "kubernetes": ETCD_ONLY,
    "raft": ETCD_ONLY,
    "citus": "Citus is not supported",
    "thread_pool_size": NO_THREADS,
    "thread_stack_size": NO_THREADS,
    "restapi.request_queue_size": NO_THREADS,
    "restapi.thread_pool_size": NO_THREADS,
    "etcd3.host": HOSTS_ONLY,
    "etcd3.url": HOSTS_ONLY,
    "etcd3.proxy": HOSTS_ONLY,
    "etcd3.srv": HOSTS_ONLY,
    "etcd3.srv_suffix": HOSTS_ONLY,
    "etcd3.use_proxies": HOSTS_ONLY,
    "watchdog.safety_margin": "the margin comes from `pgherd.lease_ttl`",
    "postgresql.config_dir": "the files of the configuration are in the data directory",
    "postgresql.bin_name": "the programs have their own names, in `postgresql.bin_dir`",
    "postgresql.pgpass": "the agent keeps its own file of passwords, in `runtime_dir`",
    "postgresql.custom_conf": "give the parameters in `postgresql.parameters`",
    "postgresql.use_unix_socket": OWN_SOCKET,
    "postgresql.use_unix_socket_repl": OWN_SOCKET,
    "postgresql.database": "the agent and what it publishes use the database postgres",
    "postgresql.create_replica_method": "its name is `postgresql.create_replica_methods`",
    "postgresql.parameters_primary": LATER,
    "postgresql.parameters_replica": LATER,
    "postgresql.parameters_standby_leader": LATER,
}
# Whole families of keys.
PATTERNS: Final = (
    (r"log\..+", "messages go to the journal, which has the rest; there is `log.level`"),
    (r"postgresql\.authentication\.\w+\.(ssl|gss|channel_binding).*", ONE_FOR_ALL),
)
ENVIRONMENT: Final = "PATRONI_"


def why_refused(path: str) -> str:
    """Return why the key of Patroni's at *path* is no key here; empty when it is none at all."""
    found = (reason for pattern, reason in PATTERNS if re.fullmatch(pattern, path))
    return REFUSED.get(path) or next(found, "")


def without_effect(raw: Mapping[str, Any]) -> list[str]:
    """Return one sentence for every key of *raw* that is taken and means nothing here.

    :param raw: a file's mapping, or the dynamic configuration; may hold anything.
    """
    return [
        f"{path} has no effect: {why}"
        for path, why in WITHOUT_EFFECT.items()
        # Patroni's own default asks for nothing.
        if _at(raw, path) not in (None, False, 0)
    ]


def _at(raw: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(raw, Mapping):
            return None
        raw = raw.get(key)
    return raw


def told_by_environment(names: Mapping[str, str]) -> list[str]:
    """Return one sentence for the variables of the environment that would configure Patroni.

    :param names: the environment; its values are not looked at.
    """
    found = sorted(name for name in names if name.startswith(ENVIRONMENT))
    files = "settings are in the files only"
    return [f"{', '.join(found)} in the environment: no effect, {files}"] if found else []
