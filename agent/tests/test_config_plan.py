# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /config_plan`: what a change would do here, and that nothing is changed by the question."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.openapi import Description
from agent.tests.test_config_requests import leading, setting
from pgherd.config_plan import differences
from pgherd.config_requests import patch_config, plan_config

if TYPE_CHECKING:
    from agent.tests.stage import Stage

DESCRIPTION = Description()
OPERATION = next(each for path, _, each in DESCRIPTION.operations() if path == "/config_plan")
STORED = {
    "ttl": 30,
    "slots": {},
    "postgresql": {"parameters": {"max_connections": 100, "work_mem": "4MB"}, "use_slots": True},
}


@pytest.fixture
async def led(stage: Stage) -> Stage:
    return await leading(
        stage,
        STORED,
        setting("shared_buffers", "16384", unit="8kB"),
        setting("recovery_target_lsn", "", vartype="string", boot_val=""),
        setting("restore_command", "", "sighup", vartype="string", boot_val=""),
    )


async def planned(stage: Stage, body: dict[str, Any]) -> dict[str, Any]:
    """Return what is answered; it is as described, and nothing may have been stored."""
    revision = stage.rig.etcd.revision
    answer = await plan_config(stage.loop, body)
    assert answer.status == 200, answer.body
    assert stage.rig.etcd.revision == revision
    DESCRIPTION.check(OPERATION, answer.status, "application/json", answer.body)
    return dict(answer.body)


async def effects(stage: Stage, body: dict[str, Any]) -> dict[str, str]:
    """Return the effect of each change by its key."""
    return {each["key"]: each["effect"] for each in (await planned(stage, body))["changes"]}


def parameters(**values: Any) -> dict[str, Any]:
    return {"postgresql": {"parameters": values}}


class TestDifferences:
    @pytest.mark.parametrize(
        ("old", "new", "found"),
        [
            ({"a": 1}, {"a": 1}, []),
            ({"a": 1}, {"a": 2, "b": 3}, [(("a",), 1, 2), (("b",), None, 3)]),
            ({"a": {"b": {"c": 1}}}, {}, [(("a", "b", "c"), 1, None)]),
            ({"a": {"b": 1}}, {"a": {"b": 1, "c.d": 2}}, [(("a", "c.d"), None, 2)]),
            ({"a": {"b": 1}}, {"a": 5}, [(("a",), {"b": 1}, 5)]),
            ({"a": {}}, {}, [(("a",), {}, None)]),
            ({"a": 1}, {"a": True}, [(("a",), 1, True)]),
        ],
    )
    def test_all_that_differs_is_told_down_to_the_single_settings(
        self, old: dict[str, Any], new: dict[str, Any], found: list[Any]
    ) -> None:
        assert list(differences(old, new)) == found


class TestEffects:
    @pytest.mark.parametrize(
        ("body", "effect"),
        [
            (parameters(max_connections=200), "restart"),
            (parameters(work_mem="8MB"), "reload"),
            # PostgreSQL's own spelling of what is in force already.
            (parameters(max_connections="100"), "none"),
            # What the agent gives where nobody says anything.
            (parameters(max_connections=None), "none"),
            (parameters(**{"auto_explain.log_nested_statements": True}), "reload"),
            ({"postgresql": {"recovery_conf": {"restore_command": "cp"}}}, "reload"),
            ({"postgresql": {"recovery_conf": {"recovery_target_lsn": "0/1"}}}, "restart"),
            ({"postgresql": {"pg_ident": ["a b c"]}}, "reload"),
            ({"postgresql": {"use_slots": False}}, "agent"),
            ({"synchronous_mode": "quorum"}, "agent"),
            ({"pgherd": {"hang_timeout": 20}}, "agent"),
            ({"ttl": 40}, "none"),
            ({"postgresql": {"remove_data_directory_on_rewind_failure": True}}, "none"),
            ({"slots": None}, "none"),
        ],
    )
    async def test_each_change_has_one(self, led: Stage, body: dict[str, Any], effect: str) -> None:
        assert list((await effects(led, body)).values()) == [effect]

    async def test_of_a_section_that_goes_every_setting_is_told(self, led: Stage) -> None:
        assert await effects(led, {"postgresql": None}) == {
            "postgresql.parameters.max_connections": "none",
            "postgresql.parameters.work_mem": "reload",
            "postgresql.use_slots": "agent",
        }

    async def test_what_the_files_of_this_member_say_counts(self, led: Stage) -> None:
        given = led.loop.dynamic.given
        own = replace(
            given.postgres,
            parameters={"work_mem": "1MB", "restore_command": "mine"},
            pg_hba=("local all all peer",),
            use_slots=False,
        )
        led.loop.dynamic.given = replace(given, postgres=own)
        led.rig.postgres.files.reconfigure(led.loop.dynamic.given)
        body = {
            "postgresql": {
                "parameters": {"work_mem": "8MB"},
                "recovery_conf": {"restore_command": "cp"},
                "pg_hba": ["host all all all reject"],
                "use_slots": None,
            }
        }
        assert set((await effects(led, body)).values()) == {"none"}

    async def test_a_server_that_does_not_answer_leaves_it_open(self, led: Stage) -> None:
        led.rig.postgres.settings = []
        body = {"ttl": 40, **parameters(max_connections=200)}
        assert await effects(led, body) == {
            "ttl": "none",
            "postgresql.parameters.max_connections": "unknown",
        }
        assert (await planned(led, body))["pending_restart"] == {}


class TestRestarts:
    @pytest.mark.parametrize(
        ("values", "order", "everybody"),
        [
            ({"max_connections": 200}, ["standbys", "leader"], False),
            ({"max_connections": 50}, ["leader", "standbys"], True),
            (
                {"max_connections": 200, "max_wal_senders": 15},
                ["standbys", "leader", "standbys"],
                True,
            ),
            ({"shared_buffers": "256MB"}, ["standbys", "leader"], False),
        ],
    )
    async def test_the_order_is_that_of_a_rolling_restart(
        self, led: Stage, values: dict[str, Any], order: list[str], everybody: bool
    ) -> None:
        told = await planned(led, parameters(**values))
        assert set(told["pending_restart"]) == set(values)
        assert (told["restart_order"], told["restart_all"]) == (order, everybody)

    async def test_what_waits_already_waits_on(self, led: Stage) -> None:
        waits = {"max_wal_senders": {"old_value": "20", "new_value": "25"}}
        instance = replace(led.loop.view.instance, pending_restart=waits)
        led.loop.view = replace(led.loop.view, instance=instance)
        assert (await planned(led, {}))["pending_restart"] == waits
        both = await planned(led, parameters(max_connections=200))
        assert set(both["pending_restart"]) == {"max_connections", "max_wal_senders"}
        taken_back = await planned(led, parameters(max_wal_senders=20))
        assert taken_back["pending_restart"] == {}


class TestRefusals:
    async def test_they_are_those_of_the_change_itself(self, led: Stage) -> None:
        body = {"loop_wiat": 1, **parameters(max_conections=5)}
        asked, made = await plan_config(led.loop, body), await patch_config(led.loop, body)
        assert (asked.status, asked.body) == (422, made.body)
        assert json.loads(led.key("config") or "") == STORED

    async def test_without_a_configuration_or_etcd_nothing_can_be_told(self, stage: Stage) -> None:
        assert (await plan_config(stage.loop, {})).status == 503
        stage.rig.etcd.is_down = True
        assert "etcd does not answer" in (await plan_config(stage.loop, {})).body
