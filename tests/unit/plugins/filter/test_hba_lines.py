# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of pg_hba.conf from data."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.hba_lines import (
    cluster_hba,
    complete_hba,
    hba_lines,
    pooler_hba,
)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ({"address": "10.0.0.0/8"}, "host all all 10.0.0.0/8 scram-sha-256"),
        ({"address": "10.0.0.1"}, "host all all 10.0.0.1/32 scram-sha-256"),
        ({"address": "fd00::1"}, "host all all fd00::1/128 scram-sha-256"),
        ({"address": "samenet"}, "host all all samenet scram-sha-256"),
        ({"address": ".example.org"}, "host all all .example.org scram-sha-256"),
        (
            {"type": "local", "user": "postgres", "method": "peer"},
            "local all postgres peer",
        ),
        (
            {"database": ["app", "my db"], "user": "+staff", "address": "all", "method": "reject"},
            'host app,"my db" +staff all reject',
        ),
        (
            {"type": "hostssl", "address": "all", "method": "cert", "options": {"map": "m"}},
            'hostssl all all all cert map="m"',
        ),
    ],
)
def test_rule_becomes_a_line(rule: dict[str, Any], line: str) -> None:
    assert hba_lines([rule]) == [line]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"adress": "all"}, "postgresql_hba[0]: there is no key adress (did you mean address?)"),
        ({"type": "hots", "address": "all"}, "postgresql_hba[0].type: 'hots' is none of local"),
        ({"address": "all", "method": "scram"}, "postgresql_hba[0].method: 'scram' is none of"),
        ({}, "a rule of type host needs an address"),
        ({"type": "local", "address": "all"}, "a rule of type local takes no address"),
        ({"address": "10.0.0.1/8"}, "10.0.0.1/8 has host bits set"),
        ({"address": "all", "user": []}, "postgresql_hba[0].user: [] is neither a name nor a"),
    ],
)
def test_bad_rule_is_refused_with_its_place(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        hba_lines([rule])
    assert message in str(caught.value)


def test_the_cluster_comes_first_and_clients_last() -> None:
    lines = cluster_hba([{"address": "all", "method": "reject"}], ["10.0.0.1"], ["10.9.0.0/16"])
    assert lines == [
        "local all postgres peer",
        "local replication postgres peer",
        "local all all scram-sha-256",
        "host all all 127.0.0.1/32 scram-sha-256",
        "host all all ::1/128 scram-sha-256",
        "host replication all 10.0.0.1/32 scram-sha-256",
        "host all all 10.0.0.1/32 scram-sha-256",
        "host all all all reject",
        "host all all 10.9.0.0/16 scram-sha-256",
    ]


def test_a_network_that_is_no_list_is_told_how_to_become_one() -> None:
    networks: Any = "10.9.0.0/16"
    with pytest.raises(AnsibleFilterError, match=r"write \[10\.9\.0\.0/16\]"):
        cluster_hba([], [], networks)


def test_a_bad_client_network_is_named() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        cluster_hba([], [], ["10.9.0.1/16"])
    assert "cluster_client_networks[0].address" in str(caught.value)


def test_a_line_is_taken_as_it_is() -> None:
    assert hba_lines(["host  all all all md5"]) == ["host  all all all md5"]
    with pytest.raises(AnsibleFilterError, match="is not one line"):
        hba_lines(["local all all peer\nhost all all all trust"])


def test_complete_rules_get_what_the_agents_need_before_them_and_nothing_after() -> None:
    assert complete_hba(["local all all peer"], ["10.0.0.1"], "standby", "rewinder") == [
        "local all postgres peer",
        "host replication standby 10.0.0.1/32 md5",
        "host postgres rewinder 10.0.0.1/32 md5",
        "local all all peer",
    ]


def test_poolers_of_a_taken_over_cluster_come_in_after_its_own_rules() -> None:
    lines = complete_hba(["host all all 10.0.0.1/32 reject"], [], "r", "w", ["10.0.0.1"])
    assert lines == [
        "local all postgres peer",
        "host all all 10.0.0.1/32 reject",
        "local all all scram-sha-256",
        "host all all 10.0.0.1/32 scram-sha-256",
    ]


def test_the_poolers_own_rules_hide_what_is_theirs_and_let_balancers_in_first() -> None:
    rules: list[dict[str, Any] | str] = [{"user": "legacy", "address": "all", "method": "md5"}]
    assert pooler_hba(rules, ["10.0.0.1"], ["192.0.2.0/24"], "auth", "lookup") == [
        "local all auth reject",
        "host all auth 0.0.0.0/0 reject",
        "host all auth ::/0 reject",
        "local lookup all reject",
        "host lookup all 0.0.0.0/0 reject",
        "host lookup all ::/0 reject",
        "local all all scram-sha-256",
        "host all all 127.0.0.1/32 scram-sha-256",
        "host all all ::1/128 scram-sha-256",
        "host all all 10.0.0.1/32 scram-sha-256",
        "host all legacy all md5",
        "host all all 192.0.2.0/24 scram-sha-256",
    ]
    assert not [line for line in pooler_hba([], [], [], "auth") if "lookup" in line]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("host all all all trust", ["pgbouncer_hba[0]", "mapping"]),
        ({"address": "all", "method": "ldap"}, ["pgbouncer_hba[0].method", "'ldap'"]),
        ({"address": "all", "type": "hostgssenc"}, ["pgbouncer_hba[0].type", "'hostgssenc'"]),
        ({"address": "samenet"}, ["pgbouncer_hba[0].address", "samenet"]),
        ({"adress": "all"}, ["pgbouncer_hba[0]", "address"]),
    ],
)
def test_rules_that_pgbouncer_does_not_know_are_refused(rule: Any, words: list[str]) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        pooler_hba([rule], [], [], "auth")
    for word in words:
        assert word in str(caught.value)
