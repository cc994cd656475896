# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby cluster: what its configuration means, what its leader tells, how it is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

import pgherd.descent
from agent.tests.builders import (
    ME,
    NOW,
    SYSTEM_ID,
    THEIRS,
    cluster,
    config,
    lease,
    member,
    primary,
    standby,
    view,
)
from agent.tests.fakes import Rig
from agent.tests.served import serving
from agent.tests.stage import Stage
from pgherd.descent import LOOK_SECONDS, Descent
from pgherd.errors import CommandError, NotAnsweringError
from pgherd.history import Branch
from pgherd.model import Cluster, Instance, Remote
from pgherd.pgfiles import Files, Upstream
from pgherd.published import cluster_body, member_key, patroni_body
from pgherd.settings import Settings, Tags
from pgherd.tracking import FRUITLESS_SECONDS, TRY_AGAIN_SECONDS, Tracker

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.view import View

FOLLOWED: dict[str, Any] = {"host": "a,b", "port": 5433, "primary_slot_name": "ours"}
FROM_REMOTE = standby(upstream="a,b:5433", upstream_slot="ours")
LED = cluster(
    ME,
    members=[member(ME, role="standby_leader", replication_state="streaming")],
    config={"standby_cluster": FOLLOWED, "synchronous_mode": "quorum"},
    optime=0x3000,
)
LEADING = view(FROM_REMOTE, cluster=LED)


