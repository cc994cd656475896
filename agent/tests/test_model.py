# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the domain: positions, tags, members, settings, what a view derives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    THEIRS,
    cluster,
    control,
    lease,
    member,
    peer,
    primary,
    standby,
    starting,
    stopped,
    unlocked,
    view,
)
from pgherd.model import Instance, LeaderKey, Member, Process, SyncKey, format_lsn, parse_lsn
from pgherd.quorum import Electing
from pgherd.settings import Settings, Tags
from pgherd.view import View


class TestPositions:
    @pytest.mark.parametrize(
        ("text", "position"),
        [
            ("0/0", 0),
            ("0/4000060", 0x4000060),
            ("16/B374D848", 0x16B374D848),
            ("a/ff", 0xA000000FF),
        ],
    )
    def test_an_lsn_is_read(self, text: str, position: int) -> None:
        assert parse_lsn(text) == position

    @pytest.mark.parametrize("position", [0, 1, 0xFFFFFFFF, 0x100000000, 0x16B374D848])
    def test_a_printed_position_reads_as_itself(self, position: int) -> None:
        assert parse_lsn(format_lsn(position)) == position

    def test_a_position_is_printed_as_postgresql_does(self) -> None:
        assert format_lsn(0x16B374D848) == "16/B374D848"

    @pytest.mark.parametrize("text", ["", "16", "x/y", "16/", "/1"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            parse_lsn(text)


class TestTags:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ({}, Tags()),
            ({"nofailover": True}, Tags(nofailover=True)),
            ({"failover_priority": 0}, Tags(nofailover=True, failover_priority=0)),
            ({"failover_priority": 5}, Tags(failover_priority=5)),
            ({"nofailover": False, "failover_priority": 0}, Tags(failover_priority=0)),
            ({"noloadbalance": True, "clonefrom": True}, Tags(noloadbalance=True, clonefrom=True)),
            ({"datacentre": "a"}, Tags(other={"datacentre": "a"})),
        ],
    )
    def test_they_are_read(self, raw: dict[str, Any], expected: Tags) -> None:
        assert Tags.parse(raw) == expected

    @pytest.mark.parametrize("priority", ["high", None, [1], 1.5])
    def test_a_damaged_priority_counts_as_not_given(self, priority: Any) -> None:
        """What one member wrote must not end the agents of the others."""
        assert Tags.parse({"failover_priority": priority}) == Tags()

    @pytest.mark.parametrize(
        "raw",
        [
            {},
            {"nofailover": True},
            {"failover_priority": 3},
            {"noloadbalance": True, "clonefrom": True, "rack": "r1", "ssd": False},
        ],
    )
    def test_published_tags_read_as_themselves(self, raw: dict[str, Any]) -> None:
        assert Tags.parse(raw).published() == raw

    def test_false_well_known_tags_are_left_out(self) -> None:
        """1.4."""
        raw = {"nofailover": False, "noloadbalance": False, "clonefrom": False, "mine": False}
        assert Tags.parse(raw).published() == {"mine": False}


class TestMember:
    def test_its_address_comes_from_the_connection_url(self) -> None:
        known = member("pg2", conn_url="postgres://192.0.2.2:5433/postgres")
        assert (known.host, known.port) == ("192.0.2.2", 5433)

    def test_one_that_has_published_nothing_has_no_address(self) -> None:
        unknown = Member("pg2")
        assert (unknown.host, unknown.port, unknown.api_url) == ("", 5432, "")
        assert (unknown.state, unknown.is_running) == ("unknown", False)
        assert (unknown.timeline, unknown.position) == (None, None)

    @pytest.mark.parametrize(
        ("data", "position"),
        [
            ({"xlog_location": 5}, 5),
            ({"receive_lsn": "0/10", "replay_lsn": "0/8", "xlog_location": 9}, 16),
            ({"replay_lsn": "0/8"}, 8),
            ({"receive_lsn": 16, "replay_lsn": 8, "xlog_location": 9}, 16),
            ({"receive_lsn": ""}, None),
        ],
    )
    def test_its_position_is_the_furthest_it_published(
        self, data: dict[str, Any], position: int | None
    ) -> None:
        assert Member("pg2", data).position == position

    @pytest.mark.parametrize(
        "data",
        [
            {"timeline": "x", "xlog_location": "y", "receive_lsn": "z", "tags": [1]},
            {"timeline": [], "xlog_location": {}, "receive_lsn": [], "tags": "no"},
        ],
    )
    def test_damaged_values_count_as_not_given(self, data: dict[str, Any]) -> None:
        """What one member wrote must not end the agents of the others."""
        damaged = Member("pg2", data)
        assert (damaged.timeline, damaged.position, damaged.tags) == (None, None, Tags())

    @pytest.mark.parametrize(
        "url", ["postgres://pg2:port/postgres", "postgres://[pg2/postgres", "pg2", ""]
    )
    def test_a_damaged_address_counts_as_not_given(self, url: str) -> None:
        damaged = member("pg2", conn_url=url)
        assert damaged.port == 5432
        assert damaged.host in {"", "pg2"}

    @pytest.mark.parametrize(
        ("data", "settled"),
        [
            ({"role": "primary"}, True),
            ({"role": "master"}, True),
            ({"role": "primary", "checkpoint_after_promote": True}, True),
            ({"role": "primary", "checkpoint_after_promote": False}, False),
            ({"role": "primary", "state": "starting"}, False),
            ({"role": "promoted"}, False),
            ({"role": "replica"}, False),
        ],
    )
    def test_a_settled_primary_runs_and_has_written_its_checkpoint(
        self, data: dict[str, Any], settled: bool
    ) -> None:
        """R26."""
        assert member("pg2", **data).is_settled_primary is settled


