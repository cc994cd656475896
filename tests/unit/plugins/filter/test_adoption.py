# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken over from Patroni, and what is refused before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.adoption import (
    adopted_inventory,
    adopted_secrets,
    adopted_variables,
    adoption_candidate,
    adoption_part,
    adoption_problems,
    etcd_endpoints,
)

DATA = "/var/lib/postgresql/17/main"
HOSTS = ["pg1", "pg2"]
ADDRESSES = {"pg1": "10.0.0.1", "pg2": "10.0.0.2"}


def config(host: str) -> dict[str, Any]:
    """Return a usual configuration of Patroni on *host*."""
    address = ADDRESSES[host]
    return {
        "scope": "17-main",
        "namespace": "/postgresql-common/",
        "name": host,
        "restapi": {"listen": "*:8008", "connect_address": f"{address}:8008"},
        "etcd3": {"hosts": "10.0.0.1:2379, 10.0.0.2"},
        "bootstrap": {"dcs": {"ttl": 30}},
        "postgresql": {
            "listen": "*:5433",
            "connect_address": f"{address}:5433",
            "data_dir": DATA + "/",
            "bin_dir": "/usr/lib/postgresql/17/bin",
            "authentication": {
                "superuser": {"username": "postgres", "password": "s"},
                "replication": {"username": "standby", "password": "r"},
            },
            "recovery_conf": {"restore_command": "cp /archive/%f %p"},
        },
    }


def row(name: str, value: str, file: str = "postgresql.conf") -> dict[str, str]:
    """Return a setting as PostgreSQL shows it of a file in the data directory."""
    return {"name": name, "value": value, "file": f"{DATA}/{file}"}


def facts(host: str = "pg1") -> dict[str, Any]:
    """Return the fact of *host*, whose cluster is well: pg1 leads, pg2 streams."""
    return {
        "unit": "patroni.service",
        "active": True,
        "replaced": False,
        "path": "/etc/patroni/config.yml",
        "environment": [],
        "config": config(host),
        "dynamic": {"postgresql": {"parameters": {"work_mem": "8MB"}}},
        "members": [
            {"name": "pg1", "role": "leader", "state": "running"},
            {"name": "pg2", "role": "replica", "state": "streaming", "lag": 0},
        ],
        "postgres": {
            "version": 17,
            "recovering": host != "pg1",
            "files": [
                row("shared_buffers", "128MB", "postgresql.base.conf"),
                row("max_connections", "150"),
                row("work_mem", "8MB"),
                row("port", "5433"),
                row("recovery_target_lsn", ""),
                row("restore_command", "cp /archive/%f %p"),
                row("jit", "on"),
                row("jit", "off"),
            ],
            "hba": ["local all all peer", "host all all 10.0.0.0/8 md5"],
            "ident": [],
        },
        "problems": [],
    }


def hostvars(**changed: dict[str, Any]) -> dict[str, Any]:
    """Return the hosts' variables, with the facts of some replaced."""
    return {
        host: {
            "ansible_facts": {
                "patroni": changed.get(host, facts(host)),
                "default_ipv4": {"address": ADDRESSES[host]},
            }
        }
        for host in HOSTS
    }


def test_a_usual_cluster_can_be_taken_over() -> None:
    assert adoption_problems(HOSTS, hostvars(), "17") == []


def test_the_roles_go_on_with_what_patroni_has() -> None:
    found = adopted_variables(facts())
    assert found["cluster_name"] == "17-main"
    assert found["cluster_namespace"] == "postgresql-common"
    assert found["cluster_etcd_endpoints"] == ["10.0.0.1:2379", "10.0.0.2:2379"]
    assert (found["cluster_pooler"], found["cluster_balancer"]) == ("none", "none")
    assert (found["postgresql_listen"], found["postgresql_port"]) == ("*", 5433)
    assert found["postgresql_data_dir"] == DATA
    assert found["postgresql_hba"] == ["local all all peer", "host all all 10.0.0.0/8 md5"]
    assert found["postgresql_replication_name"] == "standby"
    # Patroni rewinds as superuser where it is given nobody else.
    assert found["postgresql_rewind_name"] == "postgres"
    assert found["postgresql_rewind_password"] == "s"


@pytest.mark.parametrize(
    ("section", "files"),
    [
        ({"hosts": "10.0.0.1:2379"}, {}),
        ({"hosts": "10.0.0.1:2379", "cacert": "/ca.pem"}, {}),
        (
            {"hosts": "10.0.0.1:2379", "protocol": "https", "cacert": "/ca.pem", "cert": "/c.pem",
             "key": "/k.pem"},
            {"cacert": "/ca.pem", "cert": "/c.pem", "key": "/k.pem"},
        ),
        ({"url": "https://10.0.0.1:2379", "cacert": "/ca.pem"}, {"cacert": "/ca.pem"}),
    ],
)  # fmt: skip
def test_an_etcd_behind_tls_is_reached_with_the_same_files(
    section: dict[str, str], files: dict[str, str]
) -> None:
    here = facts()
    here["config"]["etcd3"] = section
    assert adoption_problems(HOSTS, hostvars(pg1=here), "17") == []
    found = adopted_variables(here)
    assert found["cluster_etcd_tls"] == files
    assert found["cluster_etcd_endpoints"] == ["10.0.0.1:2379"]