class TestTheConfiguration:
    @pytest.mark.parametrize("way", [{"host": "a"}, {"port": 5432}, {"restore_command": "cp"}])
    def test_any_way_to_get_wal_makes_a_standby_cluster(self, way: dict[str, Any]) -> None:
        """3.1."""
        assert Cluster(config={"standby_cluster": way}).remote == Remote(data=way)

    @pytest.mark.parametrize("given", [None, {}, {"host": ""}, {"primary_slot_name": "x"}, "a", []])
    def test_without_one_there_is_none(self, given: Any) -> None:
        assert Cluster(config={"standby_cluster": given}).remote is None

    def test_no_commit_waits_there(self) -> None:
        raw = {"synchronous_mode": "quorum", "standby_cluster": FOLLOWED}
        assert Settings.parse(raw).synchronous_mode == "off"

    def test_where_the_remote_primary_is(self) -> None:
        remote = Remote(data=FOLLOWED)
        assert (remote.host, remote.port, remote.address) == ("a,b", 5433, "a,b:5433")
        assert Remote(data={"host": "a"}).port == 5432
        assert Remote(data={"restore_command": "cp"}).address == ""

    def test_of_several_hosts_the_one_that_takes_writes_is_meant(self, tmp_path: Path) -> None:
        files = Files(config(tmp_path))
        assert files.upstream(Remote(data=FOLLOWED)) == Upstream("a,b", 5433, "ours")
        several = conninfo_to_dict(files.upstream_conninfo("a,b", 5433, "replicator"))
        assert several["target_session_attrs"] == "read-write"
        assert "target_session_attrs" not in files.upstream_conninfo("a", 5433, "replicator")

    def test_a_member_is_streamed_from_over_our_own_slot(self, tmp_path: Path) -> None:
        files = Files(config(tmp_path))
        assert files.upstream(member("pg2")) == Upstream("pg2", 5432, "pg1")
        assert files.upstream(member("pg2", conn_url="")) is None

    async def test_its_leader_gets_the_settings_of_its_recovery(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = FROM_REMOTE
        recovery = {"restore_command": "cp x", "recovery_min_apply_delay": "1h"}
        await stage.put(config={"standby_cluster": {**FOLLOWED, **recovery}})
        await stage.round()
        assert ("configure", *(f"{name}={value}" for name, value in recovery.items())) in (
            stage.rig.postgres.calls
        )

    async def test_nobody_else_does(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.put(config={"standby_cluster": {**FOLLOWED, "restore_command": "cp x"}})
        await stage.round()
        assert ("configure",) in stage.rig.postgres.calls


class TestWhatItsLeaderTells:
    """1.2, 1.4, 1.5."""

    def test_its_role(self) -> None:
        assert member_key(config(), LEADING)["role"] == "standby_leader"
        told = patroni_body(config(), LEADING, FROM_REMOTE, None, 0)
        assert (told["role"], told["replication_state"]) == ("standby_leader", "streaming")

    def test_its_row(self) -> None:
        rows = {row["name"]: row for row in cluster_body(LED, "demo")["members"]}
        assert (rows[ME]["role"], rows[ME]["state"]) == ("standby_leader", "streaming")
        assert "lag" not in rows[ME]
        assert rows["pg2"]["role"] == "replica"

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("/standby-leader", 200),
            ("/standby_leader", 200),
            ("/leader", 200),
            ("/read-only", 200),
            ("/readiness", 200),
            ("/", 503),
            ("/primary", 503),
            ("/read-write", 503),
            ("/replica", 503),
        ],
    )
    async def test_its_health(self, tmp_path: Path, path: str, code: int) -> None:
        async with serving(tmp_path) as served:
            served.show(LEADING)
            assert await served.status(path) == code

    @pytest.mark.parametrize(
        "changes",
        [{"lease": lease(0)}, {"lease": lease(number=THEIRS)}, {"cluster": cluster(ME)}],
        ids=["lease over", "another lease", "no standby cluster"],
    )
    async def test_not_without_the_key(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        async with serving(tmp_path) as served:
            served.show(replace(LEADING, **changes))
            assert await served.status("/standby-leader") == 503


class TestHowItIsKept:
    async def test_its_position_is_that_of_what_it_received(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = replace(FROM_REMOTE, received=0x5000)
        await stage.put(config={"standby_cluster": FOLLOWED})
        assert await stage.round() == "lead_standbys"
        assert json.loads(stage.key("status") or "")["optime"] == 0x5000
        assert stage.rig.guard.deadline is None

    async def test_the_history_names_no_leader_of_the_other_cluster(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = replace(FROM_REMOTE, timeline=2)
        stage.rig.postgres.history = (Branch(1, 0x3000, "no recovery target specified"),)
        await stage.put(config={"standby_cluster": FOLLOWED})
        await stage.round()
        assert json.loads(stage.key("history") or "") == [
            [1, 0x3000, "no recovery target specified"]
        ]

    async def test_a_primary_becomes_a_standby_with_the_key_in_hand(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config={"standby_cluster": FOLLOWED})
        assert await stage.round() == "demote_cluster"
        await stage.rig.settle()
        assert stage.calls[-2:] == [("checkpoint",), ("stop",)]
        assert stage.key("leader") == ME

    def test_nobody_who_led_it_is_fenced_when_it_is_promoted(self) -> None:
        tracker = Tracker(1.0)
        tracker.complete(view())
        assert tracker.former_leader is not None
        tracker.complete(LEADING)
        assert tracker.former_leader is None


class TestItsBirth:
    async def born(self, directory: Path, **fails: Exception) -> Stage:
        """Have the first member of a standby cluster create it."""
        dcs = {"standby_cluster": FOLLOWED}
        stage = Stage(directory, bootstrap={"dcs": dcs})
        await stage.rig.keeper.renew()
        stage.rig.postgres.instance = Instance(system_id=SYSTEM_ID)
        stage.rig.postgres.fails.update(fails)
        assert await stage.round() == "bootstrap"
        await stage.rig.settle()
        return stage

    async def test_it_begins_as_a_copy(self, tmp_path: Path) -> None:
        stage = await self.born(tmp_path)
        named = [call[0] for call in stage.calls]
        assert named == ["clone", "start_standby", "wait_until_answering", "query"]
        assert (stage.key("initialize"), stage.key("leader")) == (SYSTEM_ID, ME)

    async def test_a_remote_that_gives_no_copy_leaves_nothing_behind(self, tmp_path: Path) -> None:
        stage = await self.born(tmp_path, clone=CommandError("pg_basebackup", 1, "no"))
        assert stage.key("initialize") is None


class TestComparing:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[bool | Exception]:
        """What comparisons with the remote primary will show, one after the other."""
        answers: list[bool | Exception] = []

        async def compare(*_: Any) -> bool:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(pgherd.descent, "is_diverged", compare)
        return answers

    def silent(self, **changes: Any) -> View:
        """Return what a leader sees that gets nothing from the remote primary."""
        return replace(LEADING, instance=replace(FROM_REMOTE, receiver_status=None), **changes)

    async def test_who_gets_wal_is_not_compared(
        self, stage: Stage, asked: list[bool | Exception]
    ) -> None:
        assert await Descent(stage.rig.postgres).judge(LEADING, 1.0) is False

    async def test_who_gets_none_is_now_and_then(
        self, stage: Stage, asked: list[bool | Exception]
    ) -> None:
        """A failover over there shows in nothing but the WAL."""
        descent = Descent(stage.rig.postgres)
        asked += [False, True]
        assert await descent.judge(self.silent(), 1.0) is False
        assert await descent.judge(self.silent(now=NOW + LOOK_SECONDS - 0.1), 1.0) is False
        assert await descent.judge(self.silent(now=NOW + LOOK_SECONDS), 1.0) is True
        assert asked == []

    async def test_a_remote_that_does_not_answer_yet_is_followed_all_the_same(
        self, stage: Stage, asked: list[bool | Exception]
    ) -> None:
        """It may be a standby of ours that is to be promoted: PostgreSQL looks at the timelines."""
        asked.append(NotAnsweringError("the remote primary is not a primary yet"))
        assert await Descent(stage.rig.postgres).judge(self.silent(), 1.0) is False

    async def test_an_archive_cannot_be_asked(
        self, stage: Stage, asked: list[bool | Exception]
    ) -> None:
        alone = replace(LED, config={"standby_cluster": {"restore_command": "cp"}})
        assert await Descent(stage.rig.postgres).judge(self.silent(cluster=alone), 1.0) is False


class TestARelayThatSendsNothing:
    RELAY = member("pg3", replication_state="streaming", pgherd={"terms": [5]})
    MUTE = standby(upstream="pg3:5432", receiver_status=None)

    def see(self, tracker: Tracker, at: float, instance: Instance = MUTE) -> str | None:
        """Have one view at the time *at*; return who is given up then."""
        known = cluster(members=[self.RELAY])
        seen = view(instance, tags=Tags(replicatefrom="pg3"), cluster=known, now=at)
        tracker.complete(replace(seen, fruitless=tracker.fruitless(at)))
        return tracker.fruitless(at)

    def test_it_is_given_up_after_a_while_and_tried_again_later(self) -> None:
        tracker = Tracker(1.0)
        assert self.see(tracker, NOW) is None
        assert self.see(tracker, NOW + FRUITLESS_SECONDS) is None
        given_up = NOW + FRUITLESS_SECONDS + 0.1
        assert self.see(tracker, given_up) == "pg3"
        assert tracker.fruitless(given_up + TRY_AGAIN_SECONDS) is None

    def test_one_that_sends_in_between_is_kept(self) -> None:
        tracker = Tracker(1.0)
        self.see(tracker, NOW)
        self.see(tracker, NOW + 2, standby(upstream="pg3:5432"))
        assert self.see(tracker, NOW + FRUITLESS_SECONDS + 1) is None

    def test_a_leader_that_sends_nothing_is_not_given_up(self) -> None:
        tracker = Tracker(1.0)
        self.see(tracker, NOW, standby(receiver_status=None))
        assert self.see(tracker, NOW + 60, standby(receiver_status=None)) is None


class TestTheTags:
    @pytest.mark.parametrize(
        "raw", [{"nostream": True}, {"replicatefrom": "pg2"}, {"nostream": True, "a": 1}]
    )
    def test_they_are_published_as_they_were_given(self, raw: dict[str, Any]) -> None:
        assert Tags.parse(raw).published() == raw
        assert Tags.parse({"nostream": False, "replicatefrom": None}).published() == {}

    async def test_a_reload_applies_them(self, stage: Stage) -> None:
        await stage.led_by_other()
        relay = {**TestARelayThatSendsNothing.RELAY.data}
        revision = stage.rig.etcd.keys["/service/demo/leader"].create_revision
        await stage.put(members__pg3={**relay, "pgherd": {"terms": [revision]}})
        assert await stage.round() == "stream"
        stage.loop.reconfigure(replace(stage.loop.config, tags=Tags(replicatefrom="pg3")))
        assert await stage.round() == "follow"
        assert ("follow", "pg3") in stage.calls
        stage.loop.reconfigure(replace(stage.loop.config, tags=Tags(nostream=True)))
        assert await stage.round() == "stop_streaming"

    async def test_news_of_the_standby_in_between_wakes_the_loop(self, tmp_path: Path) -> None:
        """Else a dead one would be noticed in the next regular round."""
        rig = Rig(tmp_path, standby(), tags={"replicatefrom": "pg3"})
        assert rig.loop._is_urgent({"members/pg3"})
        assert not rig.loop._is_urgent({"members/pg2"})


async def test_the_metrics_tell_its_leader_from_a_replica(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.show(LEADING)
        _, _, text = await served.ask("/metrics")
    lines = [line.split("{")[0] + line.rpartition("}")[2] for line in text.splitlines()]
    assert "patroni_standby_leader 1.0" in lines
    assert "patroni_replica 0.0" in lines
    assert "patroni_primary 0.0" in lines


def test_a_primary_is_never_the_leader_of_standbys() -> None:
    """While it is being demoted it is what it is."""
    assert member_key(config(), view(primary(), cluster=LED))["role"] == "primary"
