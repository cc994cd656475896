# SPDX-License-Identifier: GPL-3.0-or-later
"""`PATCH /config` and `PUT /config`: what is stored, what is refused, what is told of restarts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pgherd.config_requests import ORDER_HEADER, RESTART_HEADER, patch_config, put_config
from pgherd.errors import StoreUnavailableError

if TYPE_CHECKING:
    from agent.tests.stage import Stage

STORED = {"ttl": 30, "loop_wait": 10, "postgresql": {"parameters": {"max_connections": 100}}}


def setting(name: str, value: str, context: str = "postmaster", **row: Any) -> dict[str, Any]:
    """Return a row of `pg_settings`: an integer."""
    known: dict[str, Any] = {
        "name": name, "setting": value, "unit": None, "context": context, "vartype": "integer",
        "min_val": "1", "max_val": "262143", "boot_val": "100", "enumvals": None,
    }  # fmt: skip
    return {**known, **row}


async def leading(stage: Stage, config: dict[str, Any], *more: dict[str, Any]) -> Stage:
    """Have us lead with *config*; the server knows three parameters, and those of *more* rows."""
    await stage.led_by_us()
    await stage.put(config=config)
    stage.rig.postgres.settings = [
        setting("max_connections", "100"),
        setting("max_wal_senders", "20"),
        setting("work_mem", "4096", "user", unit="kB"),
        *more,
    ]
    return stage


@pytest.fixture
async def led(stage: Stage) -> Stage:
    return await leading(stage, STORED)


def stored(stage: Stage) -> Any:
    return json.loads(stage.key("config") or "null")


class TestPatch:
    async def test_it_is_merged_and_the_whole_is_answered_in_a_stable_order(
        self, led: Stage
    ) -> None:
        """md5 of the text: patroni.md 6.1."""
        body = {"ttl": 40, "pause": True, "postgresql": {"use_slots": True}}
        answer = await patch_config(led.loop, body)
        assert answer.status == 200
        assert list(answer.body) == ["ttl", "loop_wait", "postgresql", "pause"]
        assert answer.body["postgresql"] == {**STORED["postgresql"], "use_slots": True}  # type: ignore[dict-item]
        assert stored(led) == answer.body
        assert led.rig.wake.is_set()

    async def test_null_takes_a_key_out(self, led: Stage) -> None:
        answer = await patch_config(led.loop, {"loop_wait": None, "postgresql": None})
        assert (answer.status, stored(led)) == (200, {"ttl": 30})

    async def test_what_changes_nothing_is_not_written(self, led: Stage) -> None:
        before = led.rig.etcd.revision
        answer = await patch_config(led.loop, {"ttl": 30})
        assert (answer.status, answer.body) == (200, STORED)
        assert led.rig.etcd.revision == before

    async def test_without_a_configuration_there_is_nothing_to_change(self, stage: Stage) -> None:
        assert (await patch_config(stage.loop, {"ttl": 30})).status == 503

    async def test_without_etcd_nothing_can_be_changed(self, led: Stage) -> None:
        led.rig.etcd.is_down = True
        assert (await patch_config(led.loop, {"ttl": 40})).status == 503
        assert (await put_config(led.loop, {"ttl": 40})).status == 502

    async def test_somebody_else_was_faster(
        self, led: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = led.rig.store.load

        async def load_and_lose() -> Any:
            cluster = await load()
            await led.put(config={"ttl": 99})
            return cluster

        monkeypatch.setattr(led.rig.store, "load", load_and_lose)
        assert (await patch_config(led.loop, {"ttl": 40})).status == 409
        assert stored(led) == {"ttl": 99}


class TestPut:
    async def test_it_replaces_everything(self, led: Stage) -> None:
        answer = await put_config(led.loop, {"ttl": 40, "loop_wait": 5})
        assert (answer.status, answer.body) == (200, {"ttl": 40, "loop_wait": 5})
        assert stored(led) == answer.body

    async def test_it_can_bring_back_what_has_gone(self, stage: Stage) -> None:
        assert (await put_config(stage.loop, {"ttl": 40})).status == 200
        assert stored(stage) == {"ttl": 40}


class TestRefusal:
    async def test_all_that_is_wrong_is_told_a_line_each(self, led: Stage) -> None:
        parameters = {"max_conections": 5, "work_mem": ["1MB"]}
        body = {"ttl": 5, "loop_wiat": 1, "postgresql": {"parameters": parameters}}
        answer = await patch_config(led.loop, body)
        assert answer.status == 422
        assert [line.split(":")[0] for line in answer.body.splitlines()] == [
            "loop_wiat",
            "ttl",
            "postgresql.parameters",
            "postgresql.parameters.max_conections",
            "postgresql.parameters.work_mem",
        ]
        assert stored(led) == STORED

    async def test_the_server_is_asked_about_its_parameters(self, led: Stage) -> None:
        body = {"postgresql": {"parameters": {"work_mem": "much", "max_conections": 5}}}
        answer = await put_config(led.loop, body)
        assert answer.status == 422
        assert "must be a number (unit kB), not 'much'" in answer.body
        assert "did you mean `max_connections`?" in answer.body

    async def test_a_server_that_is_down_does_not_stand_in_the_way(self, led: Stage) -> None:
        led.rig.postgres.settings = []
        body = {"postgresql": {"parameters": {"work_mem": "much"}}}
        assert (await patch_config(led.loop, body)).status == 200

    async def test_what_was_wrong_before_is_not_held_against_a_request(self, led: Stage) -> None:
        """It may come from Patroni, which stores anything."""
        odd = {**STORED, "mystery": 1, "postgresql": {"parameters": {"no_such": 1}}}
        await led.put(config=odd)
        assert (await patch_config(led.loop, {"pause": True})).status == 200
        assert stored(led) == {**odd, "pause": True}
        assert (await patch_config(led.loop, {"mysteries": 1})).status == 422

    async def test_our_timings_are_checked_with_those_of_the_file(self, led: Stage) -> None:
        answer = await patch_config(led.loop, {"pgherd": {"keepalive_interval": 3}})
        assert (answer.status, answer.body.split(":")[0]) == (422, "pgherd.keepalive_interval")
        good = {"pgherd": {"keepalive_interval": 3, "lease_ttl": 12}}
        assert (await patch_config(led.loop, good)).status == 200


class TestRestarts:
    @pytest.mark.parametrize(
        ("parameters", "names", "order"),
        [
            ({"max_connections": 200}, "max_connections", "standbys first"),
            ({"max_connections": "200", "work_mem": "8MB"}, "max_connections", "standbys first"),
            ({"max_wal_senders": 12}, "max_wal_senders", "primary first"),
        ],
    )
    async def test_the_answer_says_which_parameters_need_one_and_where_first(
        self, led: Stage, parameters: dict[str, Any], names: str, order: str
    ) -> None:
        answer = await patch_config(led.loop, {"postgresql": {"parameters": parameters}})
        assert answer.status == 200
        assert (answer.headers[RESTART_HEADER], answer.headers[ORDER_HEADER]) == (names, order)

    @pytest.mark.parametrize("parameters", [{"work_mem": "8MB"}, {"max_connections": "100"}])
    async def test_it_says_nothing_when_none_is_needed(
        self, led: Stage, parameters: dict[str, Any]
    ) -> None:
        answer = await patch_config(led.loop, {"postgresql": {"parameters": parameters}})
        assert (answer.status, answer.headers) == (200, {})


async def test_a_failing_etcd_raises_nothing(led: Stage) -> None:
    async def fail(*arguments: Any) -> bool:
        raise StoreUnavailableError("no etcd endpoint answered")

    led.rig.store.write_config = fail  # type: ignore[assignment,method-assign]
    assert (await patch_config(led.loop, {"ttl": 40})).status == 503