class TestSettings:
    def test_defaults_are_patronis(self) -> None:
        """3.1, but for pg_rewind, which is on here."""
        known = Settings.parse({})
        assert known == Settings()
        assert known.maximum_lag_on_failover == 1048576
        assert (known.primary_start_timeout, known.member_slots_ttl) == (300, 1800)
        assert (known.pause, known.check_timeline, known.use_slots) == (False, False, True)

    @pytest.mark.parametrize(
        "raw",
        [
            {"maximum_lag_on_failover": "much", "primary_start_timeout": None, "pause": None},
            {"maximum_lag_on_failover": True, "check_timeline": 1, "postgresql": []},
            {"postgresql": {"parameters": ["x"]}, "member_slots_ttl": {}},
        ],
    )
    def test_a_value_of_the_wrong_type_counts_as_not_given(self, raw: dict[str, Any]) -> None:
        assert Settings.parse(raw) == Settings()

    def test_what_is_given_is_taken(self) -> None:
        raw = {
            "maximum_lag_on_failover": 0,
            "check_timeline": True,
            "primary_start_timeout": 0.5,
            "member_slots_ttl": 0,
            "pause": True,
            "postgresql": {
                "use_pg_rewind": False,
                "use_slots": False,
                "parameters": {"work_mem": "8MB"},
            },
        }
        assert Settings.parse(raw) == Settings(
            maximum_lag_on_failover=0,
            check_timeline=True,
            primary_start_timeout=0.5,
            member_slots_ttl=0,
            pause=True,
            use_pg_rewind=False,
            use_slots=False,
            parameters={"work_mem": "8MB"},
        )


