# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told to an operator's commands, by what each round sees."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    cluster,
    config,
    primary,
    raw_config,
    standby,
    starting,
    stopped,
    view,
)
from agent.tests.stage import Stage
from agent.tests.test_hooks import script
from pgherd.callbacks import Callbacks
from pgherd.method_schema import CALLBACKS

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.config import Config
    from pgherd.model import Instance
    from pgherd.view import View


def given(directory: Path, **postgresql: Any) -> Config:
    """Return a configuration with *postgresql* in that section."""
    section = {**raw_config(directory)["postgresql"], **postgresql}
    return config(directory, postgresql=section)


def led_by_us(instance: Instance, **changes: Any) -> View:
    seen = view(instance, **changes)
    assert seen.cluster is not None
    assert seen.cluster.leader is not None
    leader = replace(seen.cluster.leader, name="pg1")
    return replace(seen, cluster=replace(seen.cluster, leader=leader))


class Told(Callbacks):
    """Notes down what would be run."""

    def __init__(self, directory: Path) -> None:
        super().__init__(given(directory))
        self.events: list[tuple[str, str]] = []

    def note(self, action: str, role: str = "") -> None:
        self.events.append((action, role))

    def after(self, *views: View) -> list[tuple[str, str]]:
        """Return what is told of *views*, one after the other."""
        self.events.clear()
        for each in views:
            self.look(each)
        return list(self.events)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


class TestEvents:
    def test_a_steady_server_is_told_of_once(self, told: Told) -> None:
        assert told.after(view(), view(), view()) == [("on_start", "replica")]

    def test_a_promotion_is_a_change_of_role(self, told: Told) -> None:
        told.after(view(standby()))
        seen = led_by_us(primary(), operation="promote")
        assert told.after(seen, led_by_us(primary())) == [("on_role_change", "primary")]

    def test_a_stop_and_a_start(self, told: Told) -> None:
        told.after(view(standby()))
        again = standby(started_at="2026-02-02 00:00:00+00")
        events = told.after(view(stopped()), view(stopped()), view(starting()), view(again))
        assert events == [("on_stop", "replica"), ("on_start", "replica")]

    @pytest.mark.parametrize("operation", ["restart", "restart primary"])
    def test_a_restart_is_one_event(self, told: Told, operation: str) -> None:
        told.after(led_by_us(primary()))
        again = primary(started_at="2026-02-02 00:00:00+00")
        events = told.after(
            led_by_us(primary(), operation=operation),
            led_by_us(stopped("shut down"), operation=operation),
            led_by_us(starting(in_recovery=None), operation=operation),
            led_by_us(again),
            led_by_us(again),
        )
        assert events == [("on_restart", "primary")]

    def test_a_restart_between_two_rounds_is_noticed(self, told: Told) -> None:
        told.after(view(standby()))
        again = standby(started_at="2026-02-02 00:00:00+00")
        assert told.after(view(standby(), operation="restart"), view(again)) == [
            ("on_restart", "replica")
        ]

    def test_a_primary_that_lost_the_lead_is_told_of_before_it_runs_again(self, told: Told) -> None:
        """An address must be let go, though nothing runs here: patroni.md 5, recovery."""
        told.after(led_by_us(primary()))
        events = told.after(view(stopped("in production")), view(stopped("in production")))
        assert events == [("on_stop", "primary"), ("on_role_change", "demoted")]
        again = standby(started_at="2026-02-02 00:00:00+00")
        assert told.after(view(again)) == [("on_role_change", "replica")]

    def test_a_crashed_primary_that_keeps_the_lead_is_none(self, told: Told) -> None:
        told.after(led_by_us(primary()))
        again = primary(started_at="2026-02-02 00:00:00+00")
        events = told.after(led_by_us(stopped("in production")), led_by_us(again))
        assert events == [("on_stop", "primary"), ("on_start", "primary")]

    def test_the_leader_of_a_standby_cluster_has_a_role_of_its_own(self, told: Told) -> None:
        remote = {"standby_cluster": {"host": "far"}}
        seen = view(standby(), cluster=cluster("pg1", config=remote))
        assert told.after(view(standby()), seen) == [
            ("on_start", "replica"),
            ("on_role_change", "standby_leader"),
        ]

    def test_one_that_does_not_answer_is_not_stopped(self, told: Told) -> None:
        told.after(view(standby()))
        assert told.after(view(starting()), view(standby())) == []


class TestRunning:
    async def test_they_are_run_in_order_with_action_role_and_scope(self, tmp_path: Path) -> None:
        command = script(tmp_path, f'echo "$*" >> {tmp_path}/out; [ "$1" != on_start ]')
        callbacks = Callbacks(given(tmp_path, callbacks=dict.fromkeys(CALLBACKS, command)))
        running = asyncio.create_task(callbacks.run())
        callbacks.look(view())
        callbacks.note("on_reload")
        await callbacks.end(stopped=True)
        running.cancel()
        assert (tmp_path / "out").read_text().splitlines() == [
            "on_start replica demo",
            "on_reload replica demo",
            "on_stop replica demo",
        ]

    async def test_what_is_not_asked_for_is_not_run(self, tmp_path: Path) -> None:
        callbacks = Callbacks(given(tmp_path, callbacks={"on_stop": "false"}))
        callbacks.look(view())
        await callbacks.end(stopped=False)


class TestPrePromote:
    async def stage(self, directory: Path, command: str) -> Stage:
        section = {**raw_config(directory)["postgresql"], "pre_promote": command}
        return await Stage(directory, postgresql=section).initialized()

    async def test_one_that_agrees_lets_the_promotion_go_on(self, tmp_path: Path) -> None:
        stage = await self.stage(tmp_path, "true")
        assert [await stage.round(), await stage.round()] == ["take_key", "promote"]
        await stage.rig.settle()
        assert ("promote",) in stage.calls

    async def test_one_that_does_not_leaves_the_lead_to_others(self, tmp_path: Path) -> None:
        """R4."""
        stage = await self.stage(tmp_path, "false")
        assert [await stage.round(), await stage.round()] == ["take_key", "promote"]
        await stage.rig.settle()
        assert ("promote",) not in stage.calls
        assert stage.key("leader") is None
        assert await stage.round() not in ("take_key", "promote")
