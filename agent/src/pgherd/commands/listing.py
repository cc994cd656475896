# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd list` and `pgherd topology`: how a body of `GET /cluster` is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd.commands.drawing import Cell, Column, duration, size, table
from pgherd.commands.session import LEADING, leader_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROLES: Final = {
    "leader": "Leader",
    "standby_leader": "Standby Leader",
    "sync_standby": "Sync Standby",
    "quorum_standby": "Quorum Standby",
}
WELL: Final = ("running", "streaming")
# States that somebody has to do something about; what is neither changes by itself.
ILL: Final = ("stopped", "crashed", "unknown", "initdb failed", "custom bootstrap failed",
              "start failed", "restart failed", "stop failed")  # fmt: skip
# A standby further behind than this stands out.
LAG_BYTES: Final = 16 * 2**20
LAG_SECONDS: Final = 5.0


def with_lag(body: dict[str, Any], leader_node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body of `GET /cluster` with each standby's lag as the leader sees it at this moment.

    What etcd knows of positions may be some seconds old, and it knows no times. So `lag` (bytes)
    and `lag_seconds` under `pgherd` of a member are what its leader says, and under `pgherd` of the
    cluster stands `leader_answers`.

    :param leader_node: the leader's `GET /patroni`, empty when it did not answer.
    """
    fresh = (leader_node.get("pgherd") or {}).get("standbys") or {}
    members = []
    for row in body.get("members", ()):
        known = fresh.get(row.get("name")) if row.get("role") not in LEADING else None
        members.append({**row, "pgherd": {**(row.get("pgherd") or {}), **known}} if known else row)
    if leader_of(body) is None:
        return {**body, "members": members}
    ours = {**(body.get("pgherd") or {}), "leader_answers": bool(leader_node)}
    return {**body, "members": members, "pgherd": ours}


def render(
    body: Mapping[str, Any],
    nodes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    tree: bool = False,
) -> str:
    """Draw the cluster.

    :param nodes: `GET /patroni` bodies by member name for the verbose columns.
    :param tree: show who streams from whom, and who shall where that is not the same.
    """
    members = list(body.get("members", ()))
    tags = any(row.get("tags") for row in members)
    delays = any("lag_seconds" in (row.get("pgherd") or {}) for row in members)
    columns = [
        Column("Member"), Column("Host"), Column("Role"), Column("State"),
        Column("TL", right=True), Column("Lag", right=True),
    ]  # fmt: skip
    columns += [Column("Delay", right=True)] if delays else []
    columns += [Column("Upstream")] if tree else []
    columns += [Column("Tags")] if tags else []
    columns += [Column("Rule")] if nodes is not None else []
    leader = leader_of(body)
    drawn = []
    for indent, row in _tree(members) if tree else ((("", row)) for row in members):
        cells = _cells(row, indent, leader)
        cells += [_delay(row)] if delays else []
        cells += [_upstream(row, members)] if tree else []
        cells += [Cell(_tags(row), dim=True)] if tags else []
        if nodes is not None:
            ours = nodes.get(str(row.get("name")), {}).get("pgherd") or {}
            cells.append(Cell(f"{ours.get('rule', 'no answer')}: {ours.get('why', '')}"))
        drawn.append(cells)
    title = Cell(f"Cluster: {body.get('scope', '')}", bold=True).drawn()
    return "\n".join([title, table(columns, drawn), *(note.drawn() for note in _notes(body))])


def _cells(row: Mapping[str, Any], indent: str, leader: Mapping[str, Any] | None) -> list[Cell]:
    leads = row.get("role") in LEADING
    state = str(row.get("state", "unknown"))
    colour = "green" if state in WELL else "red" if state in ILL else "yellow"
    waits = " *" if row.get("pending_restart") else ""
    timeline = row.get("timeline")
    elsewhere = leader is not None and timeline not in (None, leader.get("timeline"))
    return [
        Cell(f"{indent}{row.get('name')}{waits}", bold=leads),
        Cell(f"{row.get('host')}:{row.get('port')}"),
        Cell(ROLES.get(str(row.get("role")), "Replica"), "cyan" if leads else None, bold=leads),
        Cell(state, colour),
        Cell("" if timeline is None else str(timeline), "yellow" if elsewhere else None),
        Cell("") if leads else _lag(_known_lag(row)),
    ]


def _known_lag(row: Mapping[str, Any]) -> Any:
    fresh = (row.get("pgherd") or {}).get("lag")
    if fresh is not None:
        return fresh
    replay = row.get("replay_lag")
    return replay if isinstance(replay, int) else row.get("lag")


def _lag(value: Any) -> Cell:
    if not isinstance(value, int):
        return Cell(str(value if value is not None else ""), "red")
    return Cell(size(value), "yellow" if value > LAG_BYTES else None)


def _delay(row: Mapping[str, Any]) -> Cell:
    seconds = (row.get("pgherd") or {}).get("lag_seconds")
    if not isinstance(seconds, int | float):
        return Cell("")
    return Cell(duration(seconds), "yellow" if seconds > LAG_SECONDS else None)


def _upstream(row: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> Cell:
    """Say from whom a standby streams; where it shall do so from another, that as well."""
    actual, wanted = _actual(row), _wanted(row, members)
    if actual is None and (wanted is None or row.get("state") == "streaming"):
        # Patroni's agents do not tell.
        return Cell("")
    if wanted in (None, actual):
        return Cell(str(actual))
    return Cell(f"{actual or 'nobody'} (wanted: {wanted})", "yellow")


def _actual(row: Mapping[str, Any]) -> Any:
    return (row.get("pgherd") or {}).get("upstream")


def _wanted(row: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> Any:
    """Return the member that *row* shall stream from: whom its tag names, else the leader."""
    if row.get("role") in LEADING:
        return None
    names = {each.get("name") for each in members} - {row.get("name")}
    source = (row.get("tags") or {}).get("replicatefrom")
    leader = leader_of({"members": members})
    return source if source in names else leader.get("name") if leader else None


def _tags(row: Mapping[str, Any]) -> str:
    tags = row.get("tags") or {}
    return ", ".join(
        str(name) if value is True else f"{name}: {value}" for name, value in sorted(tags.items())
    )


def _tree(members: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each member after the one it streams from, with the lines that lead to it.

    Of whom nobody tells where it streams from stands below whom it shall stream from.
    """
    leader = leader_of({"members": members})
    root = leader.get("name") if leader else None
    names = {row.get("name") for row in members}
    below: dict[Any, list[dict[str, Any]]] = {}
    for row in members:
        actual = _actual(row)
        if row.get("name") != root:
            known = actual in names and actual != row.get("name")
            below.setdefault(actual if known else _wanted(row, members), []).append(row)
    shown: set[Any] = set()

    def branch(parent: Any, lines: str) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = below.get(parent, [])
        for row in rows:
            if row.get("name") in shown:
                continue
            shown.add(row.get("name"))
            is_last = row is rows[-1]
            yield f"{lines}{'└─' if is_last else '├─'} ", row
            yield from branch(row.get("name"), f"{lines}{'   ' if is_last else '│  '}")

    if leader:
        shown.add(root)
        yield "", leader
    yield from branch(root, "")
    # Members that name one another as source hang on nobody.
    yield from (("? ", row) for row in members if row.get("name") not in shown)


def _notes(body: Mapping[str, Any]) -> Iterator[Cell]:
    members = body.get("members", ())
    if not members:
        yield Cell("No member has published itself; is pgherd running on the hosts?", "yellow")
    elif leader_of(body) is None:
        yield Cell("No leader: writes wait until one is elected.", "red")
    elif (body.get("pgherd") or {}).get("leader_answers") is False:
        yield Cell("The leader does not answer: this is what etcd heard of it last.", "red")
    yield from _restarts(members)
    for text in _acknowledgements(body):
        yield Cell(text, "yellow" if "no standby" in text.lower() else None)
    planned = body.get("scheduled_switchover")
    if planned:
        target = f" to {planned['to']}" if planned.get("to") else ""
        source = f" from {planned['from']}" if planned.get("from") else ""
        yield Cell(f"Switchover{source}{target} at {planned.get('at')}.", "yellow")
    if body.get("pause"):
        yield Cell("Maintenance mode: no automatic failover.", "yellow")


def _restarts(members: Sequence[Mapping[str, Any]]) -> Iterator[Cell]:
    waiting: dict[str, list[str]] = {}
    for row in members:
        for name, values in (row.get("pending_restart_reason") or {}).items():
            text = f"{name} becomes {values['new_value']} (now {values['old_value']})"
            waiting.setdefault(text, []).append(str(row["name"]))
    for text, names in waiting.items():
        yield Cell(f"* {', '.join(names)}: {text} when PostgreSQL is restarted")
    for row in members:
        planned = row.get("scheduled_restart")
        if planned:
            conditions = [
                f"{key.replace('_', ' ')}: {value}"
                for key, value in planned.items()
                if key not in ("schedule", "postmaster_start_time")
            ]
            text = f"{row['name']}: restart at {planned.get('schedule')}"
            yield Cell(text + (f" ({', '.join(conditions)})" if conditions else ""))


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
