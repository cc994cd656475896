# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's clients count on the way in: stalls, lost connections, pgbench's figures."""

from __future__ import annotations

import pytest

from lab.client import Client, Commit, longest_between
from lab.pgbench import Load, environment, parse
from lab.planned import Handover, render
from lab.processes import DROP_IN
from lab.settings import Settings
from lab.wire import Target

SUMMARY = """\
transaction type: <builtin: TPC-B (sort of)>
number of transactions actually processed: 3
number of failed transactions: 1 (25.000%)
tps = 617.5 (without initial connection time)
"""
LOG = """\
0 1 1500 0 1700000000 900000
1 1 1600 0 1700000000 250000
0 2 failed 0 1700000002 0
0 3 1600 0 1700000002 500000
"""


def test_a_stall_is_the_longest_time_between_commits_that_touches_the_span() -> None:
    times = [0.0, 5.0, 5.1, 6.0, 6.1, 9.0]
    assert longest_between(times, 5.05, 6.05) == pytest.approx(0.9)
    assert longest_between(times, 5.5, 5.6) == pytest.approx(0.9)
    assert longest_between(times, float("-inf"), float("inf")) == 5.0
    assert longest_between([1.0], 0.0, 2.0) == 0.0


def test_a_client_knows_its_own_stall() -> None:
    client = Client(Target("127.0.0.1", "u", "p"), 1.0)
    client.commits = [Commit(n, at, "a", "b") for n, at in enumerate((1.0, 1.2, 3.2), start=1)]
    assert client.longest() == pytest.approx(2.0)
    assert client.longest(until=1.1) == pytest.approx(0.2)


def test_a_report_of_pgbench_is_read_with_every_commit_by_time() -> None:
    report = parse(SUMMARY, "", LOG)
    assert (report.processed, report.failed, report.tps, report.errors) == (3, 1, 617.5, ())
    assert report.completed == (1700000000.25, 1700000000.9, 1700000002.5)
    assert report.longest(1700000001.0, 1700000001.1) == pytest.approx(1.6)


def test_a_client_that_pgbench_gave_up_is_an_error_and_so_is_no_summary() -> None:
    lost = "pgbench: error: client 3 aborted in command 4 (SQL) of script 0; the server is gone"
    assert parse(SUMMARY, f"scale option ignored\n{lost}\n", "").errors == (lost,)
    assert parse("", "", "").errors == ("pgbench: no summary",)


def test_pgbench_gets_its_password_by_the_environment() -> None:
    found = environment(Target("10.0.0.1", "someone", "secret", "shop", 5000))
    wanted = {"PGHOST": "10.0.0.1", "PGPORT": "5000", "PGUSER": "someone", "PGPASSWORD": "secret"}
    assert {name: found[name] for name in wanted} == wanted


def test_the_table_ends_with_median_and_worst() -> None:
    load = Load(8, "simple")
    costs = [Handover(load, "pg1", "pg2", stall, stall / 2, 1.0) for stall in (0.2, 0.9, 0.3)]
    lines = render(costs).splitlines()
    assert lines[1].split() == [
        "1",
        "8",
        "simple",
        "pg1",
        "to",
        "pg2",
        "0.20",
        "s",
        "0.10",
        "s",
        "1.00",
        "s",
    ]
    assert lines[-2].split() == ["median", "0.30", "s", "0.15", "s", "1.00", "s"]
    assert lines[-1].split() == ["worst", "0.90", "s", "0.45", "s", "1.00", "s"]


def test_the_address_that_moves_is_none_of_the_hosts() -> None:
    settings = Settings(subnet="10.1.2.0/24")
    assert settings.vip == "10.1.2.100"
    assert settings.vip not in {settings.address(name) for name in ("pg1", "pg2", "pg3", "ops1")}


def test_what_keeps_a_service_dead_comes_after_a_role_s_drop_in() -> None:
    """systemd sorts drop-ins of all directories by name, and the last one wins."""
    assert DROP_IN.rpartition("/")[2] > "pgherd.conf"