def test_only_what_this_hosts_files_alone_decide_becomes_a_parameter() -> None:
    """Neither the base file, which stays, nor what is dynamic, nor what the agent decides."""
    found = adopted_variables(facts())["postgresql_parameters"]
    assert found == {"jit": "off"}


def test_commands_and_methods_go_on_by_their_own_names() -> None:
    here = facts()
    methods = {"create_replica_method": ["fast", "basebackup"], "fast": {"command": "/x"}}
    commands = {
        "callbacks": {"on_start": "/y"},
        "pre_promote": "/z",
        "rewind": ["debug"],
        "proxy_address": "10.0.0.9:6432",
        "pg_ctl_timeout": 90,
    }
    here["config"]["postgresql"].update(methods | commands)
    assert adoption_problems(HOSTS, hostvars(pg1=here), "17") == []
    assert adopted_variables(here)["agent_config"]["postgresql"] == {
        "recovery_conf": {"restore_command": "cp /archive/%f %p"},
        "create_replica_methods": ["fast", "basebackup"],
        "fast": {"command": "/x"},
        **commands,
    }


def test_a_base_file_that_lies_elsewhere_is_not_included_any_more_so_its_settings_are_taken() -> (
    None
):
    here = facts()
    here["postgres"]["files"] = [
        {"name": "jit", "value": "off", "file": "/etc/postgresql/17/main/postgresql.base.conf"}
    ]
    assert adopted_variables(here)["postgresql_parameters"]["jit"] == "off"


def test_the_login_of_the_rest_api_is_kept_and_a_missing_one_is_left_to_be_made() -> None:
    here = facts()
    assert "agent_rest_password" not in adopted_variables(here)
    here["config"]["restapi"]["authentication"] = {"username": "u", "password": "p"}
    found = adopted_variables(here)
    assert (found["agent_rest_username"], found["agent_rest_password"]) == ("u", "p")
    assert adopted_secrets(found)["agent-rest"] == "p"


@pytest.mark.parametrize(
    ("section", "change", "word"),
    [
        ("", {"consul": {"host": "127.0.0.1"}}, "consul"),
        ("", {"kubernetes": {"labels": {}}}, "kubernetes"),
        ("", {"etcd": {"host": "127.0.0.1"}}, "etcd (the v2 API)"),
        ("", {"citus": {"group": 0}}, "Citus"),
        ("", {"name": "other"}, "called other"),
        ("", {"scope": "a b"}, "scope 'a b'"),
        ("", {"something": True}, "something has no equivalent"),
        ("restapi", {"certfile": "/x"}, "restapi.certfile has no equivalent"),
        ("restapi", {"connect_address": "10.0.0.1:8009"}, "its port has to be 8008"),
        ("restapi", {"connect_address": "10.0.0.9:8008"}, "set cluster_address of pg1"),
        ("restapi", {"connect_address": "pg1:8008"}, "addresses, not names"),
        ("etcd3", {"protocol": "https"}, "no cacert says whom to trust"),
        ("etcd3", {"username": "u"}, "etcd3.username has no equivalent"),
        ("postgresql", {"barman": {"command": "/x"}}, "postgresql.barman has no equivalent"),
        ("postgresql", {"bin_dir": "/opt/pg/bin"}, "postgresql.bin_dir is /opt/pg/bin"),
        ("postgresql", {"parameters": {"unix_socket_directories": "/a,/b"}}, "one directory"),
        ("postgresql", {"authentication": {"superuser": {"username": "root", "password": "x"},
                                           "replication": {"username": "r", "password": "y"}}},
         "it has to be postgres"),
        ("postgresql", {"authentication": {"superuser": {"username": "postgres"},
                                           "replication": {"username": "r", "password": "y"}}},
         "superuser has no password"),
        ("postgresql", {"authentication": {"superuser": {"username": "postgres", "password": "x",
                                                         "sslcert": "/x"},
                                           "replication": {"username": "r", "password": "y"}}},
         "superuser.sslcert has no equivalent"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_refused_by_name(
    section: str, change: dict[str, Any], word: str
) -> None:
    here = facts()
    (here["config"][section] if section else here["config"]).update(change)
    found = adoption_problems(HOSTS, hostvars(pg1=here), "17")
    assert any(word in problem and "pg1" in problem for problem in found), found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"problems": ["/etc/x cannot be read"]}, "pg1: /etc/x cannot be read"),
        ({"environment": ["PATRONI_SCOPE"]}, "PATRONI_SCOPE"),
        ({"active": False, "postgres": {}}, "neither Patroni nor pgherd runs there"),
        ({"replaced": True}, "both run there"),
        ({"dynamic": {"pause": True}}, "patronictl resume"),
        ({"dynamic": {"standby_cluster": {"host": "x"}}}, "standby cluster"),
        ({"members": [{"name": "pg1", "role": "leader", "state": "running"}]}, "not a member"),
        ({"members": [{"name": name, "role": "replica", "state": "streaming"}
                      for name in HOSTS]}, "no leader"),
        ({"members": [{"name": "pg1", "role": "leader", "state": "running"},
                      {"name": "pg2", "role": "replica", "state": "stopped"}]}, "`stopped`"),
        ({"members": [{"name": "pg1", "role": "leader", "state": "running"},
                      {"name": "pg2", "role": "replica", "state": "streaming"},
                      {"name": "pg9", "role": "replica", "state": "streaming"}]}, "member pg9"),
    ],
)  # fmt: skip
def test_a_cluster_that_is_not_well_is_left_alone(change: dict[str, Any], word: str) -> None:
    found = adoption_problems(HOSTS, hostvars(pg1=facts() | change), "17")
    assert any(word in problem for problem in found), found


