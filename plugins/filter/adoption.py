# SPDX-License-Identifier: GPL-3.0-or-later
"""From Patroni's configuration to the roles' variables, and what stands against taking it over."""

from __future__ import annotations

DOCUMENTATION = r"""
name: adoption
short_description: What a takeover from Patroni makes of its configuration
description:
  - C(adopted_variables) makes the roles' variables of the fact of M(pgherd.cluster.patroni_facts).
  - C(adoption_problems) says what stands against a takeover, before anything is changed.
  - C(adopted_inventory) gathers the variables of all hosts into an inventory that site.yml reads.
  - C(adoption_candidate) picks the member that takes over from the last host of Patroni.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description: The fact of one host, or the names of the hosts.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show a value
  ansible.builtin.debug:
    msg: "{{ (ansible_facts['patroni'] | pgherd.cluster.adopted_variables).cluster_name }}"
"""

RETURN = r"""
_value:
  description: Variables by name, a list of sentences, an inventory, or a member's name.
  type: raw
"""

import ipaddress
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REST_PORT = 8008
SUPERUSER = "postgres"
SOCKETS = "/var/run/postgresql"
ETCD_PORT = 2379


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Keys that mean the same to pgherd, that the roles write themselves, or that matter only to a
# new cluster or to Patroni's own process.
TAKEN: Mapping[str, frozenset[str]] = {
    "": _words(
        "scope namespace name log restapi ctl etcd3 bootstrap postgresql watchdog tags "
        "thread_pool_size thread_stack_size"
    ),
    "restapi": _words(
        "listen connect_address authentication allowlist allowlist_include_members "
        "http_extra_headers https_extra_headers server_tokens request_queue_size "
        "thread_pool_size"
    ),
    "etcd3": _words("host hosts url protocol use_proxies cacert cert key"),
    "postgresql": _words(
        "listen connect_address data_dir config_dir bin_dir pgpass authentication parameters "
        "pg_hba pg_ident recovery_conf custom_conf use_unix_socket use_unix_socket_repl use_slots "
        "use_pg_rewind rewind proxy_address pg_ctl_timeout remove_data_directory_on_rewind_failure "
        "remove_data_directory_on_diverged_timelines basebackup database callbacks pre_promote "
        "before_stop create_replica_methods create_replica_method"
    ),
    "watchdog": _words("mode device safety_margin"),
}
# What the agent's file says in the same words, but for the sections of methods that it names.
SAME_WORDS = (
    "use_slots",
    "use_pg_rewind",
    "rewind",
    "proxy_address",
    "pg_ctl_timeout",
    "recovery_conf",
    "basebackup",
    "callbacks",
    "pre_promote",
    "before_stop",
)
STORES = ("consul", "zookeeper", "exhibitor", "kubernetes", "raft", "etcd")
ACCOUNT_KEYS = frozenset({"username", "password"})
# What the agent decides, and what Patroni takes from the dynamic configuration only.
NOT_LOCAL = _words(
    "listen_addresses port cluster_name hot_standby primary_conninfo primary_slot_name "
    "synchronous_standby_names unix_socket_directories "
    "hba_file ident_file data_directory config_file external_pid_file wal_level max_connections "
    "max_wal_senders max_prepared_transactions max_locks_per_transaction track_commit_timestamp "
    "max_replication_slots max_worker_processes wal_log_hints wal_keep_segments "
    "wal_keep_size"
)
BASE_FILE = "/postgresql.base.conf"


