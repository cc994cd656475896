# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking the lead and giving it up: fencing of the leader before, holding back, who let go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import NOW, peer, peers, primary, standby, stopped
from agent.tests.stage import BASE, PG2, Stage
from pgherd.history import Branch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKS = "cat >> {log}; echo >> {log}"
FAILS = "cat >> {log}; echo ERROR: no such host >&2; exit 1"


@pytest.fixture
def fencing_stage(tmp_path: Path) -> Callable[..., Stage]:
    """Return a function that makes a stage with a fence agent of shell lines."""

    def make(mode: str, body: str = WORKS) -> Stage:
        program = tmp_path / "fence_test"
        program.write_text(f"#!/bin/sh\n{body.format(log=tmp_path / 'fenced')}\n")
        program.chmod(0o755)
        fencing = {"mode": mode, "agent": str(program), "hosts": {"pg2": {"plug": 2}}}
        return Stage(tmp_path, fencing=fencing if mode != "off" else {"mode": "off"})

    return make


def fenced(directory: Path) -> list[str]:
    """Return whom the fence agent was run for, one name for each time."""
    try:
        lines = (directory / "fenced").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.removeprefix("nodename=") for line in lines if line.startswith("nodename=")]


async def wins(stage: Stage) -> None:
    """Have us win the election after pg2's lease has run out, and go as far as the promotion."""
    await stage.led_by_other()
    await stage.round()
    await stage.rig.etcd.lease_revoke(stage.rig.etcd.keys[f"{BASE}leader"].lease)
    assert await stage.round() == "take_key"
    assert await stage.round() == "promote"
    await stage.rig.settle()


