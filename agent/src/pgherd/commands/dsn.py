# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection strings for applications, as the drivers want them."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from pgherd.errors import PgherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgherd.endpoints import Endpoints

# How long a connection may take with one host until the next is tried; libpq takes 2 at least.
CONNECT_SECONDS: Final = 3
# A host that is gone answers nothing: so soon who waits for it knows, 5 + 2 * 2 seconds.
KEEPALIVE: Final = {
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "tcp_user_timeout": "9000",
}
# How long JDBC remembers which of several hosts was no primary; its own 10 s outlive a failover.
RECHECK_SECONDS: Final = 1


@dataclass(frozen=True)
class Way:
    """How one application gets to the cluster.

    :param places: host and port, in the order in which they are tried.
    :param session: whom to look for among them (libpq's `target_session_attrs`), empty for anyone.
    :param database: empty when the application says it.
    :param user: the same.
    """

    places: tuple[tuple[str, int], ...]
    session: str = ""
    database: str = ""
    user: str = ""

    @classmethod
    def to(cls, endpoints: Endpoints, use: str, database: str = "", user: str = "") -> Way:
        """Return the way for writing (`rw`) or reading (`ro`)."""
        places = tuple(_split(each) for each in (endpoints.rw if use == "rw" else endpoints.ro))
        # Of several one may lead elsewhere: a reader to the primary's own host, a writer to nobody.
        seeks = len(places) > 1 or (endpoints.direct and use == "rw")
        words = {"rw": "read-write", "ro": "prefer-standby"}
        return cls(places, words[use] if seeks else "", database, user)

    @property
    def hosts(self) -> str:
        return ",".join(host for host, _ in self.places)

    @property
    def ports(self) -> str:
        return ",".join(str(port) for _, port in self.places)

    @property
    def authority(self) -> str:
        """The places as they stand in a URI."""
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.places
        )

    def keywords(self) -> dict[str, str]:
        """Return everything in libpq's words."""
        given = {
            "host": self.hosts,
            "port": self.ports,
            "dbname": self.database,
            "user": self.user,
            "target_session_attrs": self.session,
            "connect_timeout": str(CONNECT_SECONDS),
            **KEEPALIVE,
        }
        return {name: value for name, value in given.items() if value}


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def _libpq(way: Way) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in way.keywords().items())


def _quoted(value: str) -> str:
    """Return *value* as libpq reads it in a string of keywords."""
    if value and not any(each in "'\\" or each.isspace() for each in value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _uri(way: Way, scheme: str = "postgresql", **query: str) -> str:
    user = f"{quote(way.user, safe='')}@" if way.user else ""
    return f"{scheme}://{user}{way.authority}/{quote(way.database, safe='')}?{urlencode(query)}"


def _libpq_uri(way: Way) -> str:
    there = ("host", "port", "dbname", "user")
    return _uri(way, **{key: value for key, value in way.keywords().items() if key not in there})


def _jdbc(way: Way) -> str:
    words = {"read-write": "primary", "prefer-standby": "preferSecondary"}
    query = {"user": way.user} if way.user else {}
    if way.session:
        query["targetServerType"] = words[way.session]
        query["hostRecheckSeconds"] = str(RECHECK_SECONDS)
    query |= {"connectTimeout": str(CONNECT_SECONDS), "tcpKeepAlive": "true"}
    places = f"{way.authority}/{quote(way.database, safe='')}"
    return f"jdbc:postgresql://{places}?{urlencode(query)}"


def _pgx(way: Way) -> str:
    # What it does not know it sends to the server, where PgBouncer refuses it.
    query = {"target_session_attrs": way.session} if way.session else {}
    return _uri(way, "postgres", **query, connect_timeout=str(CONNECT_SECONDS))


def _node(way: Way) -> str:
    [(host, port), *others] = way.places
    if others:
        raise PgherdError(
            f"node-postgres connects to one host, and there are {len(way.places)}: "
            f"{way.authority}; an address that moves (cluster_vip) is one"
        )
    named = {"database": way.database, "user": way.user}
    options = {
        "host": host,
        "port": port,
        **{name: value for name, value in named.items() if value},
        "connectionTimeoutMillis": CONNECT_SECONDS * 1000,
        "keepAlive": True,
        "keepAliveInitialDelayMillis": int(KEEPALIVE["keepalives_idle"]) * 1000,
    }
    return json.dumps(options)


def _environment(way: Way) -> str:
    variables = {
        "PGHOST": way.hosts,
        "PGPORT": way.ports,
        "PGDATABASE": way.database,
        "PGUSER": way.user,
        "PGTARGETSESSIONATTRS": way.session,
        "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
    }
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in variables.items() if value)


FORMATS: Final[Mapping[str, Callable[[Way], str]]] = {
    "libpq": _libpq,
    "uri": _libpq_uri,
    "jdbc": _jdbc,
    "pgx": _pgx,
    "node": _node,
    "env": _environment,
}


def service_file(scope: str, ways: Mapping[str, Way]) -> str:
    """Return sections of a `pg_service.conf`, called after the cluster and the use.

    :param ways: by use, `rw` and `ro`.
    """
    sections = []
    for use, way in ways.items():
        lines = [f"{name}={value}" for name, value in way.keywords().items()]
        sections.append("\n".join([f"[{scope}-{use}]", *lines]))
    return "\n\n".join(sections)
