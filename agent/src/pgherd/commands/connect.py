# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach PostgreSQL, and SQL on a member."""

from __future__ import annotations

import itertools
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.drawing import Cell, Column, table
from pgherd.commands.dsn import FORMATS, Way, service_file
from pgherd.commands.members import ROLES, chosen
from pgherd.commands.session import by_use, session_command
from pgherd.endpoints import Endpoints
from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pgherd.commands.session import Session

CONNECT_SECONDS: Final = 5

_role = click.option(
    "-r", "--role", metavar="ROLE", type=click.Choice(ROLES), help=f"One of {', '.join(ROLES)}."
)
_member = click.option("-m", "--member", metavar="NAME", help="This member.")


def target(session: Session, role: str | None, member: str | None) -> dict[str, Any]:
    """Return the member that is meant: the leader unless it is said otherwise.

    :raises PgherdError: there is none.
    """
    rows = chosen(session, role or ("any" if member else "leader"))
    rows = [row for row in rows if member in (None, row["name"])]
    if not rows:
        raise PgherdError(f"there is no member {member!r} of that role")
    return rows[0]


@click.command("dsn")
@session_command()
@_role
@_member
@click.option("--uri", is_flag=True, help="All members, as a URI that finds the leader.")
@click.option(
    "--rw", "use", flag_value="rw", help="The cluster's entry for applications that write."
)
@click.option("--ro", "use", flag_value="ro", help="Its entry for those that only read.")
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    type=click.Choice(list(FORMATS)),
    help=f"The entry for one of {', '.join(FORMATS)}.",
)
@click.option("--service", is_flag=True, help="Both entries as a pg_service.conf.")
@click.option("-d", "--dbname", "--database", metavar="NAME", help="Database, for the entry.")
@click.option("-U", "--username", "--user", metavar="NAME", help="User, for the entry.")
def dsn_command(
    session: Session,
    *,
    role: str | None,
    member: str | None,
    uri: bool,
    **entry: Any,
) -> None:
    """Print how to connect: `host=… port=…` of the leader, or of whom the options mean.

    With --rw, --ro, --format or --service it is the way that applications take: through the
    address that moves, the balancers or the poolers, as the cluster has them.
    """
    if any(entry.values()):
        if uri or role or member:
            raise click.UsageError("--uri, --role and --member are about members, not the entry")
        _print_entry(session, **entry)
        return
    if uri:
        places = [f"{row['host']}:{row['port']}" for row in session.cluster()["members"]]
        text = f"postgresql://{','.join(places)}/postgres?target_session_attrs=read-write"
        session.answer({"uri": text}) if session.as_json else click.echo(text)
        return
    row = target(session, role, member)
    if session.as_json:
        session.answer({"name": row["name"], "host": row["host"], "port": row["port"]})
    else:
        click.echo(f"host={row['host']} port={row['port']}")


def _print_entry(
    session: Session,
    *,
    use: str | None,
    form: str | None,
    service: bool,
    dbname: str | None,
    username: str | None,
) -> None:
    """Print where applications connect, in the words of one driver or for all of libpq's."""
    endpoints = entry_of(session)
    wanted = ("rw", "ro") if service and use is None else (use or "rw",)
    ways = {each: Way.to(endpoints, each, dbname or "", username or "") for each in wanted}
    if service:
        if form:
            raise click.UsageError("--service is a format of its own: leave --format out")
        text = service_file(session.known.scope, ways)
    else:
        text = FORMATS[form or "libpq"](ways[wanted[0]])
    if not session.as_json:
        click.echo(text)
        return
    told = {
        each: {"hosts": [list(place) for place in way.places], "target_session_attrs": way.session}
        for each, way in ways.items()
    }
    session.answer({**told, "text": text})


def entry_of(session: Session) -> Endpoints:
    """Return where applications connect: what a file says, else what a member publishes.

    Where nobody says anything these are the members themselves.

    :raises PgherdError: nobody answers, or there are no members.
    """
    if session.known.endpoints is not None:
        return session.known.endpoints
    cluster = session.cluster()
    others = (session.told_by(row, "/cluster") for row in by_use(cluster))
    for body in itertools.chain([cluster], others):
        endpoints = Endpoints.parse((body.get("pgherd") or {}).get("endpoints"))
        if endpoints is not None:
            return endpoints
    places = tuple(_place(row) for row in cluster["members"] if row.get("host"))
    if not places:
        raise PgherdError("no member has published itself: is pgherd running on the hosts?")
    return Endpoints(places, places, direct=True)


