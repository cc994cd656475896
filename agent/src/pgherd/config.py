# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration: YAML files in Patroni's vocabulary, checked before use.

`load` merges `pgherd.yml` with `conf.d/*.yml` beside it, mapping by mapping, later files winning.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from pgherd.access_config import Access, Ctl, Login, build_access, build_ctl
from pgherd.endpoints import Endpoints
from pgherd.errors import ConfigError
from pgherd.method_schema import program_options
from pgherd.patronis import without_effect
from pgherd.pooler_config import PoolerConfig, build_pooler
from pgherd.schema import check
from pgherd.settings import Tags


@dataclass(frozen=True)
class Timing:
    """Seconds, all of them; see docs/configuration.md for how they hang together."""

    lease_ttl: int = 5
    keepalive_interval: float = 1.0
    loop_interval: float = 2.0
    peer_timeout: float = 0.5
    etcd_timeout: float = 1.0
    hedge_delay: float = 0.2
    hang_timeout: float = 10.0

    @property
    def margin(self) -> float:
        """What is taken off a lease so that PostgreSQL is dead before others may think so."""
        return max(0.3, self.lease_ttl / 10)

    @property
    def silence_limit(self) -> float:
        """How long the agent of a primary may hang before systemd kills it.

        Its successor has to renew the lease before the deadline, and in the worst case a renewal
        was due just then. Of the time that is left the smaller part goes into noticing, the larger
        into the start.
        """
        return 0.4 * (self.lease_ttl - self.margin - self.keepalive_interval)


