# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's configuration from data: what is refused, and what is written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.haproxy_config import (
    haproxy_config,
    haproxy_ports,
    haproxy_servers,
)
from ansible_collections.pgherd.cluster.plugins.filter.rto_timings import rto_timings

from tests.balancer import plan


def section(text: str, name: str) -> list[str]:
    """Return the lines of one section."""
    (found,) = (part for part in text.split("\n\n") if part.startswith(name + "\n"))
    return [line.strip() for line in found.splitlines()[1:]]


def server_options(text: str, backend: str) -> str:
    """Return the line with the servers' options."""
    (line,) = (line for line in section(text, backend) if line.startswith("default-server"))
    return line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"acl": [{"listner": "rw"}]},
            "haproxy_acl[0]: there is no key listner (did you mean listener?)",
        ),
        (
            {"acl": [{}, {"listener": "rvw"}]},
            "haproxy_acl[1].listener: 'rvw' is none of rw, ro (did you mean rw?)",
        ),
        (
            {"acl": [{"listener": ["rw", "sync"]}]},
            "haproxy_acl[0].listener: 'sync' is none of rw, ro",
        ),
        (
            {"acl": [{"action": "permit"}]},
            "haproxy_acl[0].action: 'permit' is none of allow, deny, route",
        ),
        ({"acl": [{"action": "route"}]}, "haproxy_acl[0]: a rule with action route needs `to`"),
        ({"acl": [{"to": "ro"}]}, "haproxy_acl[0]: a rule with action allow takes no `to`"),
        (
            {"acl": [{"action": "route", "to": "readers"}]},
            "haproxy_acl[0].to: 'readers' is none of rw, ro",
        ),
        (
            {"acl": [{"networks": "10.0.0.0/8"}]},
            "haproxy_acl[0].networks: '10.0.0.0/8' is no list of networks; write [10.0",
        ),
        (
            {"acl": [{"networks": ["10.0.0.1/8"]}]},
            "haproxy_acl[0].networks: 10.0.0.1/8 has host bits set",
        ),
        (
            {"acl": [{"databases": "app"}]},
            "haproxy_acl[0].databases: 'app' is no list of names; write [app]",
        ),
        ({"acl": [{"users": [7]}]}, "haproxy_acl[0].users: [7] is no list of names"),
        ({"acl": {"listener": "rw"}}, "haproxy_acl: {'listener': 'rw'} is no list of rules"),
        ({"acl": ["rw"]}, "haproxy_acl[0]: 'rw' is no mapping with listener, networks"),
        (
            {"guests": ["10.0.0.0/33"]},
            "cluster_client_networks: '10.0.0.0/33' does not appear to be",
        ),
        ({"more_listeners": []}, "haproxy_listeners: [] is no mapping of names to listeners"),
        ({"more_listeners": {"rw": {"port": 1}}}, "haproxy_listeners.rw: 'rw' cannot be the name"),
        (
            {"more_listeners": {"a b": {"port": 1}}},
            "haproxy_listeners.a b: 'a b' cannot be the name",
        ),
        (
            {"more_listeners": {"x": {"prot": 1}}},
            "haproxy_listeners.x: there is no key prot (did you mean port?)",
        ),
        ({"more_listeners": {"x": {"to": "rw"}}}, "haproxy_listeners.x.port: None is no port"),
        (
            {"more_listeners": {"x": {"port": 70000, "to": "rw"}}},
            "haproxy_listeners.x.port: 70000 is no port",
        ),
        (
            {"more_listeners": {"x": {"port": 5100}}},
            "haproxy_listeners.x.to: '' is none of rw, ro, sync",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    for function in (haproxy_config, haproxy_servers, haproxy_ports):
        with pytest.raises(AnsibleFilterError) as caught:
            function(plan(**changes))
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"globl": {}},
            "haproxy_config['globl']: there is no section globl (did you mean global?)",
        ),
        ({"global x": {}}, "haproxy_config['global x']: the section global has no name"),
        (
            {"backend": {}},
            "haproxy_config['backend']: the section backend needs a name, as `backend NAME`",
        ),
        (
            {"backend rw": ["balance first"]},
            "haproxy_config['backend rw']: ['balance first'] is no mapping",
        ),
    ],
)
def test_added_settings_need_a_section(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        haproxy_config(plan(), overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"more_listeners": {"x": {"port": 5001, "to": "rw"}}},
            "listener x: port 5001 is haproxy's listener ro",
        ),
        (
            {"more_listeners": {"x": {"port": 7000, "to": "rw"}}},
            "listener x: port 7000 is haproxy's listener stat",
        ),
        (
            {"taken": {"PostgreSQL": 5000}},
            "haproxy's listener rw: port 5000 is the port of PostgreSQL",
        ),
    ],
)
def test_a_port_is_given_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        haproxy_ports(plan(**changes))
    assert message in str(caught.value)