class TestFencing:
    async def test_a_leader_whose_lease_has_run_out_is_cut_off_before_we_are_promoted(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await wins(stage)
        assert fenced(tmp_path) == ["pg2"]
        assert stage.calls[-1] == ("promote",)

    async def test_it_is_off_unless_asked_for(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("off")
        await wins(stage)
        assert fenced(tmp_path) == []
        assert ("promote",) in stage.calls

    @pytest.mark.parametrize(("mode", "promotes"), [("required", False), ("best_effort", True)])
    async def test_where_it_is_required_nobody_is_promoted_without(
        self,
        fencing_stage: Callable[..., Stage],
        tmp_path: Path,
        mode: str,
        *,
        promotes: bool,
    ) -> None:
        stage = fencing_stage(mode, FAILS)
        await wins(stage)
        assert fenced(tmp_path) == ["pg2"]
        assert (("promote",) in stage.calls) is promotes

    async def test_what_failed_is_tried_again_while_it_is_required(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required", FAILS)
        await wins(stage)
        stage.rig.clock.now += 1
        await stage.rig.keeper.renew()
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2", "pg2"]

    @pytest.mark.parametrize(("mode", "body"), [("required", WORKS), ("best_effort", FAILS)])
    async def test_one_lost_lease_is_fenced_once(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path, mode: str, body: str
    ) -> None:
        """A promotion that failed for another reason is tried again without."""
        stage = fencing_stage(mode, body)
        await wins(stage)
        for _ in range(2):
            assert await stage.round() == "promote"
            await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2"]
        assert stage.calls.count(("promote",)) == 3

    async def test_the_same_member_is_fenced_again_for_its_next_lost_lease(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await wins(stage)
        ours = stage.rig.etcd.keys.pop(f"{BASE}leader")
        assert ours.value == "pg1"
        lease = await stage.rig.etcd.lease_grant(60)
        await stage.put(lease, leader="pg2")
        await stage.round()
        await stage.rig.etcd.lease_revoke(lease)
        assert await stage.round() == "take_key"
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2", "pg2"]

    async def test_who_let_go_on_its_own_is_not_fenced(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await stage.led_by_other()
        await stage.round()
        await stage.put(status={"optime": 1, "released": "pg2"})
        del stage.rig.etcd.keys[f"{BASE}leader"]
        await stage.round()
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert fenced(tmp_path) == []
        assert ("promote",) in stage.calls

    async def test_that_another_let_go_before_helps_nobody(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await stage.initialized()
        await stage.put(status={"optime": 1, "released": "pg3"})
        await wins(stage)
        assert fenced(tmp_path) == ["pg2"]

    async def test_after_a_restart_of_the_agent_etcd_says_whom(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await stage.initialized()
        await stage.put(history=[[1, 0x2000, "no recovery target specified", "2026", "pg2"]])
        assert await stage.round() == "take_key"
        await stage.round()
        await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2"]

    async def test_after_a_restart_of_the_agent_the_sync_key_says_whom(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("required")
        await stage.initialized()
        await stage.put(
            config={"synchronous_mode": "quorum"},
            sync={"leader": "pg2", "sync_standby": "pg1", "quorum": 0},
        )
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        assert await stage.round() == "take_key"
        await stage.round()
        await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2"]

    async def test_a_lease_that_ends_meanwhile_ends_the_promotion(
        self, fencing_stage: Callable[..., Stage], tmp_path: Path
    ) -> None:
        stage = fencing_stage("best_effort")
        await stage.led_by_other()
        await stage.round()
        await stage.rig.etcd.lease_revoke(stage.rig.etcd.keys[f"{BASE}leader"].lease)
        await stage.round()
        await stage.round()
        stage.rig.clock.now = NOW + 100
        await stage.rig.settle()
        assert fenced(tmp_path) == ["pg2"]
        assert ("promote",) not in stage.calls


class TestGivingUp:
    async def test_the_others_go_first_for_two_leases(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = stopped("in production")
        stage.loop.tracker.start_failures = 1
        assert await stage.round() == "give_up_key"
        stage.rig.postgres.instance = standby(upstream=None)
        assert await stage.round() == "cannot_lead"
        assert not stage.loop.view.can_lead
        stage.rig.clock.now = NOW + 10
        await stage.rig.keeper.renew()
        assert await stage.round() == "take_key"

    async def test_it_says_so_and_the_next_leader_takes_it_back(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(status={"optime": 7, "slots": {"pg2": 5}, "more": 1})
        stage.rig.postgres.instance = stopped("in production")
        stage.loop.tracker.start_failures = 1
        await stage.round()
        said = json.loads(stage.key("status") or "")
        assert said == {"optime": 7, "slots": {"pg2": 5}, "more": 1, "released": "pg1"}
        await stage.led_by_us()
        assert await stage.round() == "lead"
        said = json.loads(stage.key("status") or "")
        assert ("released" in said, said["optime"], said["more"]) == (False, 0x3000, 1)

    async def test_a_position_that_did_not_move_does_not_keep_it_there(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(status={"optime": 0x3000, "released": "pg2"})
        await stage.round()
        assert "released" not in json.loads(stage.key("status") or "")

    async def test_who_could_not_let_go_is_not_held_back(self, stage: Stage) -> None:
        """etcd is silent: nothing was given up, and the next round tries again."""
        await stage.led_by_us()
        stage.rig.postgres.instance = stopped("in production")
        stage.loop.tracker.start_failures = 1
        view = await stage.loop.observe()
        stage.rig.etcd.is_down = True
        await stage.loop.leadership.release_key(view)
        assert stage.loop.tracker.held_back_until == 0

    async def test_a_lease_whose_key_may_be_given_up_is_used_no_more(self, stage: Stage) -> None:
        """The request may arrive late, and delete the key under a primary that counts on it."""
        await stage.led_by_us()
        stage.rig.postgres.instance = stopped("in production")
        stage.loop.tracker.start_failures = 1
        view = await stage.loop.observe()
        stage.rig.etcd.loses_answers = True
        await stage.loop.leadership.release_key(view)
        assert stage.rig.keeper.lease is None
        assert stage.key("leader") is None
        stage.rig.etcd.loses_answers = False
        await stage.rig.keeper.renew()
        assert len(stage.rig.etcd.leases) == 2

    async def test_who_did_not_hold_it_any_more_is_not_held_back(self, stage: Stage) -> None:
        await stage.led_by_us()
        view = await stage.loop.observe()
        await stage.rig.etcd.lease_revoke(view.lease.id if view.lease else 0)
        await stage.put(leader="pg2", members__pg2=PG2)
        await stage.loop.leadership.release_key(view)
        assert stage.loop.tracker.held_back_until == 0
        assert stage.key("leader") == "pg2"


class TestTakingTheKey:
    async def test_without_a_lease_nobody_tries(self, stage: Stage) -> None:
        await stage.initialized()
        view = await stage.loop.observe()
        stage.rig.keeper.lease = None
        stage.rig.etcd.writes.clear()
        await stage.loop.leadership.take_key(view, None)
        assert stage.rig.etcd.writes == []

    async def test_etcd_that_falls_silent_is_for_the_next_round(self, stage: Stage) -> None:
        await stage.initialized()
        view = await stage.loop.observe()
        stage.rig.etcd.is_down = True
        await stage.loop.leadership.take_key(view, None)
        assert stage.rig.wake.is_set()

    async def test_a_retaken_key_makes_votes_from_before_worthless(self, stage: Stage) -> None:
        """They were counted before this primary led again, and may have acknowledged since."""
        await stage.led_by_us()
        sync = {"leader": "pg1", "sync_standby": "pg2", "quorum": 0}
        await stage.put(config={"synchronous_mode": "on"}, sync=sync)
        stage.rig.postgres.instance = primary(sync_names='1 ("pg2")')
        before = (await stage.rig.store.load()).sync_revision
        del stage.rig.etcd.keys[f"{BASE}leader"]
        stage.rig.peers.answers = peers(peer("pg2"))
        assert await stage.round() == "retake_key"
        assert stage.key("leader") == "pg1"
        assert json.loads(stage.key("sync") or "") == sync
        assert (await stage.rig.store.load()).sync_revision > before


async def test_a_number_that_was_begun_with_is_not_used_again(stage: Stage) -> None:
    """PostgreSQL writes the history file first; if it then dies it would take the next number."""
    await stage.led_by_us()
    await stage.put(sync={"timeline": 2})
    stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
    stage.rig.postgres.begun = {2}
    for promoted in (False, True):
        assert await stage.round() == "promote"
        await stage.rig.settle()
        assert (("promote",) in stage.calls) is promoted
    assert (await stage.rig.store.load()).last_timeline == 3


async def test_a_new_leader_writes_who_it_is_into_the_history(stage: Stage) -> None:
    """From there an agent that was restarted learns whom to fence."""
    await stage.led_by_us()
    stage.rig.postgres.instance = primary(timeline=2)
    stage.rig.postgres.history = (Branch(1, 0x3000, "no recovery target specified"),)
    await stage.round()
    [row] = json.loads(stage.key("history") or "")
    known: dict[str, Any] = {"timeline": row[0], "who": row[4]}
    assert known == {"timeline": 1, "who": "pg1"}
