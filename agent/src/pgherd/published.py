# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member says about itself: its member key, `GET /patroni`, `GET /cluster`.

Field names and conventions are Patroni's (release 4.1); what is ours stands under `pgherd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd import PATRONI_VERSION, __version__
from pgherd.model import Cluster, Instance, Member, Process, format_lsn, position_of
from pgherd.slot_figures import lacking_slots, slot_rows
from pgherd.slots import failover_slots
from pgherd.timestamps import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import Config
    from pgherd.decide import Decision
    from pgherd.endpoints import Endpoints
    from pgherd.view import View


# What Patroni tells of a standby that streams from us.
REPLICATION_KEYS: Final = (
    "usename",
    "application_name",
    "client_addr",
    "state",
    "sync_state",
    "sync_priority",
)


def state(instance: Instance, operation: str | None, phase: str = "") -> str:
    """Return Patroni's word for what the instance is doing.

    :param phase: how far the operation is, in such a word, if it tells.
    """
    if phase and not (operation is None and instance.has_data):
        return phase
    if operation == "bootstrap":
        return "initializing new cluster"
    if operation == "reinitialize":
        return "creating replica"
    if operation in ("clone", "rejoin") and not instance.is_running:
        return "creating replica"
    if operation in ("restart", "restart primary") and not instance.is_running:
        return "restarting"
    if operation in ("stop", "demote"):
        return "stopping"
    if instance.process is Process.STOPPED and instance.control is not None:
        return "stopped" if instance.control.was_stopped_cleanly else "crashed"
    return instance.process.value


def role(view: View, instance: Instance) -> str:
    """Return Patroni's word for the part the instance plays."""
    if instance.is_primary:
        return "primary"
    if not instance.has_data:
        return "uninitialized"
    if not (view.holds_key and instance.is_standby):
        return "replica"
    return "standby_leader" if view.remote is not None else "promoted"


def replication_state(instance: Instance) -> str | None:
    """Return how a running standby gets its WAL, None for everything else."""
    if not instance.is_standby:
        return None
    return "streaming" if instance.is_streaming else "in archive recovery"


def member_key(config: Config, view: View) -> dict[str, Any]:
    """Return the value of our member key."""
    instance = view.instance
    data: dict[str, Any] = {
        "conn_url": config.conn_url,
        "api_url": config.api_url,
        "state": state(instance, view.activity, view.phase),
        "role": role(view, instance),
        "version": PATRONI_VERSION,
    }
    tags = config.tags.published()
    if view.is_leaving_sync:
        tags["nosync"] = True
    if tags:
        data["tags"] = tags
    if view.scheduled_restart is not None:
        data["scheduled_restart"] = dict(view.scheduled_restart.raw)
    if config.postgres.proxy_address:
        data["proxy_url"] = f"postgres://{config.postgres.proxy_address}/postgres"
    if view.settings.pause:
        data["pause"] = True
    if instance.pending_restart:
        data["pending_restart"] = True
        data["pending_restart_reason"] = instance.pending_restart
    if instance.is_running:
        data["timeline"] = instance.timeline
        data["xlog_location"] = instance.position
    if instance.is_standby:
        data["replication_state"] = replication_state(instance)
        if instance.received:
            data["receive_lsn"] = instance.received
        if instance.replayed:
            data["replay_lsn"] = instance.replayed
    if instance.owes_checkpoint:
        data["checkpoint_after_promote"] = False
    extra: dict[str, Any] = {}
    if not view.is_fit and not view.tags.nofailover:
        extra["unfit"] = True
    if view.reach is not None and view.sync is not None:
        extra |= {"reach": sorted(view.reach), "asked": view.sync.revision}
    if instance.is_running and instance.started_at:
        extra["started"] = instance.started_at
        extra["config_revision"] = view.config_revision
    if instance.acknowledging.standbys:
        extra["awaits"] = sorted(instance.acknowledging.standbys)
    if view.config_problems:
        extra["config_problems"] = list(view.config_problems)
    if view.terms:
        extra["terms"] = list(view.terms)
    if instance.is_streaming and instance.sender:
        extra["upstream"] = instance.sender
    if failover_slots(view):
        extra["failover_slots"] = failover_slots(view)
    if view.slots_to_copy:
        extra["slots_to_copy"] = list(view.slots_to_copy)
    if view.is_leaving_sync:
        extra["leaving"] = True
    if config.pooler is not None and config.pooler.rw is not None:
        extra["pooler"] = True
    if extra:
        data["pgherd"] = extra
    return data


