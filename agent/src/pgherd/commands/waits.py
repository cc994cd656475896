# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd wait`, and the waiting of other commands: for what etcd tells of, by its watch."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.session import ETCD_REMEDY, LEADING, leader_of, session_command
from pgherd.errors import NobodyAnswersError, PgherdError, StoreError, TooLateError
from pgherd.ledger import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pgherd.commands.session import Session
    from pgherd.ledger import Entry
    from pgherd.model import Cluster
    from pgherd.store import Store

# A watch that has died says nothing: etcd is read again so often at least, seconds.
RELOOK_SECONDS: Final = 5.0
# When etcd does not answer, seconds until it is asked again.
RETRY_SECONDS: Final = 0.5
ROLES: Final = (
    "leader", "primary", "standby_leader", "replica", "standby", "sync_standby", "quorum_standby",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What is waited for; all of it must hold.

    :param leader: a leader, of this name unless it is empty; None when it does not matter.
    :param role: of each of *members*.
    :param state: of each of *members*.
    :param replicas: so many standbys stream on the leader's timeline.
    :param settled: no restart is pending, for *members* or anyone.
    :param paused: maintenance mode is on or off; None when it does not matter.
    :param operation: the id of one that has ended.
    """

    members: tuple[str, ...] = ()
    leader: str | None = None
    role: str | None = None
    state: str | None = None
    replicas: int | None = None
    settled: bool = False
    paused: bool | None = None
    operation: str | None = None
    healthy: bool = False


def missing(wanted: Wanted, body: Mapping[str, Any], operations: Sequence[Any] = ()) -> list[str]:
    """Return one sentence for everything that does not hold yet.

    :param body: as `GET /cluster` gives it.
    :param operations: as `GET /operations` gives them.
    """
    rows = {str(row.get("name")): row for row in body.get("members", ())}
    named = {name: rows.get(name) for name in wanted.members}
    problems = []
    if wanted.leader is not None:
        problems += _leader_missing(wanted.leader, body)
    if wanted.healthy:
        problems += _leader_missing("", body) or _laggards(body)
    for name, row in named.items():
        if row is None:
            problems.append(f"{name} is no member")
            continue
        if wanted.role is not None and not _plays(row, wanted.role):
            problems.append(f"{name} is {row.get('role')}")
        if wanted.state is not None and row.get("state") != wanted.state:
            problems.append(f"{name} is {row.get('state')}")
    if wanted.replicas is not None:
        count = len(_streaming(body))
        problems += [f"{count} standbys stream"] if count < wanted.replicas else []
    if wanted.settled:
        waiting = [n for n, row in rows.items() if row.get("pending_restart")]
        waiting = [name for name in waiting if not named or name in named]
        problems += [f"{', '.join(waiting)} must be restarted"] if waiting else []
        problems += _uninformed(body, named)
    if wanted.paused is not None:
        problems += _pause_missing(wanted.paused, body)
    if wanted.operation is not None:
        entry = next((each for each in operations if each["id"] == wanted.operation), None)
        if entry is None or not entry.get("finished_at"):
            state = entry["state"] if entry else "not known"
            problems.append(f"operation {wanted.operation} is {state}")
    return problems


def _uninformed(body: Mapping[str, Any], named: Iterable[str] = ()) -> list[str]:
    """Say which members, of *named* or of all, may not know yet what waits for a restart."""
    late = (body.get("pgherd") or {}).get("uninformed") or ()
    late = [name for name in late if not named or name in named]
    return [f"{', '.join(late)} must take in the configuration"] if late else []


def _leader_missing(name: str, body: Mapping[str, Any]) -> list[str]:
    leader = leader_of(body)
    if leader is None:
        return ["there is no leader"]
    if name and leader.get("name") != name:
        return [f"{leader.get('name')} leads"]
    works = leader.get("state") == "running" and leader.get("role") in LEADING
    if leader.get("role") == "standby_leader":
        works = leader.get("state") in ("running", "streaming", "in archive recovery")
    return [] if works else [f"{leader.get('name')} leads and is {leader.get('state')}"]


def _streaming(body: Mapping[str, Any]) -> list[Any]:
    leader = leader_of(body)
    return [
        row
        for row in body.get("members", ())
        if row.get("role") not in LEADING
        and row.get("state") == "streaming"
        and leader is not None
        and row.get("timeline") == leader.get("timeline")
    ]


def _laggards(body: Mapping[str, Any]) -> list[str]:
    good = [row.get("name") for row in _streaming(body)]
    return [
        f"{row.get('name')} is {row.get('state')} on timeline {row.get('timeline')}"
        for row in body.get("members", ())
        if row.get("role") not in LEADING and row.get("name") not in good
    ]


def _plays(row: Mapping[str, Any], role: str) -> bool:
    actual = str(row.get("role"))
    if role in ("standby", "replica"):
        # Patroni's word for a standby of any kind is replica.
        return actual not in LEADING
    return actual == {"primary": "leader"}.get(role, role)


def _pause_missing(paused: bool, body: Mapping[str, Any]) -> list[str]:
    if bool(body.get("pause")) != paused:
        return [f"maintenance mode is {'off' if paused else 'on'}"]
    return []


def await_cluster(
    session: Session, judge: Callable[[Cluster], Sequence[str]], within: float
) -> Cluster:
    """Wait until *judge* finds nothing missing.

    :param within: seconds.
    :raises TooLateError: something is still missing.
    :raises NobodyAnswersError: etcd has not answered in all that time.
    """
    from pgherd.commands.keys import opened

    problems: list[str] = ["etcd does not answer"]

    async def run() -> Cluster:
        async with opened(session.known) as store, asyncio.timeout(within):
            while True:
                try:
                    cluster = await store.load()
                    problems[:] = judge(cluster)
                    if not problems:
                        return cluster
                    await _change(store, cluster.revision)
                except StoreError as error:
                    problems[:] = [str(error)]
                    await asyncio.sleep(RETRY_SECONDS)

    try:
        return asyncio.run(run())
    except TimeoutError as error:
        text = f"after {within:g} s: {'; '.join(problems)}"
        if "etcd" in problems[0]:
            raise NobodyAnswersError(f"{text}; {ETCD_REMEDY}") from error
        raise TooLateError(text) from error


async def _change(store: Store, revision: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RELOOK_SECONDS):
            async for _ in store.changes(revision):
                return


def await_wanted(session: Session, wanted: Wanted, within: float) -> Cluster:
    """Wait for *wanted*; see `await_cluster`."""
    from pgherd.published import cluster_body

    def judge(cluster: Cluster) -> list[str]:
        operations = [entry.published() for entry in cluster.ledger]
        problems = missing(wanted, cluster_body(cluster, session.known.scope), operations)
        return problems or _promotion_missing(wanted, cluster)

    return await_cluster(session, judge, within)


def _promotion_missing(wanted: Wanted, cluster: Cluster) -> list[str]:
    """Say so when the leader that is waited for has the key and takes no writes yet."""
    member = cluster.leader_member
    if member is None or (wanted.leader is None and not wanted.healthy):
        return []
    plays = member.data.get("role")
    leads = plays in ("primary", "master", "standby_leader")
    return [] if leads else [f"{member.name} leads and is {plays}"]


def informed_cluster(session: Session, within: float) -> dict[str, Any]:
    """Return the body of `GET /cluster` once all members know what waits for a restart.

    :param within: seconds; after that it is returned as it is.
    """
    body = session.cluster()
    if not _uninformed(body) or not session.known.etcd_endpoints:
        return body
    from pgherd.published import cluster_body

    with contextlib.suppress(TooLateError, NobodyAnswersError):
        await_cluster(
            session,
            lambda cluster: _uninformed(cluster_body(cluster, session.known.scope)),
            within,
        )
    return session.cluster()


def await_operation(
    session: Session,
    number: str,
    within: float,
    notice: Callable[[Entry], None] = lambda entry: None,
) -> dict[str, Any]:
    """Return the operation with the id *number* once it has ended.

    :param notice: called with it for every change of the cluster until then.
    :raises TooLateError: it has not, within so many seconds.
    """

    def judge(cluster: Cluster) -> list[str]:
        entry = find(cluster.ledger, number)
        if entry is None:
            return [f"operation {number} is not known"]
        notice(entry)
        return [] if entry.is_finished else [f"operation {number} is {entry.state}"]

    entry = find(await_cluster(session, judge, within).ledger, number)
    return entry.published() if entry else {}


@click.command("wait")
@session_command(members=True)
@click.option(
    "--leader", is_flag=False, flag_value="", metavar="[NAME]", help="NAME leads; alone: anybody."
)
@click.option(
    "--role",
    metavar="ROLE",
    type=click.Choice(ROLES),
    help=f"MEMBER, else this host's, is one of {', '.join(ROLES)}.",
)
@click.option("--state", metavar="STATE", help="MEMBER is running, streaming, …")
@click.option("--replicas", type=int, metavar="N", help="N standbys stream, or more.")
@click.option("--no-pending-restart", "settled", is_flag=True, help="Nobody needs a restart.")
@click.option("--paused/--not-paused", default=None, help="Maintenance mode is on, or off.")
@click.option("--operation", metavar="ID", help="That one has ended; code 1 unless it is done.")
@click.option("--healthy", is_flag=True, help="A leader, and all others stream; the default.")
@click.option(
    "--within", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait."
)
def wait_command(session: Session, *, within: float, **given: Any) -> None:
    """Wait until a state holds, for scripts.

    All that is asked for must hold at the same time; nothing asked for is --healthy. Exit code 4
    when it did not in time, and one line says what was missing.
    """
    members = session.members
    if not members and (given["role"] or given["state"]):
        if not session.known.name:
            raise click.UsageError("say whose: pgherd wait MEMBER --role ROLE")
        members = (session.known.name,)
    wanted = Wanted(members, **given)
    if wanted == Wanted(members):
        wanted = Wanted(members, healthy=True)
    cluster = await_wanted(session, wanted, within)
    entry = next((each for each in cluster.ledger if each.id == wanted.operation), None)
    if session.as_json:
        from pgherd.published import cluster_body

        session.answer(entry.published() if entry else cluster_body(cluster, session.known.scope))
    if entry is not None and entry.state != "done":
        raise PgherdError(f"{entry.kind} {entry.id} {entry.state}: {entry.result}")
