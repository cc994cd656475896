# SPDX-License-Identifier: GPL-3.0-or-later
"""What a member says about itself: Patroni's keys, there only when they mean something."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    SYSTEM_ID,
    cluster,
    config,
    member,
    primary,
    raw_config,
    standby,
    starting,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.config import build
from pgherd.decide import decide
from pgherd.model import Instance
from pgherd.published import cluster_body, member_key, patroni_body, role, state
from pgherd.settings import Tags

if TYPE_CHECKING:
    from pgherd.view import View

CONFIG = config()
STARTED = {"started": "2026-01-01 00:00:00.5+00", "config_revision": 0}
PENDING = {"max_connections": {"old_value": "100", "new_value": "200"}}


def body(seen: View, **sections: Any) -> dict[str, Any]:
    """Return the body of GET /patroni for *seen*."""
    return patroni_body(config(**sections), seen, seen.instance, decide(seen), 1692356718)


class TestWords:
    @pytest.mark.parametrize(
        ("instance", "operation", "word"),
        [
            (primary(), None, "running"),
            (standby(), "clone", "running"),
            (starting(), None, "starting"),
            (Instance(), "bootstrap", "initializing new cluster"),
            (primary(), "bootstrap", "initializing new cluster"),
            (Instance(), "clone", "creating replica"),
            (stopped(), "rejoin", "creating replica"),
            (primary(), "stop", "stopping"),
            (stopped("shut down"), None, "stopped"),
            (stopped("shut down in recovery"), None, "stopped"),
            (stopped("in production"), None, "crashed"),
            (Instance(), None, "stopped"),
        ],
    )
    def test_the_state_is_one_of_patronis(
        self, instance: Instance, operation: str | None, word: str
    ) -> None:
        """1.4."""
        assert state(instance, operation) == word

    @pytest.mark.parametrize(
        ("instance", "holds_key", "word"),
        [
            (primary(), True, "primary"),
            (primary(), False, "primary"),
            (standby(), False, "replica"),
            (standby(), True, "promoted"),
            (stopped(), False, "replica"),
            (Instance(), False, "uninitialized"),
        ],
    )
    def test_the_role_is_one_of_patronis(
        self, instance: Instance, holds_key: bool, word: str
    ) -> None:
        """1.4."""
        assert role(view(cluster=cluster(ME if holds_key else "pg2")), instance) == word


class TestTheMemberKey:
    def test_of_a_primary(self) -> None:
        assert member_key(CONFIG, view(primary(), cluster=cluster(ME))) == {
            "conn_url": "postgres://127.0.0.1:5432/postgres",
            "api_url": "http://127.0.0.1:8008/patroni",
            "state": "running",
            "role": "primary",
            "version": "4.1.5",
            "timeline": 1,
            "xlog_location": 0x3000,
            "pgherd": STARTED,
        }

    def test_of_a_standby(self) -> None:
        published = member_key(CONFIG, view(standby(received=0x3000, replayed=0x2000)))
        assert published["role"] == "replica"
        assert published["replication_state"] == "streaming"
        # Numbers: patronictl shows `unknown` for text.
        assert (published["receive_lsn"], published["replay_lsn"]) == (0x3000, 0x2000)

    def test_an_address_for_clients_is_told_as_patroni_does(self) -> None:
        raw = raw_config()
        raw["postgresql"]["proxy_address"] = "192.0.2.9:6432"
        published = member_key(build(raw), view())
        assert published["proxy_url"] == "postgres://192.0.2.9:6432/postgres"

    def test_of_a_standby_that_does_not_stream(self) -> None:
        published = member_key(CONFIG, view(standby(receiver_status=None)))
        assert published["replication_state"] == "in archive recovery"

    @pytest.mark.parametrize("instance", [stopped(), starting(), Instance()])
    def test_without_a_running_instance_no_position_is_claimed(self, instance: Instance) -> None:
        published = member_key(CONFIG, view(instance))
        assert not {"timeline", "xlog_location", "receive_lsn", "replay_lsn"} & set(published)

    def test_until_the_checkpoint_after_a_promotion_is_written(self) -> None:
        """R5: only false is ever published."""
        young = primary(timeline=2, checkpoint_timeline=1)
        assert member_key(CONFIG, view(young))["checkpoint_after_promote"] is False
        assert "checkpoint_after_promote" not in member_key(CONFIG, view(primary()))

    def test_tags_and_pending_restarts_are_there_when_there_are_any(self) -> None:
        tagged = config(tags={"nofailover": True, "noloadbalance": False})
        published = member_key(tagged, view(primary(pending_restart=PENDING)))
        assert published["tags"] == {"nofailover": True}
        assert (published["pending_restart"], published["pending_restart_reason"]) == (
            True,
            PENDING,
        )

    def test_ours_is_there_only_when_there_is_something_to_say(self) -> None:
        assert "pgherd" not in member_key(CONFIG, view(stopped()))
        assert member_key(CONFIG, view(tags=Tags(nofailover=True)))["pgherd"] == STARTED

    @pytest.mark.parametrize(
        "changes", [{"instance": standby(disk="it is full")}, {"watchdog_missing": True}]
    )
    def test_one_that_is_unfit_says_so_and_is_not_counted_on(self, changes: dict[str, Any]) -> None:
        published = member_key(CONFIG, view(**changes))
        assert published["pgherd"] == {"unfit": True, **STARTED}
        assert not member("pg1", **published).could_lead
        assert member("pg1", **member_key(CONFIG, view())).could_lead

    def test_the_answer_to_a_leader_names_the_question(self) -> None:
        asked = synchronous("pg2", sync_key(isolated=True, revision=42))
        published = member_key(CONFIG, view(cluster=asked, reach=frozenset({"pg3", "pg2"})))
        assert published["pgherd"] == {"reach": ["pg2", "pg3"], "asked": 42, **STARTED}

    def test_that_nobody_is_reached_is_an_answer_too(self) -> None:
        asked = synchronous("pg2", sync_key(isolated=True))
        published = member_key(CONFIG, view(cluster=asked, reach=frozenset()))
        assert published["pgherd"] == {"reach": [], "asked": 8, **STARTED}

    def test_whom_it_streams_from_is_told_while_it_does(self) -> None:
        streams = member_key(CONFIG, view(standby(sender="pg2:5432")))
        assert streams["pgherd"] == {"upstream": "pg2:5432", **STARTED}
        waits = view(standby(sender="pg2:5432", receiver_status="waiting"))
        assert "upstream" not in member_key(CONFIG, waits)["pgherd"]

    def test_what_is_published_reads_as_what_was_meant(self) -> None:
        instance = standby(timeline=3, received=0x5000, replayed=0x4000)
        read = member("pg1", **member_key(CONFIG, view(instance)))
        assert (read.timeline, read.position, read.port) == (3, 0x5000, 5432)
        assert read.is_running


class TestPatroni:
    """1.4: GET /patroni and the body of every health check."""

    def test_of_a_primary(self) -> None:
        connected = {"usename": "replicator", "application_name": "pg2", "state": "streaming"}
        seen = view(primary(replication=(connected,)), cluster=cluster(ME))
        told = body(seen)
        assert told.pop("pgherd")["rule"] == "lead"
        assert told == {
            "state": "running",
            "role": "primary",
            "postmaster_start_time": "2026-01-01 00:00:00.5+00",
            "server_version": 150012,
            "timeline": 1,
            "xlog": {"location": 0x3000},
            "replication": [connected],
            "dcs_last_seen": 1692356718,
            "database_system_identifier": SYSTEM_ID,
            "patroni": {"version": "4.1.5", "scope": "demo", "name": "pg1"},
        }

    def test_of_a_standby(self) -> None:
        told = body(view(standby(replayed_at="2026-01-01 00:00:00+00", replay_paused=True)))
        assert told["role"] == "replica"
        assert told["replication_state"] == "streaming"
        assert told["xlog"] == {
            "received_location": 0x3000,
            "replayed_location": 0x3000,
            "replayed_timestamp": "2026-01-01 00:00:00+00",
            "paused": True,
        }
        assert "replication" not in told

    @pytest.mark.parametrize("instance", [stopped(), starting(), Instance()])
    def test_without_a_running_instance_only_state_and_role_are_told(
        self, instance: Instance
    ) -> None:
        told = body(view(instance))
        absent = {"timeline", "xlog", "server_version", "postmaster_start_time", "replication"}
        assert {"state", "role"} <= set(told)
        assert not absent & set(told)

    def test_flags_are_there_only_when_true(self) -> None:
        flags = {"cluster_unlocked", "pause", "pending_restart", "tags", "pending_restart_reason"}
        assert not flags & set(body(view()))
        paused = unlocked(
            standby(pending_restart=PENDING), cluster=cluster(None, config={"pause": True})
        )
        told = body(paused, tags={"clonefrom": True})
        assert [told[flag] for flag in sorted(flags)] == [True, True, True, PENDING,
                                                          {"clonefrom": True}]  # fmt: skip

    def test_before_etcd_has_answered_nothing_is_said_of_the_lock(self) -> None:
        assert "cluster_unlocked" not in body(view(cluster=None))

    def test_ours_stands_under_a_key_of_its_own(self) -> None:
        told = body(replace(view(), operation="clone"))["pgherd"]
        assert told["rule"] == "busy"
        assert told["why"] == decide(view(operation="clone")).rule.why
        assert (told["operation"], told["can_lead"]) == ("clone", True)
        assert not body(view(tags=Tags(nofailover=True)))["pgherd"]["can_lead"]

    @pytest.mark.parametrize(
        ("mode", "voters", "key"),
        [
            ("on", "pg1,pg3", "sync_standby"),
            ("quorum", "pg1,pg3", "quorum_standby"),
            ("quorum", "pg3", None),
        ],
    )
    def test_a_standby_that_acknowledges_says_so(
        self, mode: str, voters: str, key: str | None
    ) -> None:
        known = synchronous("pg2", sync_key("pg2", voters, 0), synchronous_mode=mode)
        told = body(view(cluster=known))
        assert {each for each in told if each.endswith("_standby")} == ({key} if key else set())
        leading = view(primary(), cluster=synchronous(ME, sync_key(ME, "pg1"), **{}))
        assert not {each for each in body(leading) if each.endswith("_standby")}

    def test_of_those_who_stream_from_it_only_what_patroni_tells_is_told(self) -> None:
        stranger = {"application_name": "pg2", "state": "streaming", "pid": 7, "flush": 5}
        seen = view(primary(replication=(stranger,)), cluster=cluster(ME))
        assert body(seen)["replication"] == [{"application_name": "pg2", "state": "streaming"}]

    def test_a_leader_by_promise_says_so_while_etcd_is_silent(self) -> None:
        promised = view(primary(), cluster=cluster(ME), failsafe_until=NOW + 1)
        assert "failsafe_mode_is_active" not in body(promised)
        assert body(replace(promised, store_answers=False))["failsafe_mode_is_active"] is True

    def test_a_missing_watchdog_is_told(self) -> None:
        assert body(view(watchdog_missing=True))["watchdog_failed"] is True
        assert "watchdog_failed" not in body(view())

    def test_ours_tells_the_disk_the_guard_and_the_promise(self) -> None:
        told = body(view(guarded=False, promised_to="pg2"))["pgherd"]
        assert (told["disk"], told["guarded"], told["promised_to"]) == ("well", False, "pg2")
        assert body(view(standby(disk="it is full")))["pgherd"]["disk"] == "it is full"

    def test_before_the_first_decision_there_is_no_rule(self) -> None:
        seen = view()
        told = patroni_body(CONFIG, seen, seen.instance, None, 0)["pgherd"]
        assert (told["rule"], told["why"]) == (None, None)

    def test_the_version_is_three_integers(self) -> None:
        """6.1: check_patroni parses it so."""
        parts = body(view())["patroni"]["version"].split(".", 2)
        assert [int(part) for part in parts] == [4, 1, 5]


def rows(**members: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of GET /cluster by name, for the members given and leader pg2."""
    changed = [member(name, **data) for name, data in members.items()]
    told = cluster_body(cluster(members=changed, optime=0x3000), "demo")
    return {row["name"]: row for row in told["members"]}


