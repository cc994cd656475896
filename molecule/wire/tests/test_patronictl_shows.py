# SPDX-License-Identifier: GPL-3.0-or-later
"""patronictl: what it shows of the cluster."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml

from lab import LabError
from lab.cluster import CLUSTER_NAME, MEMBERS
from lab.patroni_tools import PATRONI_VERSION
from lab.store import Store

if TYPE_CHECKING:
    from lab import Lab
    from lab.cluster import Cluster
    from lab.patroni_tools import Tools

pytestmark = pytest.mark.timeout(120)


def test_list_names_everybody_with_role_state_and_positions(
    tools: Tools, lab: Lab, leader: str, standbys: tuple[str, ...]
) -> None:
    rows = tools.listed()
    assert set(rows) == set(MEMBERS)
    assert (rows[leader]["Role"], rows[leader]["State"]) == ("Leader", "running")
    for name in standbys:
        row = rows[name]
        assert (row["Role"], row["State"]) == ("Quorum Standby", "streaming")
        assert row["TL"] == rows[leader]["TL"]
        for kind in ("Receive", "Replay"):
            assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", row[f"{kind} LSN"])
            assert row[f"{kind} Lag"] == 0
    assert {name: row["Host"] for name, row in rows.items()} == {
        name: lab.settings.address(name) for name in MEMBERS
    }


def test_list_prints_a_table_under_the_system_identifier(
    tools: Tools, cluster: Cluster, leader: str
) -> None:
    sql = "SELECT system_identifier FROM pg_control_system()"
    identifier = cluster.query(leader, sql)[0][0]
    table = tools.patronictl("list", CLUSTER_NAME)
    assert table.startswith(f"+ Cluster: {CLUSTER_NAME} ({identifier}) ")
    assert re.search(rf"^\| {leader} +\| [0-9.]+ +\| Leader +\| running +\| ", table, re.MULTILINE)
    for word in ("Pending restart", "Scheduled restart", "Maintenance mode", "unknown"):
        assert word not in table
    assert "Pending restart reason" in tools.patronictl("list", "--extended")


def test_list_in_other_forms(tools: Tools) -> None:
    rows = csv.DictReader(io.StringIO(tools.patronictl("list", "-f", "tsv")), delimiter="\t")
    assert {row["Member"] for row in rows} == set(MEMBERS)
    rows_of_yaml = yaml.safe_load(tools.patronictl("list", "-f", "yaml"))
    assert {row["Member"] for row in rows_of_yaml} == set(MEMBERS)


def test_topology_hangs_the_standbys_under_the_leader(
    tools: Tools, leader: str, standbys: tuple[str, ...]
) -> None:
    tree = tools.patronictl("topology", CLUSTER_NAME)
    assert re.findall(r"^\| (\+? ?\w+)", tree, re.MULTILINE)[1:] == [
        leader,
        *(f"+ {name}" for name in sorted(standbys)),
    ]


def test_dsn_finds_the_leader_a_role_or_a_member(
    tools: Tools, lab: Lab, leader: str, standbys: tuple[str, ...]
) -> None:
    def dsn(name: str) -> str:
        return f"host={lab.settings.address(name)} port=5432\n"

    assert tools.patronictl("dsn", CLUSTER_NAME) == dsn(leader)
    assert tools.patronictl("dsn", "--role", "primary") == dsn(leader)
    assert tools.patronictl("dsn", "--role", "replica") in {dsn(name) for name in standbys}
    for name in MEMBERS:
        assert tools.patronictl("dsn", "--member", name) == dsn(name)
    for words in (("--role", "standby-leader"), ("--member", "nobody")):
        with pytest.raises(LabError, match="Can not find a suitable member"):
            tools.patronictl("dsn", *words)


def test_query_reaches_who_is_asked_for(
    tools: Tools, lab: Lab, leader: str, standbys: tuple[str, ...]
) -> None:
    sql = "SELECT host(inet_server_addr()) AS address, pg_is_in_recovery() AS standby"

    def ask(*words: str) -> tuple[str, bool]:
        text = tools.patronictl("query", "--format", "json", "-d", "postgres", *words, "-c", sql)
        (row,) = json.loads(text)
        return row["address"], row["standby"]

    assert ask() == (lab.settings.address(leader), False)
    assert ask("--role", "primary") == (lab.settings.address(leader), False)
    replica, standby = ask("--role", "replica")
    assert replica in {lab.settings.address(name) for name in standbys}
    assert standby
    for name in MEMBERS:
        assert ask("--member", name) == (lab.settings.address(name), name != leader)


def test_version_of_every_member(tools: Tools) -> None:
    lines = tools.patronictl("version", CLUSTER_NAME).splitlines()
    assert lines[0] == f"patronictl version {PATRONI_VERSION}"
    pattern = rf"(\w+): Patroni {re.escape(PATRONI_VERSION)} PostgreSQL \d+\.\d+"
    found = [match[1] for line in lines[1:] if (match := re.fullmatch(pattern, line))]
    assert found == list(MEMBERS)


def test_show_config_shows_what_is_stored(tools: Tools, lab: Lab) -> None:
    assert yaml.safe_load(tools.patronictl("show-config")) == Store(lab).config()
