# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd edit-config`, `show-config`, `pause` and `resume`: what is sent, and to whom."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tests.command import Command, Host, agent, host, pgherd
from agent.tests.etcd_processes import free_ports
from pgherd.commands.changes import diff_lines, difference
from pgherd.etcd import Put
from pgherd.merge_patch import merge_patch

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.command import Agent
    from pgherd.etcd import Etcd

__all__ = ["agent", "host", "pgherd"]

CONFIG: dict[str, Any] = {
    "ttl": 30,
    "postgresql": {"use_slots": True, "parameters": {"max_connections": 100}},
}
VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    lambda below: st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.text(max_size=2), VALUES, max_size=4)


class TestDifference:
    @given(CONFIGS, CONFIGS)
    def test_it_makes_one_of_the_other(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        assert merge_patch(old, difference(old, new)) == new

    @given(CONFIGS)
    def test_there_is_none_between_equals(self, config: dict[str, Any]) -> None:
        assert difference(config, config) == {}

    def test_only_what_differs_is_in_it(self) -> None:
        new = {"ttl": 30, "postgresql": {"parameters": {"max_connections": 200}}}
        assert difference(CONFIG, new) == {
            "postgresql": {"use_slots": None, "parameters": {"max_connections": 200}}
        }

    def test_true_is_not_one(self) -> None:
        assert difference({"a": 1}, {"a": True}) == {"a": True}

    def test_it_is_shown_as_yaml(self) -> None:
        lines = diff_lines(CONFIG, {**CONFIG, "ttl": 20})
        assert "-ttl: 30" in lines
        assert "+ttl: 20" in lines


class TestEditConfig:
    @pytest.fixture(autouse=True)
    def stored(self, agent: Agent) -> None:
        agent.say("GET", "/config", 200, CONFIG)

    def test_a_key_is_set_after_the_difference_was_shown(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 200, {**CONFIG, "ttl": 20})
        code, output, _ = host("edit-config", "--set", "ttl=20", "--yes")
        assert code == 0
        assert "-ttl: 30\n+ttl: 20\n" in output
        assert output.endswith("Configuration changed\n")
        assert host.agent.changes == [("PATCH", "/config", {"ttl": 20})]

    @pytest.mark.parametrize(
        ("option", "text", "sent"),
        [
            ("-s", "ttl=null", {"ttl": None}),
            ("-s", "synchronous_mode=quorum", {"synchronous_mode": "quorum"}),
            ("-s", "slots.mine.type=physical", {"slots": {"mine": {"type": "physical"}}}),
            ("-p", "work_mem=64MB", {"postgresql": {"parameters": {"work_mem": "64MB"}}}),
            (
                "-s",
                "postgresql.parameters.pg_stat_statements.max=9",
                {"postgresql": {"parameters": {"pg_stat_statements.max": 9}}},
            ),
        ],
    )
    def test_what_an_option_sends(
        self, host: Host, option: str, text: str, sent: dict[str, Any]
    ) -> None:
        host.agent.say("PATCH", "/config", 200, {})
        assert host("edit-config", option, text, "--force")[0] == 0
        assert host.agent.changes == [("PATCH", "/config", sent)]

    def test_a_file_is_laid_on_it_or_replaces_it(self, host: Host, tmp_path: Path) -> None:
        host.agent.say("PATCH", "/config", 200, {})
        file = tmp_path / "new.yml"
        file.write_text("ttl: 60\n")
        assert host("edit-config", "--apply", str(file), "-y")[0] == 0
        assert host("edit-config", "--replace", str(file), "-y")[0] == 0
        assert [body for _, _, body in host.agent.changes] == [
            {"ttl": 60},
            {"ttl": 60, "postgresql": None},
        ]

    def test_without_a_difference_nothing_is_sent(self, host: Host) -> None:
        assert host("edit-config", "--set", "ttl=30", "-y") == (0, "Not changed\n", "")
        assert host.agent.changes == []

    def test_it_says_what_must_be_restarted(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 200, {}, X_Pgherd_Restart="max_connections")
        _, output, _ = host("edit-config", "-p", "max_connections=200", "-y")
        assert "max_connections: in force after a restart: pgherd restart --rolling" in output

    def test_what_the_agent_refuses_is_1_and_said(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 422, "ttl: must be a number\nb: no")
        code, _, problems = host("edit-config", "-s", "ttl=20", "-y")
        assert (code, problems) == (1, "pgherd: ttl: must be a number\npgherd: b: no\n")

    def test_who_changed_it_meanwhile_makes_it_be_tried_again(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 409, "conflict")
        host.agent.say("PATCH", "/config", 200, {})
        assert host("edit-config", "-s", "ttl=20", "-y")[0] == 0
        assert len(host.agent.changes) == 2

    def test_a_wrong_password_is_told_with_where_it_is(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 401, "not authenticated")
        code, _, problems = host("edit-config", "-s", "ttl=20", "-y")
        assert code == 1
        assert "not authenticated; the name and the password are `ctl.authentication`" in problems

    def test_the_password_is_sent(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 200, {})
        host("edit-config", "-s", "ttl=20", "-y")
        assert host.agent.headers[-1]["Authorization"] == "Basic aGVyZDpzM2NyZXQ="

    def test_without_a_terminal_nobody_is_asked(self, host: Host) -> None:
        code, _, problems = host("edit-config", "-s", "ttl=20")
        assert code == 2
        assert "say --force" in problems
        assert host.agent.changes == []

    @pytest.mark.parametrize("text", ["ttl", "=5", "a=[1"])
    def test_what_is_no_assignment_is_2(self, host: Host, text: str) -> None:
        assert host("edit-config", "-s", text, "-y")[0] == 2

    def test_an_editor_changes_it(
        self, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        editor = tmp_path / "editor"
        editor.write_text('#!/bin/sh\nsed -i "s/ttl: 30/ttl: 20/" "$1"\n')
        editor.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(editor))
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        host.agent.say("PATCH", "/config", 200, {})
        assert host("edit-config", "--yes")[0] == 0
        assert host.agent.changes == [("PATCH", "/config", {"ttl": 20})]

    def test_for_a_script_it_is_json(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 200, {"ttl": 20}, X_Pgherd_Restart="a, b")
        code, output, _ = host("edit-config", "-s", "ttl=20", "-y", "--json")
        assert code == 0
        assert json.loads(output) == {
            "ok": True,
            "changed": True,
            "config": {"ttl": 20},
            "restart": ["a", "b"],
        }


class TestWithoutAnAgent:
    """Nobody answers but etcd: it is changed there, unless somebody else does at the same time."""

    @pytest.fixture
    def alone(self, pgherd: Command, agent: Agent, tmp_path: Path, real_etcd: Etcd) -> Host:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        known = Host(pgherd, agent, tmp_path, hosts)
        [port] = free_ports(1)
        text = (tmp_path / "pgherd.yml").read_text().replace(agent.address, f"127.0.0.1:{port}")
        (tmp_path / "pgherd.yml").write_text(text)
        return known

    async def test_it_is_changed_in_etcd(self, alone: Host, real_etcd: Etcd) -> None:
        key = "/service/demo/config"
        await real_etcd.txn([], [Put(key, json.dumps(CONFIG))])
        code, output, problems = await asyncio.to_thread(alone, "edit-config", "-s", "ttl=60", "-y")
        assert (code, problems) == (0, "")
        assert "changing etcd itself, unchecked by PostgreSQL" in output
        _, [stored] = await real_etcd.range(key)
        assert json.loads(stored.value) == {**CONFIG, "ttl": 60}

    async def test_nonsense_is_refused_there_too(self, alone: Host, real_etcd: Etcd) -> None:
        await real_etcd.txn([], [Put("/service/demo/config", json.dumps(CONFIG))])
        code, _, problems = await asyncio.to_thread(alone, "edit-config", "-s", "tll=20", "-y")
        assert code == 1
        assert "tll: unknown key" in problems

    async def test_it_is_shown_from_etcd(self, alone: Host, real_etcd: Etcd) -> None:
        await real_etcd.txn([], [Put("/service/demo/config", json.dumps(CONFIG))])
        assert await asyncio.to_thread(alone.json, "show-config") == CONFIG

    async def test_where_there_is_none_it_says_so(self, alone: Host) -> None:
        code, _, problems = await asyncio.to_thread(alone, "show-config")
        assert code == 1
        assert "etcd holds no configuration of this cluster" in problems


class TestShowConfig:
    def test_it_is_yaml_for_people_and_json_for_scripts(self, host: Host) -> None:
        host.agent.say("GET", "/config", 200, {"ttl": 30})
        assert host("show-config") == (0, "ttl: 30\n", "")
        assert host.json("show-config") == {"ttl": 30}


class TestMaintenance:
    def test_it_is_switched_on_and_off(self, host: Host) -> None:
        host.agent.say("PATCH", "/config", 200, {})
        host.agent.say("GET", "/config", 200, {})
        host.agent.say("GET", "/config", 200, {"pause": True})
        assert host("pause")[:2] == (0, "Maintenance mode is on: no automatic failover\n")
        assert host("resume")[:2] == (0, "Maintenance mode is off: automatic failover works\n")
        bodies = [body for _, _, body in host.agent.changes]
        assert bodies == [{"pause": True}, {"pause": None}]

    def test_what_holds_already_is_fine(self, host: Host) -> None:
        host.agent.say("GET", "/config", 200, {"pause": True})
        assert host.json("pause", "demo") == {"ok": True, "changed": False, "pause": True}
        assert host.agent.changes == []
