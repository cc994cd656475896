# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor looks at beyond this host: etcd, the other members, replication."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from pgherd.commands.findings import (
    Finding,
    good,
    hint,
    judge_latency,
    judge_skew,
    judge_standby,
    problem,
    warning,
)
from pgherd.commands.session import LEADING, leader_of
from pgherd.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

    from pgherd.commands.patient import Patient
    from pgherd.config import Config

# Reads of etcd whose median is judged: one may be slow by chance.
READS: Final = 5
CONNECT_SECONDS: Final = 3


def etcd(patient: Patient) -> Iterator[Finding]:
    """Look at each of etcd's members, and at how long it takes to answer."""
    yield from asyncio.run(_examine_etcd(patient.config))


async def _examine_etcd(config: Config) -> list[Finding]:
    from pgherd.commands.keys import opened

    findings: list[Finding] = []
    async with opened(config) as store:
        client = store.etcd
        told = await asyncio.gather(
            *(client.member_status(endpoint) for endpoint in client.endpoints),
            return_exceptions=True,
        )
        leaders = set()
        for endpoint, status in zip(client.endpoints, told, strict=True):
            if isinstance(status, BaseException):
                remedy = "on that host: systemctl status etcd; journalctl -u etcd"
                text = str(status).removeprefix(endpoint).strip()
                findings.append(problem("etcd", f"{endpoint} {text}", remedy))
                continue
            leaders.add(status.leader_id)
            findings.append(good("etcd", f"{endpoint} answers, version {status.version}"))
        if leaders and (len(leaders) > 1 or 0 in leaders):
            text = "its members do not agree on a leader"
            findings.append(problem("etcd", text, "etcdctl endpoint status --cluster"))
        try:
            count = len(await client.member_ids())
            findings.append(judge_latency(await _latency(store), config.timing.etcd_timeout))
        except StoreError as error:
            remedy = "bring members back until more than half of them live"
            return [*findings, problem("etcd", f"it has no quorum: {error}", remedy)]
    if count % 2 == 0:
        remedy = "have an odd number of members, 3 or 5"
        findings.append(hint("etcd", f"{count} members bear no more losses than one less", remedy))
    elif count == 1:
        findings.append(hint("etcd", "one member bears no loss", "have three members"))
    return findings


async def _latency(store: Any) -> float:
    taken = []
    for _ in range(READS):
        begun = time.monotonic()
        await store.load()
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)


def leadership(patient: Patient) -> Iterator[Finding]:
    """Look who leads, and for whom commits wait."""
    cluster = patient.cluster
    if not cluster["members"]:
        yield problem("cluster", "no member is known", "are the agents running, and etcd?")
        return
    leader = leader_of(cluster)
    if leader is None:
        remedy = "pgherd list --verbose tells why nobody takes the key"
        yield problem("cluster", "there is no leader: no writes", remedy)
    else:
        yield good("cluster", f"{leader['name']} leads on timeline {leader.get('timeline')}")
    if cluster.get("pause"):
        yield warning("cluster", "maintenance mode: no automatic failover", "pgherd resume")
    ours = cluster.get("pgherd") or {}
    if ours.get("synchronous_mode", "off") != "off" and not ours.get("acknowledgements"):
        remedy = "bring a standby back: pgherd list"
        yield warning("cluster", "no standby acknowledges commits: they are on one host", remedy)
    for row in cluster["members"]:
        if row.get("pending_restart"):
            remedy = "pgherd restart --rolling --pending"
            text = f"{row['name']} waits for a restart: changed settings are not in force"
            yield hint("cluster", text, remedy)


def peers(patient: Patient) -> Iterator[Finding]:
    """Look whether the agents and the PostgreSQL of the others can be reached, and their clocks."""
    versions = {
        (node.get("pgherd") or {}).get("version") for node in patient.nodes.values() if node
    }
    if len(versions) > 1:
        told = ", ".join(sorted(str(version) for version in versions))
        yield hint("peers", f"agents of several versions: {told}", "run site.yml")
    for row in patient.peers:
        name = str(row["name"])
        if patient.nodes.get(name):
            yield good("peers", f"the agent of {name} answers")
        else:
            remedy = f"on {name}: systemctl status pgherd; is port 8008 open between the hosts?"
            yield problem("peers", f"the agent of {name} does not answer us", remedy)
        yield from _postgresql_of(patient, row)


def connect(config: Config, **place: Any) -> psycopg.Connection[dict[str, Any]]:
    """Connect to PostgreSQL at *place* (host, port) as the superuser.

    :raises psycopg.Error: it does not let us in, or does not answer.
    """
    import psycopg
    from psycopg.rows import dict_row

    account = config.postgres.superuser
    return psycopg.connect(
        dbname="postgres",
        user=account.username,
        password=account.password or None,
        connect_timeout=CONNECT_SECONDS,
        application_name="pgherd doctor",
        row_factory=dict_row,
        autocommit=True,
        **place,
    )


def reason_of(error: Exception) -> str:
    """Return the line of libpq's that tells what happened, without its questions."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.endswith("?")), "no answer")


def _postgresql_of(patient: Patient, row: Mapping[str, Any]) -> Iterator[Finding]:
    import psycopg

    name, place = row["name"], f"{row['host']}:{row['port']}"
    try:
        with connect(patient.config, host=row["host"], port=row["port"]) as connection:
            before = time.time()
            told = connection.execute(
                "SELECT extract(epoch FROM clock_timestamp())::float AS now"
            ).fetchone()
            after = time.time()
    except psycopg.Error as error:
        reason = reason_of(error)
        remedy = (
            f"is PostgreSQL running on {name}, its port open, and pg_hba.conf as site.yml says?"
        )
        yield problem("peers", f"PostgreSQL of {name} ({place}): {reason}", remedy)
        return
    yield good("peers", f"PostgreSQL of {name} answers on {place}")
    if told is not None:
        middle = (before + after) / 2
        yield judge_skew(str(name), told["now"] - middle, (after - before) / 2)


def replication(patient: Patient) -> Iterator[Finding]:
    """Look at every standby's lag, and whether this host replays."""
    leader = leader_of(patient.cluster)
    for row in patient.members:
        if row.get("role") in LEADING:
            continue
        yield judge_standby(row)
        if leader and row.get("timeline") not in (None, leader.get("timeline")):
            text = f"{row['name']} is on timeline {row['timeline']}, not {leader.get('timeline')}"
            yield problem("replication", text, f"journalctl -u pgherd on {row['name']}")
    if (patient.node.get("xlog") or {}).get("paused"):
        remedy = "SELECT pg_wal_replay_resume()"
        yield warning("replication", "replay is paused on this host", remedy)
