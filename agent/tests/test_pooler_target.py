# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pooler for writes has to point, and when clients should not come to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.tests.builders import ME, NOW, cluster, config, member, primary, standby, view
from pgherd.model import LeaderKey, Remote
from pgherd.pooler_target import PoolerState, Target, by_socket, find_target, obstacle, render

OWN = config().postgres
PG1 = Target("pg1", "127.0.0.1", 5432)
PG2 = Target("pg2", "pg2", 5432)
PG3 = Target("pg3", "pg3", 5432)
GOOD = PoolerState(is_up=True, target=PG2, leader=PG2, since=NOW, heard_at=NOW)


class TestTheTarget:
    def test_it_is_the_leader(self) -> None:
        assert find_target(view(), OWN) == PG2

    def test_it_is_this_member_when_it_leads(self) -> None:
        assert find_target(view(primary(), cluster=cluster(ME)), OWN) == PG1

    def test_nobody_leads(self) -> None:
        assert find_target(view(cluster=cluster(None)), OWN) is None

    @pytest.mark.parametrize(
        "said", [{"role": "replica"}, {"role": "promoted"}, {"state": "starting"}]
    )
    def test_an_heir_that_is_not_promoted_yet_takes_no_writes(self, said: dict[str, str]) -> None:
        known = member("pg2", **{"role": "primary", **said})
        assert find_target(view(cluster=cluster(members=[known])), OWN) is None

    def test_nor_does_this_member_then(self) -> None:
        assert find_target(view(standby(), cluster=cluster(ME)), OWN) is None

    def test_nor_once_its_lease_has_ended(self) -> None:
        seen = view(primary(), cluster=cluster(ME))
        assert find_target(replace(seen, lease=None), OWN) is None

    def test_one_that_has_not_published_itself_has_no_address(self) -> None:
        known = cluster(None)
        seen = view(cluster=replace(known, leader=LeaderKey("pg9", 1, 5)))
        assert find_target(seen, OWN) is None

    def test_an_address_is_one(self) -> None:
        evil = member("pg2", role="primary", conn_url="postgres://a%20b;c:5432/postgres")
        assert find_target(view(cluster=cluster(members=[evil])), OWN) is None

    def test_what_was_read_before_etcd_fell_silent_does_not_count(self) -> None:
        assert find_target(view(store_answers=False), OWN) is None

    def test_in_failsafe_mode_it_is_who_was_promised(self) -> None:
        promised = member("pg3", role="primary")
        seen = view(store_answers=False, promised=promised)
        assert find_target(seen, OWN) == PG3

    def test_and_this_member_if_it_has_the_promises(self) -> None:
        seen = view(primary(), cluster=cluster(ME), store_answers=False, failsafe_until=NOW + 1)
        assert find_target(seen, OWN) == PG1

    @pytest.mark.parametrize(
        ("leader", "expected"), [("pg2", PG2), (ME, PG1)], ids=["another", "this member"]
    )
    def test_in_a_standby_cluster_it_is_their_leader(self, leader: str, expected: Target) -> None:
        led = member("pg2", role="standby_leader")
        settings = {"standby_cluster": {"host": "192.0.2.9"}}
        seen = view(standby(), cluster=cluster(leader, members=[led], config=settings))
        assert isinstance(seen.remote, Remote)
        assert find_target(seen, OWN) == expected


class TestTheObstacle:
    def test_none(self) -> None:
        assert obstacle(GOOD, NOW, 5) == ""

    def test_pgbouncer_is_away(self) -> None:
        assert obstacle(replace(GOOD, is_up=False), NOW, 5) == "PgBouncer does not answer"

    def test_nothing_is_known_yet(self) -> None:
        assert obstacle(replace(GOOD, target=None), NOW, 5) == "no leader has been seen yet"

    def test_a_new_leader_is_followed_within_a_moment(self) -> None:
        state = replace(GOOD, leader=PG3)
        assert obstacle(state, NOW + 0.9, 5) == ""
        reason = "it still points at pg2 (pg2:5432), and pg3 (pg3:5432) leads"
        assert obstacle(state, NOW + 1.1, 5) == reason
        assert obstacle(replace(state, problem="disk full"), NOW + 1.1, 5) == "disk full"

    def test_etcd_may_be_silent_for_a_lease(self) -> None:
        assert obstacle(GOOD, NOW + 5, 5) == ""
        assert "etcd is silent" in obstacle(GOOD, NOW + 5.1, 5)


def test_the_file_s_lines() -> None:
    text = render(PG2, {"*": "", "app": "pool_size=5"})
    assert text.splitlines()[1:] == [
        "[databases]",
        "* = host=pg2 port=5432",
        "app = host=pg2 port=5432 pool_size=5",
    ]


def test_the_own_server_is_reached_by_its_socket() -> None:
    own = replace(OWN, socket_directory=Path("/run/sockets"), port=5433, connect_port=6000)
    text = render(by_socket(PG1, own), {"*": ""})
    assert text.splitlines()[2:] == ["* = host=/run/sockets port=5433"]