class TestSyncKey:
    @pytest.mark.parametrize(
        ("raw", "voters", "quorum"),
        [
            ({"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1}, {"pg1", "pg3"}, 1),
            ({"leader": "pg2", "sync_standby": "pg1", "quorum": 0}, {"pg1"}, 0),
            ({"leader": "pg2", "sync_standby": None, "quorum": 0}, set(), 0),
            ({"leader": "pg2", "sync_standby": "", "quorum": None}, set(), 0),
            ({"leader": "pg2", "sync_standby": "pg1"}, {"pg1"}, 0),
            ({"leader": "pg2", "sync_standby": ",pg1,,"}, {"pg1"}, 0),
            ({"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": -3}, {"pg1", "pg3"}, 2),
            ({"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": "x"}, {"pg1", "pg3"}, 2),
        ],
    )
    def test_it_is_read(self, raw: dict[str, Any], voters: set[str], quorum: int) -> None:
        key = SyncKey.parse(raw, 9)
        assert key == SyncKey("pg2", Electing(frozenset(voters), quorum), 9)

    @pytest.mark.parametrize("raw", [{}, {"leader": None}, {"leader": ""}, {"quorum": 2}])
    def test_one_that_names_nobody_is_none(self, raw: dict[str, Any]) -> None:
        """Patroni leaves such a key when synchronous mode is switched off."""
        assert SyncKey.parse(raw, 9) is None

    @pytest.mark.parametrize(
        "key",
        [
            SyncKey("pg1", Electing(frozenset({"pg2", "pg3"}), 1)),
            SyncKey("pg1"),
            SyncKey("pg1", Electing(frozenset({"pg2"}), 0), isolated=True),
        ],
    )
    def test_published_it_reads_as_itself(self, key: SyncKey) -> None:
        assert SyncKey.parse(key.published(), 0) == key

    def test_it_is_published_as_patroni_does(self) -> None:
        key = SyncKey("pg1", Electing(frozenset({"pg3", "pg2"}), 1), 9)
        assert key.published() == {"leader": "pg1", "sync_standby": "pg2,pg3", "quorum": 1}
        assert SyncKey("pg1").published() == {"leader": "pg1", "sync_standby": None, "quorum": 0}

    def test_the_electorate_has_the_leader_in_it(self) -> None:
        key = SyncKey("pg1", Electing(frozenset({"pg2"}), 0))
        assert key.electorate == {"pg1", "pg2"}


class TestInstance:
    @pytest.mark.parametrize(
        ("instance", "expected"),
        [
            (Instance(), (False, False, False)),
            (stopped("in production"), (False, False, False)),
            (starting(), (False, False, False)),
            (starting(in_recovery=None), (False, False, True)),
            (primary(), (True, False, True)),
            (standby(), (False, True, False)),
        ],
    )
    def test_whether_it_is_a_primary_a_standby_or_may_write(
        self, instance: Instance, expected: tuple[bool, bool, bool]
    ) -> None:
        assert (instance.is_primary, instance.is_standby, instance.may_write) == expected

    def test_its_position_is_the_furthest_it_knows(self) -> None:
        assert primary(location=7).position == 7
        assert standby(received=9, replayed=8).position == 9
        assert standby(received=None, replayed=8).position == 8
        assert Instance().position == 0

    @pytest.mark.parametrize(
        ("instance", "owes"),
        [
            (primary(timeline=2, checkpoint_timeline=1), True),
            (primary(timeline=2, checkpoint_timeline=2), False),
            (standby(timeline=2, checkpoint_timeline=1), False),
        ],
    )
    def test_a_new_primary_owes_a_checkpoint(self, instance: Instance, owes: bool) -> None:
        """R5."""
        assert instance.owes_checkpoint is owes

    @pytest.mark.parametrize(
        ("state", "was_primary", "cleanly"),
        [
            ("in production", True, False),
            ("shutting down", True, False),
            ("shut down", True, True),
            ("in crash recovery", True, False),
            ("shut down in recovery", False, True),
            ("in archive recovery", False, False),
            ("starting up", False, False),
        ],
    )
    def test_the_control_file_says_what_it_was(
        self, state: str, was_primary: bool, cleanly: bool
    ) -> None:
        """R21."""
        known = control(state)
        assert (known.was_primary, known.was_stopped_cleanly) == (was_primary, cleanly)


class TestView:
    def test_a_view_without_etcd_knows_no_leader_and_no_freedom(self) -> None:
        blind = View(now=NOW, me=ME, tags=Tags(), instance=Instance(process=Process.STOPPED))
        assert (blind.leader, blind.other_leader, blind.is_unlocked) == (None, None, False)
        assert (blind.has_lease, blind.holds_key, blind.can_lead) == (False, False, False)
        assert blind.settings == Settings()

    def test_the_key_is_held_through_the_lease_not_through_the_name(self) -> None:
        assert view(cluster=cluster(ME)).holds_key
        other = replace(cluster(ME), leader=LeaderKey(ME, THEIRS, 5))
        assert not view(cluster=other).holds_key
        assert not view(cluster=cluster(ME), lease=lease(0)).holds_key

    def test_a_lease_ends_at_its_deadline(self) -> None:
        assert view(lease=lease(0.001)).has_lease
        assert not view(lease=lease(0)).has_lease

    @pytest.mark.parametrize(
        ("changes", "can"),
        [
            ({}, True),
            ({"store_answers": False}, False),
            ({"lease": None}, False),
            ({"tags": Tags(nofailover=True)}, False),
        ],
    )
    def test_peers_may_count_on_one_with_etcd_and_a_lease(
        self, changes: dict[str, Any], can: bool
    ) -> None:
        assert unlocked(**changes).can_lead is can

    @pytest.mark.parametrize(
        ("known", "until", "leads"),
        [
            (cluster(ME), NOW + 1, True),
            (cluster(None), NOW + 1, True),
            (cluster("pg2"), NOW + 1, False),
            (cluster(ME), NOW, False),
            (None, 0.0, False),
        ],
    )
    def test_who_leads_by_promise_leads_while_nobody_else_does(
        self, known: Any, until: float, *, leads: bool
    ) -> None:
        seen = view(primary(), cluster=known, failsafe_until=until)
        assert seen.leads_by_promise is leads

    def test_a_leader_is_never_its_own_other(self) -> None:
        assert view(cluster=cluster(ME)).other_leader is None
        assert view(cluster=cluster("pg2")).other_leader == cluster().members["pg2"]

    def test_a_leader_that_has_not_published_itself_is_known_by_name(self) -> None:
        unknown = replace(cluster("pg2"), members={})
        assert view(cluster=unknown).other_leader == Member("pg2")


@pytest.mark.parametrize(
    ("role", "is_primary"), [("primary", True), ("master", True), ("replica", False), ("", False)]
)
def test_patronis_old_name_of_a_primary_is_known(role: str, is_primary: bool) -> None:
    assert peer(role=role).is_primary is is_primary