@dataclass(frozen=True)
class Tls:
    """Where one connection kind finds its trust and identity; all None means no TLS."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def client_context(self) -> ssl.SSLContext | None:
        """Return a verifying client context, None when TLS is not configured."""
        if not (self.ca or self.certificate):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True)
class Account:
    """A PostgreSQL role the agent uses; the password never shows in a repr."""

    username: str
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class KeepDiverged:
    """How much of what a rejoin overwrites is kept: so many, and so many MB in all; 0 for none."""

    count: int = 2
    max_mb: int = 4096


@dataclass(frozen=True)
class Fencing:
    """Whether and how the host of an old leader is cut off before its place is taken.

    :param timeout: seconds the fence agent may take.
    :param options: the fence agent's own, for every host; may hold passwords, as may *hosts*.
    :param hosts: further options by member.
    """

    mode: str = "off"
    agent: str = ""
    timeout: float = 20.0
    action: str = "off"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class PostgresConfig:
    """The local instance: where it is, how it listens, what it is configured with.

    What is None or empty is taken from the dynamic configuration.
    """

    listen: str
    port: int
    connect_host: str
    connect_port: int
    data_dir: Path
    bin_dir: Path
    socket_directory: Path
    log_file: Path
    superuser: Account
    replication: Account
    rewind: Account
    default_parameters: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pg_hba: tuple[str, ...] = ()
    pg_ident: tuple[str, ...] = ()
    tls: Tls = Tls()
    keep_diverged: KeepDiverged = KeepDiverged()
    use_slots: bool | None = None
    use_pg_rewind: bool | None = None
    pg_ctl_timeout: float | None = None
    rewind_options: Mapping[str, Any] = field(default_factory=dict)
    proxy_address: str = ""
    recovery_conf: Mapping[str, Any] = field(default_factory=dict)
    replica_methods: tuple[str, ...] = ()
    method_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    callbacks: Mapping[str, str] = field(default_factory=dict)
    pre_promote: str = ""
    before_stop: str = ""


@dataclass(frozen=True)
class BootstrapMethod:
    """A command that makes the first data directory of a cluster, in the place of initdb.

    :param options: what it gets as ``--name=value``.
    :param with_parameters: it gets the scope and the data directory as well.
    :param keeps_recovery: the command leaves a recovery configuration of its own.
    :param recovery: parameters with which the server recovers first, None if it does not.
    """

    name: str
    command: str
    options: Mapping[str, Any] = field(default_factory=dict)
    with_parameters: bool = True
    keeps_recovery: bool = False
    recovery: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Watchdog:
    """The watchdog device: ``off``, ``automatic`` (when there is one) or ``required``."""

    mode: str = "automatic"
    device: Path = Path("/dev/watchdog")


@dataclass(frozen=True)
class Config:
    """One agent's whole configuration."""

    scope: str
    namespace: str
    name: str
    listen_host: str
    listen_port: int
    connect_address: str
    access: Access
    ctl: Ctl
    etcd_endpoints: tuple[str, ...]
    etcd_tls: Tls
    timing: Timing
    postgres: PostgresConfig
    bootstrap_config: Mapping[str, Any]
    initdb: Mapping[str, Any]
    tags: Tags
    log_level: str
    runtime_dir: Path
    watchdog: Watchdog = Watchdog()
    fencing: Fencing = Fencing()
    method: BootstrapMethod | None = None
    post_init: str = ""
    unheeded: tuple[str, ...] = ()
    etcd_login: Login | None = None
    endpoints: Endpoints | None = None
    pooler: PoolerConfig | None = None

    @property
    def api_url(self) -> str:
        scheme = "https" if self.access.tls.certificate else "http"
        return f"{scheme}://{self.connect_address}/patroni"

    @property
    def conn_url(self) -> str:
        return f"postgres://{self.postgres.connect_host}:{self.postgres.connect_port}/postgres"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return *base* with *over* laid on it, mappings merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in the file *path*.

    :raises ConfigError: it cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: cannot be read: it is not UTF-8 text"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {error}".replace("\n", " ")]) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: must hold a mapping, not a {type(content).__name__}"])
    return content


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in the file *path*, with those of the `conf.d` beside it laid on it.

    :raises ConfigError: a file cannot be read, is not YAML, or is not a mapping.
    """
    raw = read_yaml(path)
    for fragment in sorted(path.parent.glob("conf.d/*.yml")):
        raw = merge(raw, read_yaml(fragment))
    return raw


def load(path: Path, *, fragments: bool = True) -> Config:
    """Read and check *path*, with the `conf.d` beside it unless *fragments* is false.

    :raises ConfigError: with one sentence for every key that is missing, unknown or wrong.
    """
    return checked(read(path) if fragments else read_yaml(path))


def checked(raw: Mapping[str, Any]) -> Config:
    """Return the configuration that *raw* describes.

    :raises ConfigError: with one sentence for every key that is missing, unknown or wrong.
    """
    problems = check(raw, partial=False)
    if problems:
        raise ConfigError(problems)
    return build(raw)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def tls_of(section: Mapping[str, Any], ca: str, certificate: str, key: str) -> Tls:
    return Tls(section.get(ca), section.get(certificate), section.get(key))


def build(raw: Mapping[str, Any]) -> Config:
    """Build the configuration from a mapping that `check` has found good."""
    rest, etcd = raw["restapi"], raw["etcd3"]
    host, port = _address(rest["listen"])
    hosts = etcd["hosts"]
    hosts = hosts.split(",") if isinstance(hosts, str) else hosts
    protocol = etcd.get("protocol", "http")
    bootstrap = raw.get("bootstrap", {})
    return Config(
        scope=raw["scope"],
        namespace=str(raw.get("namespace", "service")).strip("/"),
        name=raw["name"],
        listen_host=host,
        listen_port=port,
        connect_address=rest["connect_address"],
        access=build_access(rest),
        ctl=build_ctl(raw.get("ctl", {}), rest),
        etcd_endpoints=tuple(f"{protocol}://{item.strip()}" for item in hosts),
        etcd_tls=tls_of(etcd, "cacert", "cert", "key"),
        etcd_login=etcd_login(etcd),
        timing=build_timing(raw.get("pgherd", {})),
        endpoints=Endpoints.parse(raw.get("pgherd", {}).get("endpoints")),
        postgres=_postgres(raw["postgresql"], raw["scope"]),
        bootstrap_config=bootstrap.get("dcs", {}),
        initdb=program_options(bootstrap.get("initdb", {})),
        method=_bootstrap_method(bootstrap),
        post_init=bootstrap.get("post_init", bootstrap.get("post_bootstrap", "")),
        tags=Tags.parse(raw.get("tags", {})),
        log_level=raw.get("log", {}).get("level", "INFO"),
        runtime_dir=Path(raw.get("runtime_dir", "/run/pgherd")),
        watchdog=_watchdog(raw.get("watchdog", {})),
        fencing=_fencing(raw.get("fencing", {})),
        unheeded=tuple(without_effect(raw)),
        pooler=build_pooler(raw.get("pgherd", {}).get("pooler")),
    )


def build_timing(raw: Mapping[str, Any]) -> Timing:
    """Return what the section ``pgherd`` says about seconds."""
    known = {each.name for each in fields(Timing)}
    return Timing(**{name: value for name, value in raw.items() if name in known})


def etcd_login(etcd: Mapping[str, Any]) -> Login | None:
    """Return the user of etcd's own authentication that the section names, None for nobody."""
    return Login(etcd["username"], etcd["password"]) if "username" in etcd else None