def _place(row: Mapping[str, Any]) -> str:
    host = str(row["host"])
    return f"[{host}]:{row['port']}" if ":" in host else f"{host}:{row['port']}"


@click.command("query")
@session_command(short_config=False)
@_role
@_member
@click.option("-c", "--command", "sql", metavar="SQL", help="What to run.")
@click.option("--file", "source", metavar="FILE", help="The same from a file; - for stdin.")
@click.option(
    "-d", "--dbname", metavar="NAME", default="postgres", show_default=True, help="Database."
)
@click.option("-U", "--username", metavar="NAME", help="As whom, if not the superuser.")
@click.option("--password", is_flag=True, help="Ask for the password.")
@click.option("--tsv", is_flag=True, help="Columns separated by tabs.")
@click.option("-w", "--watch", is_flag=True, help="Again and again until Ctrl-C.")
@click.option(
    "--every", default=1.0, show_default=True, metavar="SECONDS", help="Between, with -w."
)
def query_command(
    session: Session,
    *,
    sql: str | None,
    source: str | None,
    tsv: bool,
    watch: bool,
    every: float,
    **where: Any,
) -> None:
    """Run SQL on a member: on the leader unless the options say otherwise.

    Name and password of the superuser are in the configuration file of a host. Where there is none,
    they are found as psql finds them: --username, PGUSER, ~/.pgpass.
    """
    if (sql is None) == (source is None):
        raise click.UsageError("say what to run: either --command or --file")
    if source is not None:
        sql = _read(source)
    secret = click.prompt("Password", hide_input=True, err=True) if where["password"] else None
    while True:
        row = target(session, where["role"], where["member"])
        account = (where["username"], secret)
        for heads, rows in _results(session, row, str(sql), where["dbname"], account):
            _print(session, heads, rows, tsv=tsv)
        if not watch:
            return
        time.sleep(max(every, 0.1))


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise PgherdError(f"{name}: cannot be read: {error.strerror}") from error


def _results(
    session: Session,
    row: Mapping[str, Any],
    sql: str,
    database: str,
    account: tuple[str | None, str | None],
) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """Run *sql* on the member *row*, and yield heads and rows of every statement that has some.

    :raises PgherdError: PostgreSQL does not answer or refuses.
    """
    import psycopg

    try:
        with psycopg.connect(
            host=str(row["host"]),
            port=int(row["port"]),
            dbname=database,
            connect_timeout=CONNECT_SECONDS,
            application_name="pgherd query",
            autocommit=True,
            **_credentials(session, *account),
        ) as connection:
            cursor = connection.execute(sql.encode())
            while True:
                if cursor.description:
                    yield [column.name for column in cursor.description], cursor.fetchall()
                if not cursor.nextset():
                    return
    except psycopg.Error as error:
        raise PgherdError(f"{row['name']}: {str(error).strip()}") from error


def _credentials(session: Session, user: str | None, secret: str | None) -> dict[str, Any]:
    """Return how to log in: as the superuser unless told otherwise; elsewhere as libpq finds it."""
    from pgherd.config import Config

    known = session.known
    if not isinstance(known, Config):
        # PGUSER, ~/.pgpass, PGSSLROOTCERT and so on hold where they are not overridden.
        given = {"user": user, "password": secret}
        return {name: value for name, value in given.items() if value}
    superuser, tls = known.postgres.superuser, known.postgres.tls
    if user in (None, superuser.username) and secret is None:
        user, secret = superuser.username, superuser.password
    checks = {"sslrootcert": tls.ca, "sslmode": "verify-full"} if tls.ca else {}
    return {"user": user, "password": secret or None, **checks}


def _print(
    session: Session, heads: Sequence[str], rows: Sequence[Sequence[Any]], *, tsv: bool
) -> None:
    if session.as_json:
        session.answer([dict(zip(heads, row, strict=True)) for row in rows])
    elif tsv:
        for row in [heads, *rows]:
            click.echo("\t".join(_shown(value) for value in row))
    else:
        numbers = [
            any(_is_number(row[index]) for row in rows)
            and all(row[index] is None or _is_number(row[index]) for row in rows)
            for index in range(len(heads))
        ]
        columns = [Column(head, right=right) for head, right in zip(heads, numbers, strict=True)]
        cells = [[Cell(_shown(each)) for each in row] for row in rows]
        click.echo(table(columns, cells))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
