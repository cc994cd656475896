# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of the command on a machine that is no member: whom to ask, and as whom.

Its keys are those of patronictl's file, so that one works here; `ctl.agents` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pgherd.access_config import Ctl, Login, build_ctl
from pgherd.config import Timing, Tls, build_timing, etcd_login, tls_of
from pgherd.endpoints import Endpoints
from pgherd.errors import ConfigError
from pgherd.schema import SCHEMA, Key, Section, check_etcd_login, check_section, check_timing

if TYPE_CHECKING:
    from collections.abc import Iterator

# A file that has one of these is a member's.
OF_MEMBERS: Final = ("name", "postgresql", "bootstrap")
PATHS: Final = ("cafile", "cacert", "certfile", "keyfile", "cert", "key")


@dataclass(frozen=True)
class Client:
    """What a command has to know of a cluster to look after it from outside.

    The attributes that `Config` has as well mean the same.

    :param scope: the cluster's name, empty when it has to be given on the command line.
    :param agents: base URLs of members' REST APIs that are asked before etcd, perhaps none.
    :param etcd_endpoints: none when only agents can be reached.
    """

    scope: str
    namespace: str
    agents: tuple[str, ...]
    etcd_endpoints: tuple[str, ...]
    etcd_tls: Tls
    etcd_login: Login | None
    ctl: Ctl
    timing: Timing
    endpoints: Endpoints | None = None
    name: str = ""

    def of(self, scope: str) -> Client:
        """Return the same for the cluster *scope*."""
        return replace(self, scope=scope)


def is_client(raw: Mapping[str, Any]) -> bool:
    """Tell whether *raw* is the configuration of a client, not (a part of) a member's."""
    rest = raw.get("restapi")
    serves = isinstance(rest, Mapping) and "listen" in rest
    asks = any(name in raw for name in ("etcd3", "ctl"))
    return asks and not serves and not any(name in raw for name in OF_MEMBERS)


def build_client(raw: Mapping[str, Any], directory: Path) -> Client:
    """Check *raw* and return what it says.

    :param directory: where relative paths begin.
    :raises ConfigError: with one sentence for every key that is missing, unknown or wrong.
    """
    problems = check_section(raw, TABLE, "", partial=True)
    problems = problems or [*_check_etcd(raw), *check_timing(raw.get("pgherd", {}))]
    if problems:
        raise ConfigError(problems)
    etcd, rest = _located(raw, "etcd3", directory), _located(raw, "restapi", directory)
    ctl = _located(raw, "ctl", directory)
    return Client(
        scope=raw.get("scope", ""),
        namespace=str(raw.get("namespace", "service")).strip("/"),
        agents=tuple(url.rstrip("/") for url in ctl.get("agents", ())),
        etcd_endpoints=_endpoints(etcd),
        etcd_tls=tls_of(etcd, "cacert", "cert", "key"),
        etcd_login=etcd_login(etcd),
        ctl=build_ctl(ctl, rest),
        timing=build_timing(raw.get("pgherd", {})),
        endpoints=Endpoints.parse(raw.get("pgherd", {}).get("endpoints")),
    )


def _is_file(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be the path of a file"


def _is_url(value: Any) -> str | None:
    url = urlsplit(value) if isinstance(value, str) else urlsplit("")
    good = url.scheme in ("http", "https") and url.hostname and url.path in ("", "/")
    return None if good else "must be a URL such as https://192.0.2.11:2379"


def _is_urls(value: Any) -> str | None:
    good = isinstance(value, list) and value and not any(_is_url(each) for each in value)
    return None if good else "must be a list of URLs such as https://192.0.2.11:8008"


def _section(name: str, **more: Key) -> Section:
    """Return the member's section, in which paths need not be absolute.

    :param more: what a client's has besides.
    """
    known = SCHEMA[name]
    assert isinstance(known, dict)
    paths: Section = {key: Key(_is_file) for key in PATHS if key in known}
    return {**known, **paths, **more}


_ETCD: Final = _section("etcd3", url=Key(_is_url), proxy=Key(_is_url))
TABLE: Final[Section] = {
    **{name: SCHEMA[name] for name in ("scope", "namespace", "pgherd", "log")},
    "restapi": _section("restapi"),
    "ctl": _section("ctl", agents=Key(_is_urls)),
    "etcd3": {**_ETCD, "host": _ETCD["hosts"]},
}


def _check_etcd(raw: Mapping[str, Any]) -> Iterator[str]:
    etcd = raw.get("etcd3", {})
    yield from check_etcd_login(etcd)
    if not _endpoints(etcd) and not raw.get("ctl", {}).get("agents"):
        yield "etcd3.hosts: is missing; without it, ctl.agents must name members to ask"


def _endpoints(etcd: Mapping[str, Any]) -> tuple[str, ...]:
    hosts = etcd.get("hosts", etcd.get("host", ()))
    hosts = hosts.split(",") if isinstance(hosts, str) else hosts
    protocol = etcd.get("protocol", "http")
    urls = [etcd[name].rstrip("/") for name in ("url", "proxy") if name in etcd]
    return tuple([f"{protocol}://{each.strip()}" for each in hosts] or urls[:1])


def _located(raw: Mapping[str, Any], name: str, directory: Path) -> dict[str, Any]:
    """Return the section *name* with paths that hold wherever the command is run."""
    return {
        key: str(directory / Path(value).expanduser()) if key in PATHS else value
        for key, value in raw.get(name, {}).items()
    }
