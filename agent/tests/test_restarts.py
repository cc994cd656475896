# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts on request: Patroni's answers, what PostgreSQL is asked, schedules that outlive us."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    config,
    member,
    primary,
    standby,
    stopped,
    sync_key,
    synchronous,
    unlocked,
    view,
)
from agent.tests.stage import Stage
from pgherd.actions import RestartPrimary, RestartStandby
from pgherd.decide import decide
from pgherd.errors import CommandError, NotAnsweringError
from pgherd.published import member_key, state
from pgherd.restarts import delete_restart, post_restart
from pgherd.rules.restart import LEAVE_SECONDS, STALE_SECONDS
from pgherd.settings import Settings
from pgherd.wanted import FAILED, RESTARTED, STILL_STARTING
from pgherd.wishes import Conditions, Restart, ScheduledRestart, version_number

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.answers import Answer
    from pgherd.view import View

UNREADABLE = (
    "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"
)
ASKED = Restart(NOW)
LATER = datetime.now(UTC) + timedelta(days=1)
PAUSED = {"pause": True}
PENDING = {"max_connections": {"old_value": "100", "new_value": "200"}}


def scheduled(**raw: Any) -> ScheduledRestart:
    return ScheduledRestart(LATER.timestamp(), {"schedule": LATER.isoformat(), **raw})


def fired(seen: View) -> str:
    return decide(seen).rule.name


async def restarting(stage: Stage, body: dict[str, Any] | None = None) -> Answer:
    """Ask for a restart and go round until it is answered."""
    await stage.round()
    asking = asyncio.create_task(post_restart(stage.loop, body or {}))
    # What is answered at once needs no round.
    await asyncio.wait({asking}, timeout=0.05)
    while not asking.done():
        await stage.round()
        await stage.rig.settle()
    return await asking