def _section(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = facts["config"].get(name)
    return dict(found) if isinstance(found, dict) else {}


def etcd_endpoints(etcd3: Mapping[str, Any]) -> list[str]:
    """Return HOST:PORT of every member of etcd that Patroni's section names."""
    if etcd3.get("url"):
        parts = urlsplit(str(etcd3["url"]))
        return [f"{parts.hostname}:{parts.port or ETCD_PORT}"]
    hosts = etcd3.get("hosts") or etcd3.get("host") or []
    words = hosts.split(",") if isinstance(hosts, str) else hosts
    found = [re.sub(r"^\w+://", "", str(word).strip().strip("'\"")) for word in words]
    return [word if re.search(r":\d+$", word) else f"{word}:{ETCD_PORT}" for word in found if word]


def etcd_tls(etcd3: Mapping[str, Any]) -> dict[str, str]:
    """Return the files with which Patroni's section reaches etcd through TLS; empty without it."""
    if not _is_encrypted(etcd3):
        return {}
    return {name: str(etcd3[name]) for name in ("cacert", "cert", "key") if etcd3.get(name)}


def _is_encrypted(etcd3: Mapping[str, Any]) -> bool:
    return etcd3.get("protocol") == "https" or str(etcd3.get("url", "")).startswith("https:")


def _host_port(text: Any, default: int) -> tuple[str, int]:
    host, colon, port = str(text).rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdigit() else (str(text), default)


def _account(authentication: Mapping[str, Any], name: str) -> dict[str, str]:
    found = authentication.get(name) or {}
    return {key: str(found.get(key) or "") for key in ("username", "password")}


def _parameters(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that this host's files hold and the dynamic configuration does not."""
    section, postgres = _section(facts, "postgresql"), facts["postgres"]
    shared = facts.get("dynamic", {}).get("postgresql") or {}
    # They go on by their own names: only a standby has those of recovery in force.
    elsewhere = {
        name
        for place in (shared.get("parameters"), shared.get("recovery_conf"),
                      section.get("recovery_conf"))
        for name in place or {}
    }  # fmt: skip
    # It stays where it is, and is included first.
    base = str(section.get("data_dir", "")).rstrip("/") + BASE_FILE
    found = {row["name"]: row["value"] for row in postgres.get("files", []) if row["file"] != base}
    return {
        name: value
        for name, value in sorted(found.items())
        if name not in NOT_LOCAL | elsewhere and not name.startswith("recovery_target")
    }


def _methods(section: Mapping[str, Any]) -> list[str]:
    """Return the names of the methods by which a member is copied."""
    found = section.get("create_replica_methods") or section.get("create_replica_method") or []
    return [str(name) for name in (found.split(",") if isinstance(found, str) else found)]


def _agent_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the agent's file as it is."""
    section, restapi = _section(facts, "postgresql"), _section(facts, "restapi")
    names = ("http_extra_headers", "https_extra_headers", "server_tokens")
    headers = {name: restapi[name] for name in names if restapi.get(name)}
    methods = _methods(section)
    kept = {name: section[name] for name in (*SAME_WORDS, *methods) if name in section}
    if methods:
        kept["create_replica_methods"] = methods
    return {name: value for name, value in (("restapi", headers), ("postgresql", kept)) if value}


def adopted_variables(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the roles' variables that go on with what Patroni has on the host of *facts*."""
    config, section = facts["config"], _section(facts, "postgresql")
    restapi, watchdog = _section(facts, "restapi"), _section(facts, "watchdog")
    accounts = section.get("authentication") or {}
    superuser, replication = _account(accounts, "superuser"), _account(accounts, "replication")
    rewind = _account(accounts, "rewind") if accounts.get("rewind") else superuser
    listen, port = _host_port(section.get("listen", ""), 5432)
    sockets = (section.get("parameters") or {}).get("unix_socket_directories") or SOCKETS
    found: dict[str, Any] = {
        "cluster_name": str(config.get("scope", "")),
        "cluster_namespace": str(config.get("namespace") or "service").strip("/"),
        "cluster_etcd_endpoints": etcd_endpoints(_section(facts, "etcd3")),
        "cluster_etcd_tls": etcd_tls(_section(facts, "etcd3")),
        # What is before the cluster now goes on; ours is set up when somebody wants it.
        "cluster_pooler": "none",
        "cluster_balancer": "none",
        "postgresql_port": port,
        "postgresql_listen": listen,
        "postgresql_data_dir": str(section.get("data_dir", "")).rstrip("/"),
        "postgresql_socket_dir": str(sockets).strip().rstrip("/"),
        "postgresql_parameters": _parameters(facts),
        "postgresql_tuning": False,
        "postgresql_kernel_settings": {},
        "postgresql_hba": facts["postgres"].get("hba", []),
        "postgresql_hba_complete": True,
        "postgresql_ident": facts["postgres"].get("ident", []),
        "postgresql_superuser_password": superuser["password"],
        "postgresql_replication_name": replication["username"],
        "postgresql_replication_password": replication["password"],
        "postgresql_rewind_name": rewind["username"],
        "postgresql_rewind_password": rewind["password"],
        "agent_tags": dict(config.get("tags") or {}),
        "agent_rest_allowlist": list(restapi.get("allowlist") or []),
        "agent_rest_allowlist_include_members": bool(restapi.get("allowlist_include_members")),
        "agent_watchdog_mode": str(watchdog.get("mode", "automatic") or "off"),
        "agent_watchdog_device": str(watchdog.get("device") or "/dev/watchdog"),
    }
    login = restapi.get("authentication") or {}
    found["agent_rest_username"] = str(login.get("username") or "pgherd")
    if login.get("username") and login.get("password"):
        found["agent_rest_password"] = str(login["password"])
    found["agent_config"] = _agent_config(facts)
    return found


def adoption_part(facts: Mapping[str, Any]) -> str:
    """Return what the host of *facts* is: a `standby` or the `leader` of Patroni's, or `done`.

    A host whose Patroni was stopped for good and whose pgherd did not start yet is a standby.
    """
    if facts["replaced"] and not facts["active"]:
        return "done"
    return "standby" if facts["postgres"].get("recovering") or not facts["active"] else "leader"


def _unknown(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what cannot be taken over of the local file, key by key."""
    config = facts["config"]
    for store in STORES:
        if store in config:
            yield (
                f"the cluster's state is in {store}"
                + (" (the v2 API)" if store == "etcd" else "")
                + ": pgherd keeps it in etcd through the v3 API only (section etcd3)"
            )
    if "citus" in config:
        yield "Citus is not supported"
    for name, known in TAKEN.items():
        section = config if not name else _section(facts, name)
        named = _methods(section) if name == "postgresql" else []
        for key in section:
            if (
                key not in known
                and key not in named
                and key not in (*STORES, "citus")
                and section[key]
            ):
                yield f"{name + '.' if name else ''}{key} has no equivalent"
    for account, found in (_section(facts, "postgresql").get("authentication") or {}).items():
        for key in set(found or {}) - ACCOUNT_KEYS:
            yield f"postgresql.authentication.{account}.{key} has no equivalent"


def _local_problems(host: str, facts: Mapping[str, Any], release: str) -> Iterator[str]:
    """Yield what stands against it on one host, whose PostgreSQL has to be *release*."""
    config, section = facts["config"], _section(facts, "postgresql")
    yield from _unknown(facts)
    if facts["environment"]:
        yield f"variables of its environment change Patroni: {', '.join(facts['environment'])}"
    if config.get("name") != host:
        yield f"it is called {config.get('name')} by Patroni: call it so in the inventory, too"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(config.get("scope", ""))):
        yield f"scope {config.get('scope')!r}: letters, digits, `_`, `.` and `-` are possible"
    etcd3 = _section(facts, "etcd3")
    if _is_encrypted(etcd3) and not etcd3.get("cacert"):
        yield "etcd3: etcd is reached through TLS, and no cacert says whom to trust"
    if _host_port(_section(facts, "restapi").get("connect_address"), 0)[1] != REST_PORT:
        yield f"restapi.connect_address: its port has to be {REST_PORT}"
    accounts = section.get("authentication") or {}
    superuser = _account(accounts, "superuser")["username"]
    if superuser != SUPERUSER:
        yield f"the superuser is {superuser or '(not named)'}: it has to be {SUPERUSER}"
    for name in ("superuser", "replication"):
        if not _account(accounts, name)["password"]:
            yield f"postgresql.authentication.{name} has no password, and standbys need one"
    sockets = str((section.get("parameters") or {}).get("unix_socket_directories") or SOCKETS)
    if "," in sockets:
        yield f"unix_socket_directories: {sockets}: one directory is possible"
    version = facts["postgres"].get("version")
    if version is not None and str(version) != release:
        yield f"PostgreSQL {version} runs there; on this release of Debian it has to be {release}"
    bin_dir = str(section.get("bin_dir", "")).rstrip("/")
    if bin_dir and bin_dir != f"/usr/lib/postgresql/{release}/bin":
        yield f"postgresql.bin_dir is {bin_dir}, not /usr/lib/postgresql/{release}/bin"


def _address_problems(host: str, facts: Mapping[str, Any], address: str) -> Iterator[str]:
    for section in ("postgresql", "restapi"):
        said = _host_port(_section(facts, section).get("connect_address", ""), 0)[0]
        try:
            ipaddress.ip_address(said)
        except ValueError:
            yield f"{section}.connect_address is {said}: members have addresses, not names"
            continue
        if address and said != address:
            yield f"Patroni reaches it at {said}: set cluster_address of {host} to that"


def _cluster_problems(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what stands against it in the cluster as its running Patroni members see it."""
    for name in ("cluster_name", "cluster_namespace"):
        values = {str(adopted_variables(facts)[name]) for facts in found.values()}
        if len(values) > 1:
            yield f"the hosts are of different clusters: {name} is {' and '.join(sorted(values))}"
    asked = next((facts for facts in found.values() if facts["active"]), None)
    if asked is None:
        return
    dynamic, members = asked["dynamic"], {row["name"]: row for row in asked["members"]}
    if dynamic.get("standby_cluster"):
        yield "it is a standby cluster: promote it first, or adopt it after its primary cluster"
    if dynamic.get("pause"):
        yield "it is paused: patronictl resume"
    for name in sorted(set(members) - set(found)):
        yield f"it has a member {name} that the inventory does not have in the group postgres"
    # One whose Patroni is stopped and whose pgherd is not yet started is what a broken run leaves.
    for name in (name for name, facts in found.items() if facts["active"] or facts["replaced"]):
        row = members.get(name, {"role": "", "state": "not a member"})
        wanted = ("running",) if row["role"] == "leader" else ("streaming", "in archive recovery")
        if row["state"] not in wanted:
            yield f"{name} is `{row['state']}`: all members have to be well"
    if not any(row["role"] == "leader" for row in members.values()):
        yield "it has no leader"


def adoption_problems(hosts: list[str], hostvars: Mapping[str, Any], release: str) -> list[str]:
    """Return what stands against taking the cluster of *hosts* over, a sentence each.

    release: the version of PostgreSQL that the hosts' Debian has.
    """
    found: dict[str, Mapping[str, Any]] = {}
    problems = []
    for host in hosts:
        facts = hostvars[host]["ansible_facts"]["patroni"]
        if facts["problems"]:
            problems += [f"{host}: {problem}" for problem in facts["problems"]]
            continue
        found[host] = facts
        if not (facts["active"] or facts["replaced"] or facts["postgres"]):
            problems.append(f"{host}: neither Patroni nor pgherd runs there")
        if facts["active"] and facts["replaced"]:
            problems.append(f"{host}: Patroni and pgherd both run there; stop one of them")
        default = hostvars[host]["ansible_facts"].get("default_ipv4", {}).get("address", "")
        address = str(hostvars[host].get("cluster_address") or default)
        problems += [f"{host}: {text}" for text in _local_problems(host, facts, release)]
        problems += [f"{host}: {text}" for text in _address_problems(host, facts, address)]
    if len(found) == len(hosts):
        problems += [f"the cluster: {text}" for text in _cluster_problems(found)]
    return problems


SECRETS = {
    "postgresql-superuser": "postgresql_superuser_password",
    "postgresql-replication": "postgresql_replication_password",
    "postgresql-rewind": "postgresql_rewind_password",
    "agent-rest": "agent_rest_password",
}


def adopted_secrets(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the passwords in *variables* by the name of the file that the roles look for."""
    return {name: variables[key] for name, key in SECRETS.items() if key in variables}


def adopted_inventory(hosts: list[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Return an inventory with the variables of *hosts*, passwords left out.

    What all hosts have alike stands with the group, the rest with the host.
    """
    secret = set(SECRETS.values())
    each = {
        host: {
            name: value
            for name, value in adopted_variables(hostvars[host]["ansible_facts"]["patroni"]).items()
            if name not in secret
        }
        for host in hosts
    }
    first = next(iter(each.values()), {})
    missing = object()
    shared = {
        name: value
        for name, value in first.items()
        if all(other.get(name, missing) == value for other in each.values())
    }
    # The cluster's names are needed on the controller, too.
    everywhere = {name: shared.pop(name) for name in list(shared) if name.startswith("cluster_")}
    return {
        "all": {
            "vars": everywhere,
            "children": {
                "postgres": {
                    "vars": shared,
                    "hosts": {
                        host: {k: v for k, v in own.items() if k not in shared | everywhere}
                        for host, own in each.items()
                    },
                }
            },
        }
    }


def adoption_candidate(members: list[dict[str, Any]], mode: Any) -> str:
    """Return the member that may take over with every acknowledged commit; empty for none.

    *members* as Patroni's `GET /cluster` has them; *mode* is its synchronous_mode.
    """
    roles = ("sync_standby", "quorum_standby")
    waits = str(mode).lower() not in ("false", "off", "none", "")
    able = [
        row
        for row in members
        if row["state"] == "streaming"
        and not (row.get("tags") or {}).get("nofailover")
        and (row["role"] in roles if waits else row["role"] in (*roles, "replica"))
    ]
    able.sort(key=lambda row: int(row["lag"]) if str(row.get("lag")).isdigit() else 2**63)
    return str(able[0]["name"]) if able else ""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {
            "adopted_variables": adopted_variables,
            "adopted_secrets": adopted_secrets,
            "adopted_inventory": adopted_inventory,
            "adoption_problems": adoption_problems,
            "adoption_candidate": adoption_candidate,
            "adoption_part": adoption_part,
        }