def _fencing(raw: Mapping[str, Any]) -> Fencing:
    # YAML 1.1 reads a bare `off` as false.
    words = {key: raw[key] or "off" for key in ("mode", "action") if key in raw}
    return Fencing(**{**raw, **words})


def _watchdog(raw: Mapping[str, Any]) -> Watchdog:
    return Watchdog(raw.get("mode", "automatic") or "off", Path(raw.get("device", "/dev/watchdog")))


def _bootstrap_method(bootstrap: Mapping[str, Any]) -> BootstrapMethod | None:
    name = bootstrap.get("method", "initdb")
    if name == "initdb":
        return None
    section = dict(bootstrap[name])
    return BootstrapMethod(
        name,
        section.pop("command"),
        with_parameters=not section.pop("no_params", False),
        keeps_recovery=bool(section.pop("keep_existing_recovery_conf", False)),
        recovery=section.pop("recovery_conf", None),
        options=section,
    )


def shared_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a section ``postgresql`` says wherever it stands, by fields of `PostgresConfig`.

    What it does not give is empty.
    """
    names = raw.get("create_replica_methods", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    # Another cluster's first member may be copied by methods that are not named for others.
    described = {name for name, each in raw.items() if isinstance(each, Mapping)}
    options = {name: dict(raw[name]) for name in described if "command" in raw[name]}
    options["basebackup"] = program_options(raw.get("basebackup", {}))
    return {
        "pg_hba": tuple(raw.get("pg_hba", ())),
        "pg_ident": tuple(raw.get("pg_ident", ())),
        "recovery_conf": raw.get("recovery_conf", {}),
        "replica_methods": names,
        "rewind_options": program_options(raw.get("rewind", {})),
        "method_options": {name: each for name, each in options.items() if each},
        "callbacks": raw.get("callbacks", {}),
        "pre_promote": raw.get("pre_promote", ""),
        "before_stop": raw.get("before_stop", ""),
    }


def _postgres(raw: Mapping[str, Any], scope: str) -> PostgresConfig:
    listen, port = _address(raw["listen"])
    connect_host, connect_port = _address(raw["connect_address"])
    bin_dir = Path(raw["bin_dir"])
    accounts = raw["authentication"]
    superuser = Account(**accounts["superuser"])
    log_file = f"/var/log/postgresql/postgresql-{bin_dir.parent.name}-{scope}.log"
    return PostgresConfig(
        listen=listen,
        port=port,
        connect_host=connect_host,
        connect_port=connect_port,
        data_dir=Path(raw["data_dir"]),
        bin_dir=bin_dir,
        socket_directory=Path(raw.get("socket_directory", "/var/run/postgresql")),
        log_file=Path(raw.get("log_file", log_file)),
        superuser=superuser,
        replication=Account(**accounts["replication"]),
        rewind=Account(**accounts["rewind"]) if "rewind" in accounts else superuser,
        default_parameters=raw.get("default_parameters", {}),
        parameters=raw.get("parameters", {}),
        tls=tls_of(raw.get("ssl", {}), "ca", "certificate", "key"),
        keep_diverged=KeepDiverged(**raw.get("keep_diverged", {})),
        use_slots=raw.get("use_slots"),
        use_pg_rewind=raw.get("use_pg_rewind"),
        pg_ctl_timeout=raw.get("pg_ctl_timeout"),
        proxy_address=raw.get("proxy_address", ""),
        **shared_settings(raw),
    )
