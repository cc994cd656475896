# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployed cluster must be, host by host and as a whole."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import testinfra

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.playbook import run
from lab.wait import until
from lab.wire import Target, Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

RSS_KIB_MAX: Final = 56 * 1024
SETTINGS: Final = Settings.from_environment()
UNITS: Final = (
    "etcd",
    "pgherd",
    "pgherd-guard",
    "pgbouncer-rw",
    "pgbouncer-ro",
    "haproxy",
    "keepalived",
)
PORTS: Final = (2379, 2380, 5432, 8008, 6432, 6433)
# The address that moves is not always this host's.
PORTS_OF_ALL_ADDRESSES: Final = (5000, 5001, 7000)
on_every_member = pytest.mark.parametrize("name", MEMBERS)


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster, healthy."""
    found = Cluster(SETTINGS)
    found.await_healthy(60)
    return found


@pytest.fixture(scope="module")
def leader(cluster: Cluster) -> str:
    """The name of the member that leads."""
    return cluster.await_healthy(60)


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(SETTINGS)


def host(name: str) -> Any:
    """Return testinfra's view of the host *name*."""
    return testinfra.get_host(f"docker://{SETTINGS.container(name)}")


def postmaster(name: str) -> str:
    """Return the process id of *name*'s PostgreSQL."""
    pid = host(name).check_output("head -n 1 /var/lib/postgresql/*/*/postmaster.pid")
    return str(pid)


@on_every_member
def test_services_run_and_start_at_boot(name: str) -> None:
    for unit in UNITS:
        service = host(name).service(unit)
        assert service.is_running, unit
        assert service.is_enabled, unit


@on_every_member
def test_ports_are_those_of_the_design(name: str) -> None:
    address = SETTINGS.address(name)
    for port in PORTS:
        assert host(name).socket(f"tcp://{address}:{port}").is_listening, port
    for port in PORTS_OF_ALL_ADDRESSES:
        assert host(name).socket(f"tcp://0.0.0.0:{port}").is_listening, port


@on_every_member
def test_no_other_postgresql_runs(name: str) -> None:
    assert host(name).check_output("pg_lsclusters --no-header") == ""
    postmasters = [
        process
        for process in host(name).process.filter(user="postgres", comm="postgres")
        if "-D" in process.args.split()
    ]
    assert len(postmasters) == 1
    assert not host(name).service("postgresql").is_running


@on_every_member
def test_agent_is_small(name: str) -> None:
    pid = host(name).check_output("systemctl show --property=MainPID --value pgherd")
    rss_kib = int(host(name).check_output(f"ps -o rss= -p {pid}"))
    sys_line = f"{name}: the agent has {rss_kib / 1024:.1f} MiB resident"
    assert rss_kib <= RSS_KIB_MAX, sys_line


@on_every_member
def test_configuration_is_not_for_everybody(name: str) -> None:
    for path in ("/etc/pgherd/pgherd.yml", "/etc/pgherd/conf.d/50-postgresql.yml"):
        file = host(name).file(path)
        assert (file.user, file.group, oct(file.mode)) == ("root", "postgres", "0o640"), path


@on_every_member
def test_second_run_restarted_nothing(name: str) -> None:
    noted = host(name).file("/run/pgherd-test-services").content_string.split()
    show = "systemctl show --property=Id --property=MainPID --property=ExecMainStartTimestamp"
    now = host(name).check_output(f"{show} {' '.join(UNITS)}").split()
    assert noted == [*now, postmaster(name)]


def test_one_leads_and_all_see_the_same(cluster: Cluster) -> None:
    views = {}
    for name in MEMBERS:
        status, body = cluster.rest(name, "/cluster")
        assert status == 200
        rows = json.loads(body)["members"]
        views[name] = sorted((row["name"], row["role"], row["state"]) for row in rows)
    assert views["pg1"] == views["pg2"] == views["pg3"]
    assert [role for _, role, _ in views["pg1"]].count("leader") == 1