class TestWhatIsAnswered:
    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            (
                {"role": "master"},
                400,
                "PostgreSQL role should be either primary, standby_leader, or replica",
            ),
            (
                {"postgres_version": "a"},
                400,
                "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: a",
            ),
            ({"timeout": 0}, 400, "Timeout should be a positive number of seconds"),
            ({"timeout": "soon"}, 400, "Timeout should be a positive number of seconds"),
            ({"nonsense": 1}, 400, "Unknown filter for the scheduled restart: nonsense"),
            (
                {"schedule": "2099-01-01T10:00"},
                400,
                "Timezone information is mandatory for the scheduled restart",
            ),
            ({"schedule": "2019-01-01T10:00Z"}, 422, "Cannot schedule restart in the past"),
            (
                {"schedule": "tomorrow"},
                422,
                UNREADABLE,
            ),
            ({"role": "replica"}, 503, "restart conditions are not satisfied"),
            ({"postgres_version": "15.1"}, 503, "restart conditions are not satisfied"),
            ({"restart_pending": False}, 503, "restart conditions are not satisfied"),
        ],
    )
    async def test_what_cannot_be_done_is_refused(
        self, stage: Stage, body: dict[str, Any], status: int, text: str
    ) -> None:
        await stage.led_by_us()
        answer = await restarting(stage, body)
        assert (answer.status, answer.body) == (status, text)
        assert stage.loop.wanted.restart is None

    async def test_one_at_a_time(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        stage.loop.wanted.ask_restart(ASKED)
        answer = await post_restart(stage.loop, {})
        assert (answer.status, answer.body) == (503, "restart already in progress")

    async def test_nothing_is_scheduled_in_pause(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config=PAUSED)
        answer = await restarting(stage, {"schedule": LATER.isoformat()})
        assert (answer.status, answer.body) == (500, "Can't schedule restart in the paused state")

    async def test_postgres_that_does_not_run_is_not_restarted(self, stage: Stage) -> None:
        await stage.led_by_us()
        stage.rig.postgres.instance = stopped("in production")
        assert (await restarting(stage)).status == 503


class TestAPrimary:
    async def test_it_is_stopped_and_started_as_what_it_was(self, stage: Stage) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.rounds()
        names = stage.rig.postgres.instance.sync_names
        answer = await restarting(stage, {"role": "primary", "postgres_version": "15.99"})
        assert (answer.status, answer.body) == (200, RESTARTED)
        calls = [call for call in stage.calls if call[0] not in ("create_slot", "set_sync_names")]
        assert calls == [
            ("checkpoint",),
            ("shut_down",),
            ("start_primary", names),
            ("wait_until_answering",),
        ]
        assert stage.key("leader") == ME
        assert names

    @pytest.mark.parametrize("error", [None, CommandError("pg_ctl", 1, "")])
    async def test_the_poolers_hold_their_clients_back_meanwhile(
        self, stage: Stage, error: Exception | None
    ) -> None:
        await stage.synchronous("pg2", "pg3")
        await stage.put(members__pg2=dict(member("pg2", pgherd={"pooler": True}).data))
        await stage.rounds()
        if error is not None:
            stage.rig.postgres.fails["start_primary"] = error
        await restarting(stage)
        told = [(members, body["action"]) for members, body in stage.rig.peers.told]
        assert told == [({"pg2"}, "pause"), ({"pg2"}, "resume")]
        assert {body["operation"] for _, body in stage.rig.peers.told} == {"restart of pg1"}

    async def test_it_is_guarded_all_the_while(self, stage: Stage) -> None:
        """Without the key it could not be told from a second primary."""
        await stage.led_by_us()
        await stage.round()
        stage.loop.wanted.ask_restart(ASKED)
        await stage.round()
        assert stage.loop.operations.current == "restart primary"
        stage.rig.postgres.instance = stopped("shut down")
        assert await stage.round() == "busy"
        assert stage.rig.guard.deadline is not None
        await stage.rig.settle()

    async def test_it_is_not_started_without_the_lead(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        asking = asyncio.create_task(post_restart(stage.loop, {}))
        await asyncio.sleep(0)
        await stage.round()
        stage.rig.clock.now += 60
        await stage.rig.settle()
        assert (await asking).body == FAILED
        assert not any(call[0] == "start_primary" for call in stage.calls)

    @pytest.mark.parametrize(
        ("error", "text"),
        [(NotAnsweringError("slow"), STILL_STARTING), (CommandError("pg_ctl", 1, ""), FAILED)],
    )
    async def test_a_start_that_fails_is_told(
        self, stage: Stage, error: Exception, text: str
    ) -> None:
        await stage.led_by_us()
        stage.rig.postgres.fails["wait_until_answering"] = error
        answer = await restarting(stage, {"timeout": "2min"})
        assert (answer.status, answer.body) == (503, text)
        assert stage.loop.wanted.restart is None

    @pytest.mark.parametrize(
        ("body", "config", "seconds"),
        [
            ({"timeout": 7}, {"postgresql": {"pg_ctl_timeout": 9}}, 7),
            ({}, {"postgresql": {"pg_ctl_timeout": 9}, "primary_start_timeout": 8}, 9),
            ({}, {"primary_start_timeout": 8}, 8),
            ({}, {"primary_start_timeout": 0}, 300),
        ],
    )
    async def test_the_new_start_is_given_as_long_as_somebody_says(
        self,
        stage: Stage,
        monkeypatch: pytest.MonkeyPatch,
        body: dict[str, Any],
        config: dict[str, Any],
        seconds: float,
    ) -> None:
        given: list[float] = []

        async def answer(within: float) -> None:
            given.append(within)

        monkeypatch.setattr(stage.rig.postgres, "wait_until_answering", answer)
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, **config})
        await stage.round()
        assert (await restarting(stage, body)).status == 200
        assert given == [seconds]

    def test_it_waits_for_etcd_and_for_the_key(self) -> None:
        leading = view(primary(), cluster=cluster(ME), restart=ASKED)
        assert fired(leading) == "restart_primary"
        assert fired(replace(leading, store_answers=False)) == "lead"
        assert fired(unlocked(primary(), restart=ASKED)) == "retake_key"

    def test_it_keeps_the_names_that_are_in_force(self) -> None:
        seen = view(primary(sync_names="ANY 1 (pg2)"), cluster=cluster(ME), restart=ASKED)
        assert decide(seen).actions == (RestartPrimary("ANY 1 (pg2)"),)

    def test_in_pause_one_that_is_down_waits_for_whom_it_has_to(self) -> None:
        """With nobody to wait for it would acknowledge commits that no standby has."""
        sync = sync_key(ME, "pg2,pg3")
        known = synchronous(None, sync, pause=True)
        down = unlocked(stopped("in production"), cluster=known, restart=ASKED)
        assert decide(down).actions == (RestartPrimary('ANY 1 ("pg2","pg3")'),)
        succeeded = synchronous(None, sync_key("pg2"), pause=True)
        assert fired(replace(down, cluster=succeeded)) == "paused"

    def test_in_pause_one_without_the_key_is_restarted_unless_another_leads(self) -> None:
        alone = unlocked(primary(), cluster=cluster(None, config=PAUSED), restart=ASKED)
        assert fired(alone) == "restart_primary"
        dead = replace(alone, instance=stopped("in production"))
        assert fired(dead) == "restart_primary"
        followed = replace(alone, cluster=cluster(config=PAUSED))
        assert fired(followed) == "paused"