def patroni_body(
    config: Config,
    view: View,
    instance: Instance,
    decision: Decision | None,
    dcs_last_seen: int,
    standbys: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the body of `GET /patroni` and of every health check.

    :param instance: the instance as it is now, newer than the view's perhaps.
    :param dcs_last_seen: when etcd last answered, seconds since the epoch.
    :param standbys: how far the others are behind us, which only a leader knows.
    """
    body: dict[str, Any] = {
        "state": state(instance, view.activity, view.phase),
        "role": role(view, instance),
    }
    if instance.is_running:
        body |= {
            "postmaster_start_time": instance.started_at,
            "server_version": instance.server_version,
            "timeline": instance.timeline,
            "xlog": _xlog(instance),
        }
        if instance.is_standby:
            body["replication_state"] = replication_state(instance)
        body |= _synchronous(view)
        if instance.replication:
            body["replication"] = [
                {key: row[key] for key in REPLICATION_KEYS if key in row}
                for row in instance.replication
            ]
    if view.cluster is not None and view.leader is None:
        body["cluster_unlocked"] = True
    if view.leads_by_promise and not view.store_answers:
        body["failsafe_mode_is_active"] = True
    if view.watchdog_missing:
        body["watchdog_failed"] = True
    if view.settings.pause:
        body["pause"] = True
    body["dcs_last_seen"] = dcs_last_seen
    tags = config.tags.published()
    if tags:
        body["tags"] = tags
    if instance.system_id:
        body["database_system_identifier"] = instance.system_id
    if instance.pending_restart:
        body["pending_restart"] = True
        body["pending_restart_reason"] = instance.pending_restart
    if view.scheduled_restart is not None:
        body["scheduled_restart"] = dict(view.scheduled_restart.raw)
    body["patroni"] = {"version": PATRONI_VERSION, "scope": config.scope, "name": config.name}
    body["pgherd"] = {
        "version": __version__,
        "rule": decision.rule.name if decision else None,
        "why": decision.rule.why if decision else None,
        "operation": view.operation,
        "can_lead": view.can_lead,
        "receives": instance.receives,
        "promised_to": view.promised_to,
        "guarded": view.guarded,
        "disk": instance.disk or view.instance.disk or "well",
    }
    if standbys:
        body["pgherd"]["standbys"] = standbys
    if instance.slots:
        body["pgherd"]["slots"] = slot_rows(instance)
    if view.config_problems:
        body["pgherd"]["config_problems"] = list(view.config_problems)
    return body


def _synchronous(view: View) -> dict[str, Any]:
    """Return Patroni's key for a standby whose acknowledgement counts, nothing for others."""
    if view.cluster is None or not view.instance.is_standby:
        return {}
    role = standby_role(view.cluster, view.me)
    return {role: True} if role != "replica" else {}


def standby_role(cluster: Cluster, name: str) -> str:
    """Return what *name* is in `GET /cluster` when it does not lead."""
    voters = cluster.sync.electing.voters if cluster.sync is not None else ()
    if name not in voters or cluster.remote is not None:
        return "replica"
    quorum = cluster.settings.synchronous_mode == "quorum"
    return "quorum_standby" if quorum else "sync_standby"


def _xlog(instance: Instance) -> dict[str, Any]:
    if instance.is_primary:
        return {"location": instance.location}
    return {
        "received_location": instance.received or 0,
        "replayed_location": instance.replayed or 0,
        "replayed_timestamp": instance.replayed_at,
        "paused": instance.replay_paused,
    }


def cluster_body(
    cluster: Cluster, scope: str, endpoints: Endpoints | None = None
) -> dict[str, Any]:
    """Return the body of `GET /cluster`.

    :param endpoints: where applications connect, if the configuration says it.
    """
    members = [_member_row(cluster, member) for _, member in sorted(cluster.members.items())]
    body: dict[str, Any] = {"members": members, "scope": scope}
    if cluster.settings.pause:
        body["pause"] = True
    request = cluster.handover
    if request is not None and request.at is not None:
        scheduled = {"at": iso(request.at), "from": request.leader, "to": request.candidate}
        body["scheduled_switchover"] = {key: value for key, value in scheduled.items() if value}
    ours: dict[str, Any] = {}
    mode = cluster.settings.synchronous_mode
    if mode != "off" and cluster.sync is not None:
        count = cluster.sync.electing.fitting.count
        strict = cluster.settings.synchronous_mode_strict
        ours |= {"synchronous_mode": mode, "strict": strict, "acknowledgements": count}
    if cluster.uninformed:
        ours["uninformed"] = list(cluster.uninformed)
    if endpoints is not None:
        ours["endpoints"] = endpoints.published()
    if ours:
        body["pgherd"] = ours
    return body


def _member_row(cluster: Cluster, member: Member) -> dict[str, Any]:
    leads = cluster.leader is not None and cluster.leader.name == member.name
    replication = member.data.get("replication_state")
    leading = "standby_leader" if cluster.remote is not None else "leader"
    role = leading if leads else standby_role(cluster, member.name)
    row: dict[str, Any] = {
        "name": member.name,
        "role": role,
        "state": replication if replication and role != "leader" else member.state,
        "api_url": member.api_url,
        "host": member.host,
        "port": member.port,
    }
    if member.timeline is not None:
        row["timeline"] = member.timeline
    for key in ("pending_restart", "pending_restart_reason", "scheduled_restart", "tags"):
        if member.data.get(key):
            row[key] = member.data[key]
    if not leads:
        row |= _lag("receive", member.data.get("receive_lsn"), cluster.optime)
        row |= _lag("replay", member.data.get("replay_lsn"), cluster.optime)
        position = member.position
        known = position is not None and "timeline" in row
        row["lsn"] = format_lsn(position) if known and position is not None else "unknown"
        row["lag"] = max(0, cluster.optime - (position or 0)) if known else "unknown"
    ours = _told_by_us(cluster, member)
    return {**row, "pgherd": ours} if ours else row


def _told_by_us(cluster: Cluster, member: Member) -> dict[str, Any]:
    """Return what Patroni does not tell: whom *member* streams from, and slots it lacks.

    `upstream` is a member's name, or an address that is no member's.
    """
    told: dict[str, Any] = {}
    sender = member.ours.get("upstream")
    if isinstance(sender, str):
        names = [each.name for each in cluster.members.values() if each.address == sender]
        told["upstream"] = names[0] if names else sender
    missing = lacking_slots(cluster, member)
    if missing:
        told["failover_slots_missing"] = missing
    return told


def _lag(kind: str, lsn: Any, optime: int) -> Mapping[str, Any]:
    position = position_of(lsn)
    if not position:
        return {f"{kind}_lsn": "unknown", f"{kind}_lag": "unknown"}
    return {f"{kind}_lsn": format_lsn(position), f"{kind}_lag": max(0, optime - position)}
