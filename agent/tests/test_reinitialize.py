# SPDX-License-Identifier: GPL-3.0-or-later
"""A new copy on request, and configuration read again: Patroni's answers, and what is done."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    member,
    primary,
    standby,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from pgherd.actions import Clone
from pgherd.datadir import REPLACED, beside
from pgherd.decide import decide
from pgherd.errors import NotAnsweringError
from pgherd.kept import LEFT_FREE
from pgherd.model import Instance
from pgherd.pages import node_body
from pgherd.published import member_key, state
from pgherd.reinitialize import post_reinitialize, post_reload
from pgherd.wishes import Reinitialize, Restart

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.stage import Stage
    from pgherd.view import View

ASKED = Reinitialize(NOW)
PAUSED = {"pause": True}
HAVING_BOTH = [member("pg3", tags={"clonefrom": True})]


class Disk(NamedTuple):
    free: int


def fired(seen: View) -> str:
    return decide(seen).rule.name


def fill(stage: Stage) -> Path:
    """Have a data directory; return it."""
    data_dir = stage.rig.config.postgres.data_dir
    data_dir.mkdir()
    (data_dir / "PG_VERSION").write_text("17")
    return data_dir


async def asked(stage: Stage, **body: bool) -> str:
    """Ask for a new copy and go round until it is answered; return the last rule that fired."""
    asking, rule = asyncio.create_task(post_reinitialize(stage.loop, body)), ""
    # What is answered at once needs no round.
    await asyncio.wait({asking}, timeout=0.05)
    while not asking.done():
        rule = await stage.round()
        await asyncio.wait({asking}, timeout=0.05)
    answer = await asking
    assert (answer.status, answer.body) == (200, "reinitialize started")
    return rule


class TestWhatIsAnswered:
    async def test_the_leader_keeps_its_data(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        answer = await post_reinitialize(stage.loop, {})
        assert (answer.status, answer.body) == (503, "I am the leader, can not reinitialize")

    async def test_without_a_leader_there_is_nothing_to_copy(self, stage: Stage) -> None:
        await stage.initialized()
        await stage.loop.observe()
        answer = await post_reinitialize(stage.loop, {})
        assert (answer.status, answer.body) == (
            503,
            "Cluster has no leader, can not reinitialize",
        )

    async def test_what_is_under_way_is_cancelled_only_by_force(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.round()
        forever = asyncio.Event()

        async def wait() -> None:
            await forever.wait()

        stage.loop.operations.begin("rejoin", wait())
        answer = await post_reinitialize(stage.loop, {})
        assert (answer.status, answer.body) == (503, "rejoin already in progress")
        outcome = stage.loop.wanted.ask_restart(Restart(NOW))
        assert (await post_reinitialize(stage.loop, {})).body == "restart already in progress"
        await asked(stage, force=True)
        assert stage.loop.operations.current != "rejoin"
        assert outcome.result() == "restart failed"
        wish = stage.loop.wanted.reinitialize
        assert wish is not None
        assert wish.since == ASKED.since


class TestTheOldData:
    async def test_it_is_told_as_soon_as_the_request_is_answered(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.round()
        await asked(stage)
        assert node_body(stage.loop, stage.loop.view.instance)["state"] == "creating replica"

    async def test_it_makes_way_and_a_copy_is_made(self, stage: Stage) -> None:
        await stage.led_by_other()
        data_dir = fill(stage)
        await stage.round()
        assert await asked(stage, from_leader=True) == "clear_data"
        await stage.rig.settle()
        assert not data_dir.exists()
        assert (beside(data_dir, REPLACED) / "PG_VERSION").exists()
        stage.rig.postgres.instance = Instance()
        assert await stage.round() == "clone"
        await stage.rig.settle()
        stage.rig.postgres.instance = standby()
        assert await stage.round() == "stream"
        assert stage.loop.view.reinitialize is None
        calls = [call for call in stage.calls if call[0] != "create_slot"]
        assert calls == [
            ("leader_history", "pg2"),
            ("stop",),
            ("set_aside", REPLACED),
            ("clone", "pg2"),
            ("start_standby", "pg2"),
        ]

    async def test_it_goes_first_when_the_disk_has_no_room_for_both(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await stage.led_by_other()
        data_dir = fill(stage)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(LEFT_FREE))
        await stage.round()
        await asked(stage)
        await stage.rig.settle()
        assert not data_dir.exists()
        assert not beside(data_dir, REPLACED).exists()

    async def test_it_stays_while_the_leader_does_not_answer(self, stage: Stage) -> None:
        await stage.led_by_other()
        data_dir = fill(stage)
        await stage.round()
        stage.rig.postgres.fails["leader_history"] = NotAnsweringError("silence")
        await asked(stage)
        await stage.rig.settle()
        assert data_dir.exists()
        assert ("stop",) not in stage.calls

    def test_a_standby_that_commits_wait_for_leaves_first(self) -> None:
        seen = view(reinitialize=ASKED, cluster=synchronous("pg2", sync_key()))
        assert fired(seen) == "leave_sync_first"

    def test_it_has_a_vote_to_cast_first(self) -> None:
        assert fired(unlocked(reinitialize=ASKED)) == "take_key"

    def test_whoever_comes_to_lead_keeps_it(self) -> None:
        assert fired(view(primary(), cluster=cluster(ME), reinitialize=ASKED)) == "lead"

    def test_it_gives_way_in_pause_as_well(self) -> None:
        assert fired(view(reinitialize=ASKED, cluster=cluster(config=PAUSED))) == "clear_data"
        assert fired(view(Instance(), cluster=cluster(config=PAUSED))) == "clone"
        empty = unlocked(Instance(), cluster=cluster(None, initialize=None, config=PAUSED))
        assert fired(empty) == "paused"

    @pytest.mark.parametrize(("from_leader", "source"), [(True, "pg2"), (False, "pg3")])
    def test_the_copy_is_made_of_the_leader_if_asked(self, from_leader: bool, source: str) -> None:
        wish = Reinitialize(NOW, from_leader=from_leader, is_cleared=True)
        seen = view(Instance(), reinitialize=wish, cluster=cluster(members=HAVING_BOTH))
        [action] = decide(seen).actions
        assert isinstance(action, Clone)
        assert action.source is not None
        assert action.source.name == source


def test_the_state_tells_of_it_from_the_beginning() -> None:
    """`patronictl reinit --wait` looks for this word."""
    seen = view(reinitialize=ASKED)
    assert state(seen.instance, seen.activity) == "creating replica"


class TestReload:
    async def test_postgres_reads_its_files_again_too(self, stage: Stage) -> None:
        reread: list[str] = []

        def read() -> list[str]:
            reread.append("read")
            return []

        stage.loop.reread = read
        answer = await post_reload(stage.loop, {})
        assert (answer.status, answer.body) == (202, "reload scheduled")
        assert reread == ["read"]

    async def test_a_bad_file_is_told(self, stage: Stage) -> None:
        stage.loop.reread = lambda: ["scope: is missing", "name: is missing"]
        answer = await post_reload(stage.loop, {})
        assert answer.status == 500
        assert answer.body.endswith(": scope: is missing; name: is missing")


def test_commits_do_not_wait_for_one_that_is_copied_anew(stage: Stage) -> None:
    key = member_key(stage.rig.config, view(reinitialize=ASKED))
    assert key["tags"] == {"nosync": True}
    assert key["state"] == "creating replica"