def test_ports_are_told() -> None:
    found = haproxy_ports(plan(more_listeners={"x": {"port": 5100, "to": "ro"}}))
    assert found == {"statistics": 7000, "rw": 5000, "ro": 5001, "x": 5100}


def test_added_settings_replace_add_and_take_out() -> None:
    text = haproxy_config(
        plan(),
        {
            "global": {"maxconn": 7, "chroot": None, "tune.bufsize": 32768},
            "backend rw": {"balance": "first", "http-check": ["connect", "expect status 200"]},
            "backend other": {"server": "x 192.0.2.1:5432"},
        },
    )
    assert "maxconn 7" in section(text, "global")
    assert "tune.bufsize 32768" in section(text, "global")
    assert "chroot" not in text
    assert section(text, "backend rw").count("balance first") == 1
    assert "http-check connect" in section(text, "backend rw")
    assert section(text, "backend other") == ["server x 192.0.2.1:5432"]


@pytest.mark.parametrize("profile", ["fast", "normal", "wan"])
def test_checks_follow_the_profile(profile: str) -> None:
    timings = rto_timings(profile)
    text = haproxy_config(plan(timings=timings))
    for backend in ("backend rw", "backend ro"):
        options = server_options(text, backend)
        for words in (
            f" inter {timings['balancer_check_ms']}ms ",
            f" fastinter {timings['balancer_check_fast_ms']}ms ",
            f" fall {timings['balancer_check_fall']} ",
        ):
            assert words in options
        # In default-server it would count for nothing.
        lost = f"tcp-ut {timings['balancer_tcp_timeout_ms']}ms"
        servers = [line for line in section(text, backend) if line.startswith("server ")]
        assert [line.endswith(f" {lost}") for line in servers] == [True, True, True]
    # A check may take the one to connect and the other to be answered.
    for name in ("connect", "check"):
        timeout = f"timeout {name} {timings['balancer_check_timeout_ms']}ms"
        assert timeout in section(text, "defaults")


def test_sessions_end_with_a_pooler_for_writers_and_with_nobody_else() -> None:
    ports = {"rw": 5000, "ro": 5001, "sync": 5002, "direct_rw": 5003, "direct_ro": 5004}
    text = haproxy_config(plan(listeners=ports))
    ending = [name for name in ports if "on-marked-down" in server_options(text, f"backend {name}")]
    assert ending == ["rw"]


@pytest.mark.parametrize(
    ("pooler", "expected"),
    [
        (
            True,
            {
                "rw": ("/pooler/rw", 6432),
                "ro": ("/pooler/ro?lag=100MB", 6433),
                "sync": ("/sync", 6433),
                "direct_rw": ("/primary", 5432),
                "direct_ro": ("/replica?lag=100MB", 5432),
            },
        ),
        (
            False,
            {
                "rw": ("/primary", 5432),
                "ro": ("/replica?lag=100MB", 5432),
                "sync": ("/sync", 5432),
                "direct_rw": ("/primary", 5432),
                "direct_ro": ("/replica?lag=100MB", 5432),
            },
        ),
    ],
)
def test_every_target_asks_its_own_question(
    pooler: bool, expected: dict[str, tuple[str, int]]
) -> None:
    ports = {"rw": 5000, "ro": 5001, "sync": 5002, "direct_rw": 5003, "direct_ro": 5004}
    described = plan(pooler=pooler, listeners=ports)
    text = haproxy_config(described)
    for target, (path, port) in expected.items():
        lines = section(text, f"backend {target}")
        assert f"option httpchk GET {path}" in lines
        assert f"server a 127.0.71.1:{port} tcp-ut 1500ms" in lines
    asked = {(one["backend"], one["path"], one["port"]) for one in haproxy_servers(described)}
    assert asked == {(target, *question) for target, question in expected.items()}


def test_backends_are_there_when_somebody_comes_to_them() -> None:
    text = haproxy_config(plan(acl=[{"listener": "rw", "action": "route", "to": "direct_ro"}]))
    assert section(text, "backend direct_ro")
    # Where its readers go when no standby is fit.
    assert section(text, "backend direct_rw")
    assert "backend sync" not in text