class TestCluster:
    """1.5: GET /cluster."""

    def test_whom_a_member_streams_from_is_told_by_name(self) -> None:
        told = rows(pg1={"pgherd": {"upstream": "pg3:5432"}}, pg3={"pgherd": {"upstream": "far:1"}})
        assert told["pg1"]["pgherd"] == {"upstream": "pg3"}
        assert told["pg3"]["pgherd"] == {"upstream": "far:1"}
        assert "pgherd" not in told["pg2"]

    def test_failover_slots_that_a_standby_lacks_are_told(self) -> None:
        told = rows(
            pg1={"pgherd": {"failover_slots": ["a"]}},
            pg2={"role": "primary", "pgherd": {"failover_slots": ["b", "a"]}},
            pg3={"pgherd": {"failover_slots": ["a", "b"]}},
        )
        assert told["pg1"]["pgherd"] == {"failover_slots_missing": ["b"]}
        assert "pgherd" not in told["pg2"]
        assert "pgherd" not in told["pg3"]

    def test_members_are_sorted_by_name(self) -> None:
        told = cluster_body(cluster(members=[member("a9"), member("z")]), "demo")
        names = [row["name"] for row in told["members"]]
        assert names == ["a9", "pg1", "pg2", "pg3", "z"]
        assert told["scope"] == "demo"

    def test_a_leader_has_no_lag(self) -> None:
        assert rows()["pg2"] == {
            "name": "pg2",
            "role": "leader",
            "state": "running",
            "api_url": "http://pg2:8008/patroni",
            "host": "pg2",
            "port": 5432,
            "timeline": 1,
        }

    @pytest.mark.parametrize("published", [(0x2FF0, 0x2F00), ("0/2FF0", "0/2F00")])
    def test_a_replica_is_shown_with_its_positions_and_lags(self, published: Any) -> None:
        data = {
            "replication_state": "streaming",
            "receive_lsn": published[0],
            "replay_lsn": published[1],
            "xlog_location": 0x2FF0,
        }
        told = rows(pg1=data)["pg1"]
        assert (told["role"], told["state"]) == ("replica", "streaming")
        assert (told["receive_lsn"], told["receive_lag"]) == ("0/2FF0", 0x10)
        assert (told["replay_lsn"], told["replay_lag"]) == ("0/2F00", 0x100)
        assert (told["lsn"], told["lag"]) == ("0/2FF0", 0x10)

    def test_who_is_ahead_of_what_the_leader_published_has_no_lag(self) -> None:
        told = rows(pg1={"receive_lsn": "0/9000", "replay_lsn": "0/9000"})["pg1"]
        assert (told["receive_lag"], told["replay_lag"], told["lag"]) == (0, 0, 0)

    @pytest.mark.parametrize("data", [{"state": "stopped"}, {"xlog_location": 5, "timeline": None}])
    def test_a_lag_is_unknown_without_position_or_timeline(self, data: dict[str, Any]) -> None:
        """6.1: check_patroni needs the timeline wherever a lag is known."""
        told = rows(pg1=data)["pg1"]
        assert (told["lsn"], told["lag"]) == ("unknown", "unknown")
        assert (told["receive_lag"], told["replay_lag"]) == ("unknown", "unknown")

    def test_a_leaders_replication_state_does_not_hide_its_state(self) -> None:
        told = rows(pg2={"role": "promoted", "replication_state": "streaming"})["pg2"]
        assert told["state"] == "running"

    def test_tags_and_pending_restarts_are_there_when_there_are_any(self) -> None:
        extra = {"tags": {"a": 1}, "pending_restart": True, "pending_restart_reason": PENDING}
        told = rows(pg1=extra)
        assert {key: told["pg1"][key] for key in extra} == extra
        assert not set(extra) & set(told["pg3"])

    @pytest.mark.parametrize(("mode", "role"), [("on", "sync_standby"),
                                                ("quorum", "quorum_standby")])  # fmt: skip
    def test_who_acknowledges_has_that_role_but_for_the_leader(self, mode: str, role: str) -> None:
        known = synchronous("pg2", sync_key("pg2", "pg1,pg2", 0), synchronous_mode=mode)
        told = {row["name"]: row["role"] for row in cluster_body(known, "demo")["members"]}
        assert told == {"pg1": role, "pg2": "leader", "pg3": "replica"}

    def test_maintenance_mode_is_shown_only_when_it_is_on(self) -> None:
        assert "pause" not in cluster_body(cluster(), "demo")
        assert cluster_body(cluster(config={"pause": True}), "demo")["pause"] is True