def test_hosts_of_two_clusters_and_another_release_are_refused() -> None:
    other = facts("pg2")
    other["config"]["scope"] = "other"
    assert any("different clusters" in text for text in _problems(other))
    assert any("it has to be 15" in text for text in adoption_problems(HOSTS, hostvars(), "15"))


def _problems(other: dict[str, Any]) -> list[str]:
    found: list[str] = adoption_problems(HOSTS, hostvars(pg2=other), "17")
    return found


def test_a_run_that_was_cut_short_goes_on() -> None:
    """Patroni stopped for good, pgherd not yet started: the note tells what is missing."""
    between = facts("pg2") | {"active": False, "members": []}
    assert _problems(between) == []
    assert adoption_part(between) == "standby"


@pytest.mark.parametrize(
    ("host", "change", "part"),
    [
        ("pg1", {}, "leader"),
        ("pg2", {}, "standby"),
        ("pg1", {"active": False, "replaced": True}, "done"),
    ],
)
def test_parts(host: str, change: dict[str, Any], part: str) -> None:
    assert adoption_part(facts(host) | change) == part


@pytest.mark.parametrize(
    ("section", "endpoints"),
    [
        ({"host": "a:2379"}, ["a:2379"]),
        ({"hosts": ["a", "http://b:1"]}, ["a:2379", "b:1"]),
        ({"hosts": "a:1,b:2"}, ["a:1", "b:2"]),
        ({"url": "http://a:5"}, ["a:5"]),
        ({}, []),
    ],
)
def test_etcd_endpoints(section: dict[str, Any], endpoints: list[str]) -> None:
    assert etcd_endpoints(section) == endpoints


def test_the_inventory_says_once_what_all_have_and_holds_no_password() -> None:
    second = facts("pg2")
    second["config"]["tags"] = {"nofailover": True}
    found = adopted_inventory(HOSTS, hostvars(pg2=second))["all"]
    assert found["vars"]["cluster_name"] == "17-main"
    group = found["children"]["postgres"]
    assert group["vars"]["postgresql_port"] == 5433
    assert group["hosts"] == {
        "pg1": {"agent_tags": {}},
        "pg2": {"agent_tags": {"nofailover": True}},
    }
    assert "password" not in str(found)


LEADER = {"name": "pg1", "role": "leader", "state": "running"}


def standby(name: str, role: str = "replica", lag: Any = 0, **more: Any) -> dict[str, Any]:
    """Return a row of a streaming standby in GET /cluster."""
    return {"name": name, "role": role, "state": "streaming", "lag": lag, **more}


@pytest.mark.parametrize(
    ("members", "mode", "candidate"),
    [
        ([LEADER, standby("pg2", lag=10), standby("pg3")], False, "pg3"),
        ([LEADER, standby("pg2", lag="unknown"), standby("pg3", lag=5)], None, "pg3"),
        ([LEADER, standby("pg2"), standby("pg3", "sync_standby", 9)], True, "pg3"),
        ([LEADER, standby("pg2", "quorum_standby")], "quorum", "pg2"),
        ([LEADER, standby("pg2")], "on", ""),
        ([LEADER, standby("pg2", tags={"nofailover": True})], False, ""),
        ([LEADER, standby("pg2") | {"state": "running"}], False, ""),
        ([LEADER], False, ""),
    ],
)
def test_candidate(members: list[dict[str, Any]], mode: Any, candidate: str) -> None:
    assert adoption_candidate(members, mode) == candidate


def test_nobody_is_asked_where_no_patroni_runs() -> None:
    here = {host: {**facts(host), "active": False, "replaced": True} for host in HOSTS}
    assert adoption_problems(HOSTS, hostvars(**here), "17") == []


def test_a_standby_cluster_is_not_taken_over() -> None:
    here = {**facts(), "dynamic": {"standby_cluster": {"host": "192.0.2.9"}}}
    found = adoption_problems(HOSTS, hostvars(pg1=here), "17")
    assert any("it is a standby cluster" in text for text in found)
