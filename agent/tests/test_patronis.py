# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni's keys that mean nothing here are told of, with what to do instead."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import raw_config
from agent.tests.command import write
from agent.tests.etcd_processes import free_ports
from pgherd.config import build
from pgherd.dynamic_schema import DYNAMIC
from pgherd.patronis import REFUSED, WITHOUT_EFFECT, told_by_environment, without_effect
from pgherd.schema import SCHEMA, Section, check

if TYPE_CHECKING:
    from agent.tests.stage import Stage

ROOT = Path(__file__).parents[2]
DOCUMENTED = (ROOT / "docs/compatibility.md").read_text()


def knows(table: Section, path: str) -> bool:
    """Tell whether *table* has a key at *path*."""
    known: Any = table
    for name in path.split("."):
        if not isinstance(known, dict) or name not in known:
            return False
        known = known[name]
    return True


def at(path: str, value: Any) -> dict[str, Any]:
    """Return a mapping with *value* at *path*."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


class TestTheTables:
    @pytest.mark.parametrize("path", REFUSED)
    def test_what_is_refused_is_no_key(self, path: str) -> None:
        assert not knows(SCHEMA, path)
        assert not knows(DYNAMIC, path)
        assert f"{path.rpartition('.')[2]}`" in DOCUMENTED

    @pytest.mark.parametrize("path", WITHOUT_EFFECT)
    def test_what_is_taken_without_effect_is_one(self, path: str) -> None:
        assert knows(DYNAMIC, path)
        assert f"{path.rpartition('.')[2]}`" in DOCUMENTED


class TestRefusal:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("consul", "etcd, through its v3 API"),
            ("citus", "Citus is not supported"),
            ("thread_pool_size", "no threads"),
            ("log.dir", "the journal"),
            ("log.loggers", "the journal"),
            ("etcd3.srv", "`etcd3.hosts`"),
            ("postgresql.custom_conf", "`postgresql.parameters`"),
            ("postgresql.authentication.superuser.sslmode", "`postgresql.ssl`"),
            ("postgresql.authentication.rewind.channel_binding", "`postgresql.ssl`"),
            ("postgresql.parameters_replica", "a later release of Patroni"),
        ],
    )
    def test_it_says_what_to_do_instead(self, path: str, reason: str) -> None:
        [problem] = check(at(path, "x"), partial=True)
        assert problem.startswith(f"{path}: is not supported: ")
        assert reason in problem


class TestWithoutEffect:
    @pytest.mark.parametrize("path", WITHOUT_EFFECT)
    def test_it_is_told_where_it_asks_for_something(self, path: str) -> None:
        [sentence] = without_effect(at(path, 7))
        assert sentence.startswith(f"{path} has no effect: ")
        for nothing in (0, False, None):
            assert without_effect(at(path, nothing)) == []

    @pytest.mark.parametrize("raw", [{"postgresql": []}, {"postgresql": None}, {}])
    def test_it_may_hold_anything(self, raw: dict[str, Any]) -> None:
        assert without_effect(raw) == []

    async def test_of_the_dynamic_configuration_it_is_logged_once(
        self, stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await stage.led_by_us()
        for ttl in (30, 31):
            await stage.put(config={"ttl": ttl, "primary_race_backoff": 5})
            await stage.round()
        told = [each.getMessage() for each in caplog.records if "backoff" in each.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("dynamic configuration: primary_race_backoff has no effect: ")
        assert stage.loop.view.config_problems == ()

    def test_of_a_file_the_configuration_knows_it(self) -> None:
        raw = raw_config()
        assert build(raw).unheeded == ()
        raw["postgresql"]["remove_data_directory_on_rewind_failure"] = True
        [sentence] = build(raw).unheeded
        assert "is always copied anew" in sentence


def test_variables_of_the_environment_are_named_and_not_their_values() -> None:
    found = told_by_environment({"PATRONI_SCOPE": "x", "PATRONI_NAME": "s3cret", "PATH": "/"})
    assert found == [
        "PATRONI_NAME, PATRONI_SCOPE in the environment: no effect, settings are in the files only"
    ]
    assert told_by_environment({"PATH": "/"}) == []


async def test_an_agent_tells_of_both_when_it_starts(tmp_path: Path) -> None:
    raw = raw_config(tmp_path)
    etcd, rest = free_ports(2)
    raw["etcd3"] = {"hosts": [f"127.0.0.1:{etcd}"]}
    raw["restapi"] = dict.fromkeys(("listen", "connect_address"), f"127.0.0.1:{rest}")
    raw["postgresql"]["remove_data_directory_on_diverged_timelines"] = True
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pgherd", "agent", "--config", write(tmp_path, raw)),
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent/src"), "PATRONI_SCOPE": "demo"},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    wanted = {"remove_data_directory_on_diverged_timelines has no effect", "PATRONI_SCOPE in the"}
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                wanted -= {each for each in wanted if each in line.decode()}
                if not wanted:
                    break
    finally:
        process.kill()
        await process.wait()
    assert wanted == set()