def test_an_address_of_ipv6_is_listened_on_when_the_cluster_has_one() -> None:
    assert "bind [::]:5000 v6only tcp-ut 60s" not in section(haproxy_config(plan()), "frontend rw")
    text = haproxy_config(plan(own=["127.0.0.1", "fd00::5"]))
    assert "bind [::]:5000 v6only tcp-ut 60s" in section(text, "frontend rw")


def test_the_statistics_are_always_to_be_had_on_the_host_itself() -> None:
    text = haproxy_config(plan(bind_addresses=["192.0.2.1"]))
    binds = [line for line in section(text, "frontend statistics") if line.startswith("bind")]
    assert binds == ["bind 192.0.2.1:7000", "bind 127.0.0.1:7000"]
    assert "bind 127.0.0.1:5000 tcp-ut 60s" not in section(text, "frontend rw")


def test_servers_may_be_given_work_slowly() -> None:
    assert "slowstart" not in server_options(haproxy_config(plan()), "backend rw")
    text = haproxy_config(plan(slow_start_seconds=30))
    assert " slowstart 30s" in server_options(text, "backend rw")


@pytest.mark.parametrize(
    ("near", "pooler", "expected"),
    [
        ({"host": "b", "sessions": 20}, True, ["use-server b if { srv_conn(rw/b) lt 20 }"]),
        ({"host": "b", "sessions": 20}, False, []),
        ({"host": "", "sessions": 20}, True, []),
        ({"host": "b", "sessions": 0}, True, []),
    ],
)
def test_the_own_pooler_comes_first_while_it_has_few(
    near: dict[str, Any], pooler: bool, expected: list[str]
) -> None:
    lines = section(haproxy_config(plan(near=near, pooler=pooler)), "backend rw")
    assert [line for line in lines if line.startswith("use-server")] == expected


def test_a_password_of_the_statistics_is_one_word() -> None:
    said = {"port": 7000, "networks": [], "username": "ann", "password": "it's"}
    text = haproxy_config(plan(statistics=said))
    assert section(text, "userlist statistics") == ["user ann insecure-password 'it'\\''s'"]


def test_a_listener_may_be_for_other_networks() -> None:
    more = {"x": {"port": 5100, "to": "ro", "networks": ["10.7.0.0/16"]}}
    lines = section(haproxy_config(plan(more_listeners=more)), "frontend x")
    known = [line for line in lines if line.startswith("acl known")]
    assert known == ["acl known src 10.7.0.0/16", "acl known src 127.0.0.1/32"]


def in_order(rule: dict[str, Any]) -> list[str]:
    """Return what a frontend does to clients by *rule* and after it, without the setting up."""
    lines = section(haproxy_config(plan(acl=[{"listener": "rw", **rule}])), "frontend rw")
    found = [line.split(maxsplit=2)[2] for line in lines if line.startswith("tcp-request con")]
    return [line for line in found if not re.match(r"set-var(-fmt)?\(txn.startup\)", line)]


NAMES = {"databases": ["app"], "users": ["ann"]}
THERE = ["10.1.0.0/16"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"action": "allow"}, ["accept"]),
        ({"action": "allow", "networks": THERE}, ["accept if from_0"]),
        (
            {"action": "allow", **NAMES},
            [
                "accept if database_0 user_0",
                "accept if { var(txn.startup) -m str cancel }",
            ],
        ),
        ({"action": "deny", "networks": THERE}, ["reject if from_0"]),
        (
            {"action": "deny", "networks": THERE, "users": ["ann"]},
            [
                "reject if from_0 user_0",
                "reject if from_0 !{ var(txn.startup) -m found }",
            ],
        ),
        (
            {"action": "route", "to": "ro", "databases": ["app"]},
            ["set-var(txn.route) str(ro) if database_0", "accept if database_0"],
        ),
    ],
)
def test_a_rule_becomes_what_haproxy_does(rule: dict[str, Any], expected: list[str]) -> None:
    assert in_order(rule) == [*expected, "accept if known", "reject"]


def test_names_are_read_once_for_all_rules_and_looked_for_in_the_startup_message() -> None:
    rules = [{"listener": "rw", "databases": ["app"]}, {"listener": "rw", "users": ["ann"]}]
    lines = section(haproxy_config(plan(acl=rules)), "frontend rw")
    assert sum("set-var-fmt(txn.startup)" in line for line in lines) == 1
    pair = b"\0database\0app\0".hex().upper()
    assert f"acl database_0 var(txn.startup) -m sub {pair}" in lines


def test_nobody_is_known_where_no_network_is() -> None:
    lines = section(haproxy_config(plan(guests=[], own=[])), "frontend rw")
    assert [line for line in lines if line.startswith("tcp-request")] == [
        "tcp-request connection reject"
    ]