@on_every_member
def test_health_checks_agree_with_the_role(cluster: Cluster, leader: str, name: str) -> None:
    leads = name == leader
    for path, expected in (
        ("/primary", leads),
        ("/leader", leads),
        ("/read-write", leads),
        ("/replica", not leads),
        ("/health", True),
        ("/liveness", True),
        ("/readiness", True),
    ):
        assert (cluster.rest(name, path)[0] == 200) is expected, path


@on_every_member
def test_metrics_are_served(cluster: Cluster, name: str) -> None:
    status, body = cluster.rest(name, "/metrics")
    assert status == 200
    assert "patroni_postgres_running" in body


def test_standbys_stream_over_slots_of_their_own(cluster: Cluster, leader: str) -> None:
    rows = cluster.query(
        leader,
        "SELECT application_name, state, s.slot_name, s.active FROM pg_stat_replication r "
        "JOIN pg_replication_slots s ON s.active_pid = r.pid ORDER BY 1",
    )
    others = [name for name in MEMBERS if name != leader]
    assert [(row[0], row[1], row[3]) for row in rows] == [(n, "streaming", "t") for n in others]
    assert len({row[2] for row in rows}) == len(others)


@on_every_member
def test_pages_have_checksums_and_passwords_are_scram(cluster: Cluster, name: str) -> None:
    assert cluster.query(name, "SHOW data_checksums") == [("on",)]
    assert cluster.query(name, "SHOW password_encryption") == [("scram-sha-256",)]


def test_wrong_password_is_refused(cluster: Cluster, leader: str) -> None:
    right = cluster.target(leader)
    with pytest.raises(WireError, match="password authentication failed"):
        Wire(Target(right.host, right.user, "wrong"), 5)


def test_every_password_is_stored_as_scram(cluster: Cluster, leader: str) -> None:
    rows = cluster.query(leader, "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin")
    assert rows
    assert [name for name, password in rows if not password.startswith("SCRAM-SHA-256$")] == []


def test_a_row_reaches_every_standby(cluster: Cluster, leader: str) -> None:
    cluster.query(leader, "CREATE TABLE IF NOT EXISTS pgherd_verify (n bigint)")
    mark = str(time.time_ns())
    cluster.query(leader, f"INSERT INTO pgherd_verify VALUES ({mark})")
    sql = f"SELECT count(*) FROM pgherd_verify WHERE n = {mark}"
    until(
        lambda: [name for name in MEMBERS if cluster.query(name, sql) != [("1",)]],
        10,
        "Every member has the row",
        holds=lambda missing: not missing,
    )
    cluster.query(leader, "DROP TABLE pgherd_verify")


@pytest.fixture
def postmasters() -> Iterator[dict[str, str]]:
    """The postmasters' process ids, which must be the same after the test."""
    before = {name: postmaster(name) for name in MEMBERS}
    yield before
    assert {name: postmaster(name) for name in MEMBERS} == before


@pytest.mark.usefixtures("postmasters")
def test_restarted_agents_leave_postgresql_and_the_leader_alone(
    cluster: Cluster, leader: str, lab: Lab
) -> None:
    for name in MEMBERS:
        lab.exec(name, ["systemctl", "restart", "pgherd"])
    assert cluster.await_healthy(60) == leader


def test_list_shows_every_member(lab: Lab, leader: str) -> None:
    table = lab.exec("pg1", ["pgherd", "list"])[1]
    for name in MEMBERS:
        assert name in table
    rows = json.loads(lab.exec("pg1", ["pgherd", "list", "--json"])[1])
    assert leader in json.dumps(rows)


@pytest.mark.usefixtures("postmasters", "cluster")
def test_check_mode_is_truthful_on_a_live_cluster() -> None:
    outcome = run(options=["--check", "--diff"])
    assert outcome.code == 0, outcome.output[-3000:]
    assert outcome.changed
    assert set(outcome.changed.values()) == {0}, outcome.output[-3000:]
