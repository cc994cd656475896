# SPDX-License-Identifier: GPL-3.0-or-later
"""Values for tests, with defaults: a test spells only what it is about.

The world they describe: members pg1 (us), pg2 and pg3; the time is NOW; our lease is OURS.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.config import Config, build
from pgherd.model import Cluster, Control, Instance, LeaderKey, Lease, Member, Process, SyncKey
from pgherd.quorum import Electing
from pgherd.settings import Tags
from pgherd.view import Peer, View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ME: Final = "pg1"
NAMES: Final = ("pg1", "pg2", "pg3")
NOW: Final = 1000.0
OURS: Final = 77
THEIRS: Final = 99
SYSTEM_ID: Final = "7268616322854375442"
LIMITS: Final = {
    "max_connections": 100,
    "max_worker_processes": 8,
    "max_wal_senders": 10,
    "max_prepared_transactions": 0,
    "max_locks_per_transaction": 64,
}


def control(state: str = "in production", **changes: Any) -> Control:
    """Return what pg_controldata says of an instance that is, or was, in *state*."""
    return replace(Control(SYSTEM_ID, state, 1, 0x1000, LIMITS), **changes)


def stopped(state: str = "shut down in recovery", **changes: Any) -> Instance:
    """Return a stopped instance whose control file says *state*."""
    known = Instance(has_data=True, control=control(state), system_id=SYSTEM_ID)
    return replace(known, **changes)


def starting(**changes: Any) -> Instance:
    """Return an instance started in recovery that does not answer yet."""
    return replace(stopped(), **{"process": Process.STARTING, "in_recovery": True, **changes})


def standby(**changes: Any) -> Instance:
    """Return a standby that streams from pg2."""
    known = Instance(
        process=Process.RUNNING,
        has_data=True,
        system_id=SYSTEM_ID,
        in_recovery=True,
        timeline=1,
        checkpoint_timeline=1,
        received=0x3000,
        replayed=0x3000,
        receiver_status="streaming",
        upstream="pg2:5432",
        started_at="2026-01-01 00:00:00.5+00",
        server_version=150012,
    )
    return replace(known, **changes)


def primary(**changes: Any) -> Instance:
    """Return a running primary."""
    known = Instance(
        process=Process.RUNNING,
        has_data=True,
        system_id=SYSTEM_ID,
        in_recovery=False,
        timeline=1,
        checkpoint_timeline=1,
        location=0x3000,
        started_at="2026-01-01 00:00:00.5+00",
        server_version=150012,
    )
    return replace(known, **changes)


def row(name: str, flush: int | None = 0x3000, **changes: Any) -> dict[str, Any]:
    """Return what a primary tells of the standby *name*, which streams and has all there is."""
    known = {"application_name": name, "state": "streaming", "flush": flush, "pid": 4711}
    return {**known, **changes}


def slot(restart: int | None = 0x1000, **changes: Any) -> dict[str, Any]:
    """Return an inactive physical slot, unless *changes* say otherwise."""
    known = {
        "type": "physical",
        "active": False,
        "temporary": False,
        "database": None,
        "plugin": None,
        "wal_status": "reserved",
        "xmin": None,
        "restart": restart,
        "confirmed": None,
        "failover": False,
        "synced": False,
    }
    return {**known, **changes}


def sync_key(
    leader: str = "pg2", voters: str = "pg1,pg3", quorum: int = 1, **changes: Any
) -> SyncKey:
    """Return the key `/sync` as *leader* wrote it; *voters* are separated by commas."""
    names = frozenset(name for name in voters.split(",") if name)
    return SyncKey(leader, Electing(names, quorum), **{"revision": 8, "timeline": 1, **changes})


def member(name: str, **data: Any) -> Member:
    """Return the member key of *name*: a running replica, unless *data* says otherwise."""
    known = {
        "conn_url": f"postgres://{name}:5432/postgres",
        "api_url": f"http://{name}:8008/patroni",
        "state": "running",
        "role": "replica",
        "timeline": 1,
    }
    return Member(name, {**known, **data})


def cluster(
    leader: str | None = "pg2", *, members: Iterable[Member] = (), **changes: Any
) -> Cluster:
    """Return what etcd holds: three members, *leader* among them as a settled primary.

    :param members: replace the default ones of the same name, or come on top.
    """
    named = {name: member(name) for name in NAMES}
    key = None
    if leader is not None:
        named[leader] = member(leader, role="primary")
        key = LeaderKey(leader, OURS if leader == ME else THEIRS, 5)
    named.update({each.name: each for each in members})
    known = Cluster(revision=10, initialize=SYSTEM_ID, leader=key, members=named)
    return replace(known, **changes)


def view(instance: Instance | None = None, **changes: Any) -> View:
    """Return what pg1 sees: a standby of pg2, with a good lease; everything answers."""
    known = View(
        now=NOW,
        me=ME,
        tags=Tags(),
        instance=standby() if instance is None else instance,
        cluster=cluster(),
        store_answers=True,
        lease=lease(),
    )
    return replace(known, **changes)


def unlocked(instance: Instance | None = None, **changes: Any) -> View:
    """Return what pg1 sees just after the leader key has gone."""
    known = {"cluster": cluster(None), "unlocked_since": NOW}
    return view(instance, **{**known, **changes})


def lease(seconds: float = 4.5, number: int = OURS) -> Lease:
    """Return a lease that is good for *seconds* from NOW."""
    return Lease(number, NOW + seconds)


def peer(name: str = "pg2", **changes: Any) -> Peer:
    """Return the answer of a standby that holds as much WAL as ours."""
    return replace(Peer(name, "replica", 1, 0x3000, can_lead=True), **changes)


def peers(*answers: Peer) -> dict[str, Peer]:
    """Return *answers* as the view holds them."""
    return {answer.name: answer for answer in answers}


def synchronous(leader: str | None = "pg2", sync: SyncKey | None = None, **changes: Any) -> Cluster:
    """Return a cluster with synchronous replication in quorum mode.

    :param sync: what `/sync` holds.
    :param changes: members and settings by name.
    """
    members = changes.pop("members", ())
    request = changes.pop("handover", None)
    settings = {"synchronous_mode": "quorum", **changes}
    revision = sync.revision if sync is not None else 0
    return cluster(
        leader,
        members=members,
        config=settings,
        sync=sync,
        sync_revision=revision,
        handover=request,
    )


def raw_config(directory: Path | str = "/srv/pg", **sections: Any) -> dict[str, Any]:
    """Return the mapping of a complete configuration file; *sections* replace whole ones."""
    known: dict[str, Any] = {
        "scope": "demo",
        "name": ME,
        "runtime_dir": str(directory),
        "restapi": {"listen": "127.0.0.1:8008", "connect_address": "127.0.0.1:8008"},
        "etcd3": {"hosts": ["192.0.2.1:2379", "192.0.2.2:2379"]},
        "postgresql": {
            "listen": "127.0.0.1:5432",
            "connect_address": "127.0.0.1:5432",
            "data_dir": f"{directory}/data",
            "bin_dir": "/usr/lib/postgresql/15/bin",
            "socket_directory": str(directory),
            "log_file": f"{directory}/postgresql.log",
            "authentication": {
                "superuser": {"username": "postgres", "password": "s3cret"},
                "replication": {"username": "replicator", "password": "r3plica"},
                "rewind": {"username": "pgherd_rewind", "password": "r3wind"},
            },
        },
        "bootstrap": {"dcs": {"ttl": 30}, "initdb": {"encoding": "UTF8"}},
    }
    return {**known, **sections}


def config(directory: Path | str = "/srv/pg", **sections: Any) -> Config:
    """Return a configuration whose files are below *directory*."""
    return build(raw_config(directory, **sections))