class TestAStandby:
    async def test_it_is_stopped_and_started(self, stage: Stage) -> None:
        await stage.led_by_other()
        answer = await restarting(stage, {"role": "replica"})
        assert (answer.status, answer.body) == (200, RESTARTED)
        assert stage.calls == [
            ("create_slot", "pg2"),
            ("stop",),
            ("start_standby", "pg2"),
            ("wait_until_answering",),
        ]
        assert stage.rig.peers.told == []

    def test_it_first_leaves_those_that_commits_wait_for(self) -> None:
        """R34."""
        seen = view(restart=ASKED, cluster=synchronous("pg2", sync_key()))
        assert fired(seen) == "leave_sync_first"
        awaits = member("pg2", role="primary", pgherd={"awaits": ["pg1"]})
        let_go = synchronous("pg2", sync_key(voters="pg3"), members=[awaits])
        assert fired(replace(seen, cluster=let_go)) == "leave_sync_first"
        free = replace(seen, cluster=synchronous("pg2", sync_key(voters="pg3")))
        assert fired(free) == "restart_standby"

    def test_it_does_not_wait_for_ever_to_be_let_go(self) -> None:
        seen = view(restart=ASKED, cluster=synchronous("pg2", sync_key()))
        assert fired(replace(seen, now=NOW + LEAVE_SECONDS)) == "restart_standby"

    def test_it_says_so_until_it_is_back(self, tmp_path: Path) -> None:
        def tags(**changes: Any) -> Any:
            return member_key(config(tmp_path), view(**changes)).get("tags")

        assert tags(restart=ASKED) == {"nosync": True}
        assert tags(operation="restart") == {"nosync": True}
        assert tags() is None

    def test_it_casts_its_vote_before(self) -> None:
        assert fired(unlocked(restart=ASKED)) == "take_key"

    def test_one_that_is_about_to_be_promoted_is_not_restarted(self) -> None:
        assert fired(view(restart=ASKED, cluster=cluster(ME, numbered=2))) == "promote"

    def test_in_pause_one_that_does_not_run_is_started(self) -> None:
        seen = view(stopped(), cluster=cluster(config=PAUSED), restart=ASKED)
        decision = decide(seen)
        assert decision.rule.name == "restart_standby"
        [action] = decision.actions
        assert isinstance(action, RestartStandby)
        assert action.upstream is not None
        assert action.upstream.name == "pg2"


