# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd list`: where its answer comes from and how it is drawn."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from pgherd.errors import StoreError, StoreUnavailableError
from pgherd.etcd import Etcd
from pgherd.published import cluster_body
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.config import Config

REQUEST_SECONDS: Final = 3.0
ROLES: Final = {
    "leader": "Leader",
    "sync_standby": "Sync Standby",
    "quorum_standby": "Quorum Standby",
}
STATE_COLOURS: Final = {"running": "green", "streaming": "green"}


def fetch(config: Config) -> dict[str, Any]:
    """Return the body of `GET /cluster`: from the local agent, else from etcd itself.

    :raises StoreError: neither answers.
    """
    try:
        return _ask(config, f"{config.api_url.removesuffix('/patroni')}/cluster")
    except (OSError, ValueError):
        return asyncio.run(_read_etcd(config))


def fetch_node(config: Config, api_url: str) -> dict[str, Any]:
    """Return the body of `GET /patroni` of one member, empty when it does not answer."""
    try:
        return _ask(config, api_url)
    except (OSError, ValueError):
        return {}


def _ask(config: Config, url: str) -> dict[str, Any]:
    context = config.ctl.context()
    with urllib.request.urlopen(url, timeout=REQUEST_SECONDS, context=context) as response:
        body = json.load(response)
    return body if isinstance(body, dict) else {}


async def _read_etcd(config: Config) -> dict[str, Any]:
    etcd = Etcd(
        config.etcd_endpoints,
        timeout=REQUEST_SECONDS,
        hedge_delay=config.timing.hedge_delay,
        tls=config.etcd_tls.client_context(),
    )
    try:
        store = Store(etcd, config.namespace, config.scope, config.name)
        return cluster_body(await store.load(), config.scope)
    except StoreUnavailableError as error:
        raise StoreError(
            f"neither the agent on this host nor etcd answers ({error}); look at "
            "`systemctl status pgherd etcd`"
        ) from error
    finally:
        await etcd.close()


def _size(value: Any) -> str:
    """Return a lag in bytes the way people read it; `unknown` stays."""
    if not isinstance(value, int):
        return str(value if value is not None else "")
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def render(body: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> Group:
    """Draw the cluster.

    :param nodes: `GET /patroni` bodies by member name for the verbose columns; empty for none.
    """
    table = Table(title=f"Cluster: {body.get('scope', '')}", title_justify="left")
    for column in ("Member", "Host", "Role", "State"):
        table.add_column(column)
    table.add_column("TL", justify="right")
    table.add_column("Lag", justify="right")
    if nodes:
        table.add_column("Rule")
    for member in body.get("members", ()):
        table.add_row(*_row(member, nodes))
    notes = [Text(note) for note in _notes(body)]
    return Group(table, *notes)


def _row(member: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> list[Text]:
    leads = member.get("role") == "leader"
    state = str(member.get("state", "unknown"))
    mark = " *" if member.get("pending_restart") else ""
    row = [
        Text(str(member.get("name")) + mark, style="bold" if leads else ""),
        Text(f"{member.get('host')}:{member.get('port')}"),
        Text(ROLES.get(str(member.get("role")), "Replica"), style="bold cyan" if leads else ""),
        Text(state, style=STATE_COLOURS.get(state, "red")),
        Text(str(member.get("timeline", ""))),
        Text("" if leads else _size(member.get("lag"))),
    ]
    if nodes:
        ours = nodes.get(str(member.get("name")), {}).get("pgherd") or {}
        row.append(Text(f"{ours.get('rule', 'no answer')}: {ours.get('why', '')}"))
    return row


def _notes(body: Mapping[str, Any]) -> list[str]:
    members = body.get("members", ())
    notes = []
    if not members:
        notes.append("No member has published itself; is pgherd running on the hosts?")
    elif not any(member.get("role") == "leader" for member in members):
        notes.append("No leader: writes wait until one is elected.")
    for member in members:
        reasons = member.get("pending_restart_reason") or {}
        for name, values in reasons.items():
            notes.append(
                f"* {member['name']}: {name} becomes {values['new_value']} (now "
                f"{values['old_value']}) when PostgreSQL is restarted"
            )
    notes += _acknowledgements(body)
    if body.get("pause"):
        notes.append("Maintenance mode: no automatic failover.")
    return notes


def _acknowledgements(body: Mapping[str, Any]) -> list[str]:
    ours = body.get("pgherd") or {}
    if ours.get("synchronous_mode", "off") == "off":
        return []
    count = ours.get("acknowledgements")
    roles = ("sync_standby", "quorum_standby")
    names = [str(each["name"]) for each in body.get("members", ()) if each.get("role") in roles]
    if not count and ours.get("strict"):
        return ["Commits wait: no standby acknowledges, and synchronous_mode_strict is on."]
    if not count:
        return ["No standby acknowledges: a commit is on the leader only, and only it may lead."]
    return [f"A commit waits for the leader and {count} of {', '.join(names)}."]


def show(console: Console, config: Config, *, verbose: bool) -> Group:
    """Fetch and draw once.

    :raises StoreError: nobody answers.
    """
    body = fetch(config)
    nodes: dict[str, Mapping[str, Any]] = {}
    if verbose:
        for member in body.get("members", ()):
            nodes[member["name"]] = fetch_node(config, member["api_url"])
    return render(body, nodes)
