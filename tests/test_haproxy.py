# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that the role haproxy writes, in a real HAProxy under real connections."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.haproxy_config import haproxy_config

from tests.balancer import HOSTS, Client, World, plan, reached, startup, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SSL_REQUEST = bytes.fromhex("0000000804D2162F")
CANCEL_REQUEST = bytes.fromhex("0000001004D2162E0000000100000002")
MANY = [f"10.{n}.0.0/16" for n in range(200)]
EVERYBODY = {f"rw {host}" for host in HOSTS}
EVERYBODY_IN_TURN = [f"rw {host}" for host in HOSTS]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds that end with the test."""
    made: list[World] = []

    def make(*, started: bool = True, **changes: Any) -> World:
        world = World(tmp_path, **changes)
        made.append(world)
        if started:
            world.start()
        return world

    yield make
    for world in made:
        world.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pooler": False},
        {"hosts": {"a": "fd00::1", "b.example.org": "fd00::2"}, "own": ["fd00::1", "::1"],
         "postgresql_ports": {"a": 5432, "b.example.org": 5433}},
        {"bind_addresses": ["127.0.71.9"], "idle_timeout_seconds": 60, "slow_start_seconds": 10},
        {"listeners": {"rw": 5000, "ro": 5001, "sync": 5002, "direct_rw": 5003, "direct_ro": 5004},
         "more_listeners": {"apps": {"port": 5100, "to": "ro", "networks": MANY}}},
        {"acl": [
            {"listener": ["ro"], "databases": ["app", "bär"], "users": ["x"],
             "action": "route", "to": "rw"},
            {"databases": ["secret"], "action": "deny"},
            {"networks": ["10.1.0.0/16"], "users": ["x", "y"]},
        ]},
        {"statistics": {"port": 7000, "networks": ["10.0.0.0/8"], "username": "u",
                        "password": "it's $HOME \"and\" \\ #"}},
    ],
)  # fmt: skip
def test_haproxy_accepts_what_is_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "haproxy.cfg"
    # Where the program that looks first has not run, the file of states is missing: a warning.
    mine = {"server-state-file": None, "user": None, "group": None}
    path.write_text(
        haproxy_config(
            plan(**changes), {"global": mine, "defaults": {"load-server-state-from-file": None}}
        )
    )
    checked = subprocess.run(
        ["haproxy", "-c", "-dW", "-f", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr + path.read_text()


def test_writers_are_spread_over_all_poolers_that_are_fit(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    clients = [Client(world.rw) for _ in range(6)]
    assert {client.server for client in clients} == EVERYBODY
    for client in clients:
        client.close()


def test_it_works_with_as_many_threads_as_the_plan_says(make_world: Callable[..., World]) -> None:
    world = make_world(threads=3)
    assert "Nbthread: 3" in world.ask("show info").splitlines()


def test_some_writers_come_to_the_pooler_beside_first(make_world: Callable[..., World]) -> None:
    world = make_world(near={"host": "b", "sessions": 2})
    clients = [Client(world.rw) for _ in range(6)]
    assert [client.server for client in clients[:2]] == ["rw b", "rw b"]
    assert sorted(client.server for client in clients) == sorted(2 * EVERYBODY_IN_TURN)
    clients[0].close()
    until(lambda: reached(world.rw) == "rw b", "the place that is free is taken again")
    for client in clients[1:]:
        client.close()


def test_a_pooler_beside_that_refuses_is_passed_by(make_world: Callable[..., World]) -> None:
    world = make_world(near={"host": "b", "sessions": 100})
    assert {reached(world.rw) for _ in range(3)} == {"rw b"}
    assert {reached(world.ro) for _ in range(3)} == {"ro a", "ro b", "ro c"}
    world.stop("rw b")
    assert {reached(world.rw) for _ in range(6)} == EVERYBODY - {"rw b"}
    assert world.status("rw", "b") == "UP"


def test_nor_is_one_used_whose_agent_says_no(make_world: Callable[..., World]) -> None:
    world = make_world(near={"host": "b", "sessions": 100})
    world.answers["b"]["/pooler/rw"] = 503
    until(lambda: world.status("rw", "b") == "DOWN", "b is left")
    assert {reached(world.rw) for _ in range(6)} == EVERYBODY - {"rw b"}


def test_a_pooler_that_is_not_fit_loses_its_writers(make_world: Callable[..., World]) -> None:
    world = make_world()
    clients = [Client(world.rw) for _ in range(3)]
    (lost,) = (client for client in clients if client.server == "rw a")
    world.answers["a"]["/pooler/rw"] = 503
    assert lost.ended()
    assert [client.lives() for client in clients if client is not lost] == [True, True]
    assert {reached(world.rw) for _ in range(6)} == EVERYBODY - {"rw a"}
    for client in clients:
        client.close()


def test_a_standby_that_lags_keeps_its_readers_and_gets_no_more(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    clients = [Client(world.ro) for _ in range(3)]
    world.answers["a"]["/pooler/ro"] = 503
    until(lambda: world.status("ro", "a") == "DOWN", "a is left")
    assert [client.lives() for client in clients] == [True, True, True]
    assert {reached(world.ro) for _ in range(6)} == {"ro b", "ro c"}
    for client in clients:
        client.close()


def test_readers_come_to_the_primary_when_no_standby_is_fit(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    for host in HOSTS:
        world.answers[host]["/pooler/ro"] = 503
    until(lambda: {world.status("ro", host) for host in HOSTS} == {"DOWN"}, "all are left")
    assert reached(world.ro).startswith("rw ")
    world.answers["b"]["/pooler/ro"] = 200
    until(lambda: world.status("ro", "b") == "UP", "b is back")
    assert reached(world.ro) == "ro b"


def test_a_pooler_that_refuses_is_passed_by_before_a_check_tells(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.stop("rw a")
    assert {reached(world.rw) for _ in range(9)} == EVERYBODY - {"rw a"}
    assert world.status("rw", "a") == "UP"


def test_an_agent_that_is_restarted_costs_nobody_the_connection(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    clients = [Client(world.rw) for _ in range(3)]
    world.answers["a"]["/pooler/rw"] = 503
    until(lambda: "1/3" in _checks(world, "a") or "2/3" in _checks(world, "a"), "a check fails")
    world.answers["a"]["/pooler/rw"] = 200
    until(lambda: world.status("rw", "a") == "UP" and "/3" not in _checks(world, "a"), "a is fit")
    assert [client.lives() for client in clients] == [True, True, True]
    for client in clients:
        client.close()


def _checks(world: World, host: str) -> str:
    """Return the state with its counter, as `UP 1/3`."""
    for line in world.ask("show stat").splitlines():
        fields = line.split(",")
        if fields[:2] == ["rw", host]:
            return fields[17]
    return ""


def test_the_first_clients_meet_nobody_who_is_not_fit(make_world: Callable[..., World]) -> None:
    world = make_world(started=False)
    # Checks come late, so that only what was looked at before the start can tell.
    late = {"balancer_check_ms": 60000, "balancer_check_fast_ms": 60000}
    world.plan["timings"] = {**world.plan["timings"], **late}
    world.answers["a"]["/pooler/rw"] = 503
    world.stop("agent b")
    world.start()
    assert {reached(world.rw) for _ in range(9)} == {"rw c"}


def test_a_reload_ends_no_connection_and_forgets_nothing(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    clients = [Client(world.rw) for _ in range(3)]
    world.answers["a"]["/pooler/ro"] = 503
    until(lambda: world.status("ro", "a") == "DOWN", "a is left")
    world.ask("set server rw/b state drain")
    world.plan["more_listeners"] = {"apps": {"port": world.more, "to": "rw"}}
    world.plan["timings"] = {**world.plan["timings"], "balancer_check_ms": 60000}
    world.write()
    world.reload()
    assert {reached(world.ro) for _ in range(6)} == {"ro b", "ro c"}
    assert {reached(world.more) for _ in range(6)} == {"rw a", "rw c"}
    assert [client.lives() for client in clients] == [True, True, True]
    for client in clients:
        client.close()


def test_a_server_of_the_same_name_at_another_place_is_looked_at_anew(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.answers["a"]["/pooler/rw"] = 503
    until(lambda: world.status("rw", "a") == "DOWN", "a is left")
    world.plan["hosts"] = {"a": HOSTS["b"]}
    world.write()
    world.look_first()
    (line,) = (
        line
        for line in (world.folder / "servers.state").read_text().splitlines()
        if line.split()[1:4:2] == ["rw", "a"]
    )
    assert line.split()[4:6] == [HOSTS["b"], "2"]


def test_who_is_not_known_is_not_let_in(make_world: Callable[..., World]) -> None:
    world = make_world(
        guests=["127.0.5.0/24"],
        own=["127.0.0.1"],
        acl=[
            {"listener": "rw", "networks": ["127.0.5.7/32"], "action": "deny"},
            {"listener": "ro", "networks": ["127.0.6.0/24"]},
        ],
        more_listeners={"apps": {"to": "ro", "networks": ["127.0.8.0/24"]}},
    )
    for port, source, enters in (
        (world.rw, "127.0.5.1", True),
        (world.rw, "127.0.0.1", True),
        (world.rw, "127.0.5.7", False),
        (world.rw, "127.0.6.1", False),
        (world.ro, "127.0.5.7", True),
        (world.ro, "127.0.6.1", True),
        (world.more, "127.0.8.1", True),
        (world.more, "127.0.0.1", True),
        (world.more, "127.0.5.1", False),
    ):
        assert bool(reached(port, source)) is enters, (port, source)


def test_the_first_rule_that_matches_decides(make_world: Callable[..., World]) -> None:
    world = make_world(
        acl=[
            {"listener": "rw", "networks": ["127.0.5.1/32"]},
            {"listener": "rw", "networks": ["127.0.5.0/24"], "action": "deny"},
            {"listener": "rw", "networks": ["127.0.6.0/24"], "action": "route", "to": "ro"},
        ]
    )
    assert reached(world.rw, "127.0.5.1").startswith("rw ")
    assert reached(world.rw, "127.0.5.2") == ""
    assert reached(world.rw, "127.0.6.1").startswith("ro ")
    assert reached(world.rw, "127.0.7.1").startswith("rw ")


@pytest.mark.parametrize("version", [b"\0\3\0\0", b"\0\3\0\2"], ids=["3.0", "3.2"])
def test_databases_and_users_are_led_elsewhere(
    make_world: Callable[..., World], version: bytes
) -> None:
    world = make_world(
        acl=[
            {"listener": "rw", "databases": ["reports", "bär"], "action": "route", "to": "ro"},
            {
                "listener": "rw",
                "databases": ["app"],
                "users": ["reader"],
                "action": "route",
                "to": "ro",
            },
        ]
    )
    for user, database, where in (
        ("anybody", "reports", "ro"),
        ("anybody", "bär", "ro"),
        ("anybody", "report", "rw"),
        ("reports", "other", "rw"),
        ("reader", "app", "ro"),
        ("writer", "app", "rw"),
    ):
        server = reached(world.rw, first=startup(user, database, version))
        assert server.startswith(where), (user, database)
    # Who asks for encryption first has not said where to: to where everybody goes.
    assert reached(world.rw, first=SSL_REQUEST).startswith("rw ")


def test_a_database_that_is_denied_cannot_be_had_by_encryption(
    make_world: Callable[..., World],
) -> None:
    world = make_world(acl=[{"listener": "rw", "databases": ["secret"], "action": "deny"}])
    assert reached(world.rw, first=startup("app", "open")).startswith("rw ")
    assert reached(world.rw, first=startup("app", "secret")) == ""
    assert reached(world.rw, first=SSL_REQUEST) == ""
    assert reached(world.rw, first=CANCEL_REQUEST).startswith("rw ")


def test_only_named_databases_come_in_where_rules_allow_no_others(
    make_world: Callable[..., World],
) -> None:
    world = make_world(guests=[], own=["127.0.0.2"], acl=[{"listener": "rw", "databases": ["app"]}])
    assert reached(world.rw, first=startup("app", "app")).startswith("rw ")
    assert reached(world.rw, first=startup("app", "other")) == ""
    assert reached(world.rw, first=SSL_REQUEST) == ""


def test_statistics_tell_and_need_a_password_where_there_is_one(
    make_world: Callable[..., World],
) -> None:
    password = 'it\'s $HOME "and" \\ #'
    said = {"port": 0, "networks": [], "username": "u", "password": password}
    world = make_world(statistics=said)
    right = "Basic " + base64.b64encode(f"u:{password}".encode()).decode()
    for path, text in (("/", "Statistics Report"), ("/metrics", "haproxy_server_status")):
        assert world.get(path)[0] == 401, path
        code, page = world.get(path, Authorization=right)
        assert code == 200
        assert text in page
    assert world.get("/health")[0] == 200


def test_readiness_is_whether_writers_can_be_served(make_world: Callable[..., World]) -> None:
    world = make_world()
    assert world.get("/ready")[0] == 200
    for host in HOSTS:
        world.answers[host]["/pooler/rw"] = 503
    until(lambda: world.get("/ready")[0] == 503, "nobody is fit")
    assert world.get("/health")[0] == 200


def test_statistics_are_not_for_every_client(make_world: Callable[..., World]) -> None:
    world = make_world(own=["127.0.0.2"])
    assert world.get("/")[0] == 403
    assert world.get("/metrics")[0] == 403
    assert world.get("/health")[0] == 200
