# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor says of replication slots: on all members, for what one holds fills its disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgherd.commands.drawing import size
from pgherd.commands.examine_cluster import connect, reason_of
from pgherd.commands.findings import Finding, good, hint, problem, warning
from pgherd.commands.session import LEADING
from pgherd.pgfiles import slot_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pgherd.commands.patient import Patient

# A slot that holds back more than this fills the disk of whoever keeps it, bytes; and the share of
# max_slot_wal_keep_size from which on PostgreSQL is about to remove what the slot still needs.
MUCH_BYTES: Final = 4 << 30
NEARLY_ALL: Final = 0.8
SLOTS: Final = """
SELECT slot_name, slot_type, active, wal_status, pg_is_in_recovery() AS in_recovery,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS kept,
       pg_size_bytes(current_setting('max_slot_wal_keep_size')) AS most
  FROM pg_replication_slots
 WHERE NOT temporary
"""


def slots(patient: Patient) -> Iterator[Finding]:
    """Look at the slots of every member, and whether this host's PostgreSQL answers at all."""
    import psycopg

    own = patient.config.postgres
    places = {str(row["name"]): (row["host"], row["port"]) for row in patient.peers}
    places[patient.name] = own.connect_host, own.connect_port
    owners = {slot_name(str(row["name"])): str(row["name"]) for row in patient.members}
    counts, bad = [], []
    for name, (host, port) in sorted(places.items()):
        try:
            with connect(patient.config, host=host, port=port) as connection:
                rows = connection.execute(SLOTS).fetchall()
        except psycopg.Error as error:
            # What is wrong with the others is told where they are looked at.
            if name == patient.name:
                reason = reason_of(error)
                remedy = "pgherd list --verbose shows what the agent is at; see PostgreSQL's log"
                yield problem("replication", f"PostgreSQL of this host: {reason}", remedy)
            continue
        counts.append(len(rows))
        judged = (judge_slot(name, row, owners.get(row["slot_name"])) for row in rows)
        bad += [finding for finding in judged if finding is not None]
    yield from bad
    if counts and not bad:
        yield good("slots", f"{sum(counts)} in all on {len(counts)} members, every one well")


def judge_slot(place: str, row: Mapping[str, Any], owner: str | None) -> Finding | None:
    """Judge a row of `SLOTS` of the member *place*; None for one that is well.

    :param owner: the member whose slot it is, None for any other user's.
    """
    name, kept, most = row["slot_name"], int(row["kept"] or 0), int(row["most"])
    drop = f"SELECT pg_drop_replication_slot('{name}') on {place}"
    if row["wal_status"] == "lost":
        text = f"{place}: slot {name} has lost WAL that its user needs"
        remedy = f"its user has to begin anew, then {drop}"
        return problem("slots", text, f"pgherd reinit {owner}" if owner else remedy)
    user = f"{owner}" if owner else f"the user of {name}"
    if row["wal_status"] == "unreserved" or 0 < most * NEARLY_ALL < kept:
        bound = f" of at most {size(most)}" if most >= 0 else ""
        text = f"{place}: slot {name} keeps {size(kept)}{bound} of WAL and is about to lose some"
        remedy = (
            f"have {user} catch up, or raise max_slot_wal_keep_size: "
            "pgherd edit-config --pg max_slot_wal_keep_size=…"
        )
        return problem("slots", text, remedy)
    if kept > MUCH_BYTES:
        used = "its user is behind" if row["active"] else "nobody uses it"
        remedy = f"look at what holds {user} up" if row["active"] else f"bring {user} back"
        remedy += "" if owner else f"; without one any more: {drop}"
        return warning("slots", f"{place}: slot {name} keeps {size(kept)} of WAL: {used}", remedy)
    # On a standby only its own users' slots are in use; copies wait for the day it leads.
    if not row["active"] and not row["in_recovery"] and owner is None:
        text = f"{place}: nobody uses slot {name}; WAL piles up for it ({size(kept)} so far)"
        remedy = (
            f"start its user; without one any more: pgherd edit-config --set slots.{name}=null, "
            f"and {drop}"
        )
        return hint("slots", text, remedy)
    return None


def failover_slots(patient: Patient) -> Iterator[Finding]:
    """Look whether logical subscribers could go on, whichever standby leads next."""
    rows = [
        row
        for row in patient.members
        if row.get("role") not in LEADING and not (row.get("tags") or {}).get("nofailover")
    ]
    lacking = {str(row["name"]): _missing(row) for row in rows if _missing(row)}
    # An heir is chosen among those that have all of them, where there is one.
    judge = problem if len(lacking) == len(rows) else warning
    for name, missing in lacking.items():
        text = f"{name} lacks {', '.join(missing)}: if it led, their subscribers had to begin anew"
        remedy = (
            "a new slot takes seconds and some traffic; for others see the log of PostgreSQL on "
            f"{name}, and whether hot_standby_feedback is on and it streams from the leader"
        )
        yield judge("slots", text, remedy)


def _missing(row: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in (row.get("pgherd") or {}).get("failover_slots_missing", ())]