class TestAScheduledRestart:
    async def test_it_is_published_and_can_be_taken_back(self, stage: Stage) -> None:
        await stage.led_by_us()
        body = {"schedule": LATER.isoformat(), "restart_pending": True, "timeout": "1min"}
        answer = await restarting(stage, body)
        assert (answer.status, answer.body) == (202, "Restart scheduled")
        shown = json.loads(stage.key(f"members/{ME}") or "")["scheduled_restart"]
        assert shown == {
            "schedule": LATER.isoformat(),
            "restart_pending": True,
            "timeout": 60,
            "postmaster_start_time": primary().started_at,
        }
        answer = await restarting(stage, body)
        assert (answer.status, answer.body) == (409, "Another restart is already scheduled")
        deleting = asyncio.create_task(delete_restart(stage.loop, {}))
        await asyncio.sleep(0)
        await stage.round()
        answer = await deleting
        assert (answer.status, answer.body) == (200, "scheduled restart deleted")
        assert "scheduled_restart" not in (stage.key(f"members/{ME}") or "")
        answer = await delete_restart(stage.loop, {})
        assert (answer.status, answer.body) == (404, "no restarts are scheduled")

    async def test_it_outlives_the_agent(self, stage: Stage) -> None:
        await stage.led_by_us()
        raw = {"schedule": LATER.isoformat(), "role": "primary"}
        await stage.put(**{f"members__{ME}": {"scheduled_restart": raw}})
        await stage.round()
        assert stage.loop.wanted.scheduled == ScheduledRestart(LATER.timestamp(), raw)
        assert json.loads(stage.key(f"members/{ME}") or "")["scheduled_restart"] == raw

    async def test_it_outlives_the_lease_and_the_member_key_as_well(
        self, stage: Stage, tmp_path: Path
    ) -> None:
        """An agent on a busy host may take longer than a lease to come back."""
        await stage.led_by_us()
        body = {"schedule": LATER.isoformat()}
        assert (await restarting(stage, body)).status == 202
        successor = Stage(tmp_path)
        assert successor.loop.wanted.scheduled == stage.loop.wanted.scheduled is not None
        deleting = asyncio.create_task(delete_restart(stage.loop, {}))
        await asyncio.sleep(0)
        await stage.round()
        assert (await deleting).status == 200
        assert Stage(tmp_path).loop.wanted.scheduled is None

    async def test_it_is_made_when_its_time_has_come(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        stage.loop.wanted.scheduled = ScheduledRestart(
            datetime.now(UTC).timestamp(), {"timeout": 7}
        )
        assert await stage.round() == "begin_scheduled_restart"
        assert stage.loop.wanted.restart == Restart(NOW, 7)
        assert await stage.round() == "restart_primary"
        await stage.rig.settle()
        assert ("start_primary",) in stage.calls
        assert await stage.round() == "lead"

    async def test_it_is_not_made_for_another_server(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.round()
        wanted = stage.loop.wanted
        wanted.scheduled = scheduled(postmaster_start_time="2020-01-01 00:00:00+00")
        assert await stage.round() == "drop_scheduled_restart"
        await stage.round()
        assert stage.loop.view.scheduled_restart is None

    @pytest.mark.parametrize(
        ("raw", "settings", "late", "rule"),
        [
            ({}, {}, -1, "lead"),
            ({}, PAUSED, -1, "lead"),
            ({}, PAUSED, 0, "drop_scheduled_restart"),
            ({}, {}, 0, "begin_scheduled_restart"),
            ({}, {}, STALE_SECONDS + 1, "drop_scheduled_restart"),
            ({"role": "replica"}, {}, 0, "drop_scheduled_restart"),
            ({"role": "replica"}, {}, -1, "lead"),
            ({"restart_pending": True}, {}, 0, "drop_scheduled_restart"),
        ],
    )
    def test_what_it_depends_on_is_looked_at_when_it_is_due(
        self, raw: dict[str, Any], settings: dict[str, Any], late: float, rule: str
    ) -> None:
        seen = view(
            primary(),
            cluster=cluster(ME, config=settings),
            scheduled_restart=scheduled(**raw),
            wall=LATER.timestamp() + late,
        )
        assert fired(seen) == rule

    @pytest.mark.parametrize("raw", [None, [], {}, {"schedule": "x"}, {"schedule": "2026-01-01"}])
    def test_a_damaged_one_is_none(self, raw: Any) -> None:
        assert ScheduledRestart.parse(raw) is None


class TestConditions:
    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("15.12", 150012),
            ("9.6.3", 90603),
            ("17.0", 170000),
            ("17", None),
            ("17.1.2", None),
            ("x", None),
        ],
    )
    def test_a_version_is_read_as_the_server_counts(self, text: str, number: int | None) -> None:
        assert version_number(text) == number

    def test_a_server_of_the_version_given_needs_no_restart(self) -> None:
        assert not Conditions(below_version=150012).hold(standby(), holds_key=False)
        assert Conditions(below_version=150013).hold(standby(), holds_key=False)

    def test_the_roles_are_those_of_patroni(self) -> None:
        assert Conditions("primary").hold(primary(), holds_key=True)
        assert Conditions("standby_leader").hold(standby(), holds_key=True)
        assert Conditions("replica").hold(standby(), holds_key=False)
        assert not Conditions("replica").hold(standby(), holds_key=True)

    def test_pending_means_settings_that_wait(self) -> None:
        assert Conditions(pending=True).hold(primary(pending_restart=PENDING), holds_key=True)
        assert not Conditions(pending=True).hold(primary(), holds_key=True)


def test_the_state_says_restarting_while_it_is_down() -> None:
    assert state(stopped("shut down"), "restart primary") == "restarting"
    assert state(stopped(), "restart") == "restarting"
    assert state(standby(), "restart") == "running"


def test_old_names_of_the_timeouts_are_heeded() -> None:
    old = Settings.parse({"master_start_timeout": 7, "master_stop_timeout": 8})
    assert (old.primary_start_timeout, old.primary_stop_timeout) == (7, 8)
    both = Settings.parse({"master_start_timeout": 7, "primary_start_timeout": 9})
    assert both.primary_start_timeout == 9
