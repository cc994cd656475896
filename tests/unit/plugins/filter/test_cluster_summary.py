# SPDX-License-Identifier: GPL-3.0-or-later
"""The text a run ends with."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgherd.cluster.plugins.filter.cluster_summary import cluster_summary

SETTINGS: dict[str, Any] = {
    "name": "demo",
    "addresses": {"pg1": "192.0.2.1", "pg2": "fd00::2"},
    "port": 5433,
    "etcd": ["http://192.0.2.1:2379"],
    "rest": ["http://192.0.2.1:8008"],
    "password_file": "/home/me/.secrets/demo/postgresql-superuser",
}
CLUSTER: dict[str, Any] = {
    "leader": "pg1",
    "members": [
        {"name": "pg1", "host": "192.0.2.1", "role": "leader", "state": "running", "timeline": 3},
        {"name": "pg2", "role": "replica", "state": "streaming"},
    ],
}


def test_it_shows_members_places_and_how_to_administer() -> None:
    lines = cluster_summary(CLUSTER, SETTINGS, []).splitlines()
    assert lines[1] == "Cluster demo: pg1 leads"
    assert "  pg1     192.0.2.1  leader   running    3" in lines
    assert "  pg2     fd00::2    replica  streaming" in lines
    (command,) = [line for line in lines if line.startswith("administer ")]
    assert command.endswith(
        'PGPASSWORD="$(cat /home/me/.secrets/demo/postgresql-superuser)" psql \'postgresql://'
        "postgres@192.0.2.1:5433,[fd00::2]:5433/postgres?target_session_attrs=read-write'"
    )
    assert not [line for line in lines if line.startswith("WARNING")]


def entry(*places: str) -> list[str]:
    """Return the summary's lines for applications that come in at *places*."""
    ways = {"rw": [*places], "ro": [place[:-1] + "1" for place in places]}
    text = cluster_summary(CLUSTER, SETTINGS | {"entry": ways}, [])
    return [line for line in text.splitlines() if line.startswith(("write", "read"))]


def test_one_address_that_moves_is_all_an_application_needs() -> None:
    assert entry("192.0.2.100:5000") == [
        "write to   postgresql://192.0.2.100:5000/DATABASE",
        "read from  postgresql://192.0.2.100:5001/DATABASE",
    ]


def test_without_it_an_application_tries_all_hosts_and_looks_for_what_it_needs() -> None:
    hosts = "postgresql://192.0.2.1:500{0},[fd00::2]:500{0}/DATABASE?target_session_attrs={1}"
    assert entry("192.0.2.1:5000", "[fd00::2]:5000") == [
        "write to   " + hosts.format(0, "read-write"),
        "read from  " + hosts.format(1, "prefer-standby"),
    ]


def test_warnings_and_what_ails_the_cluster_come_last_and_once() -> None:
    sick = CLUSTER | {"problems": ["pg2 is `starting`"]}
    text = cluster_summary(sick, SETTINGS, ["etcd has one member", "etcd has one member"])
    assert text.splitlines()[-2:] == [
        "WARNING    pg2 is `starting`",
        "WARNING    etcd has one member",
    ]


def test_no_long_warning_runs_off_the_screen() -> None:
    text = cluster_summary(CLUSTER, SETTINGS, ["many words " * 30])
    warned = text[text.index("WARNING") :].splitlines()
    assert len(warned) > 3
    assert max(len(line) for line in warned) <= 100


def test_a_check_run_on_bare_hosts_says_so() -> None:
    assert "Cluster demo: not running (a first run without --check starts it)" in (
        cluster_summary({}, SETTINGS, [])
    )


def test_without_a_file_of_passwords_none_is_named() -> None:
    settings = {**SETTINGS, "password_file": ""}
    assert "\npasswords " in cluster_summary(CLUSTER, SETTINGS, [])
    assert "\npasswords " not in cluster_summary(CLUSTER, settings, [])
