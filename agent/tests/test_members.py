# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd restart`, `reload`, `reinit` and `flush`: who is asked what, and in which order."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.command import Command, Host, agent, host, pgherd
from agent.tests.etcd_processes import free_ports
from pgherd.commands.members import turns
from pgherd.commands.session import Session
from pgherd.etcd import Put
from pgherd.ledger import Entry
from pgherd.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.command import Agent
    from pgherd.etcd import Etcd

__all__ = ["agent", "host", "pgherd"]

RESTARTED = "restarted successfully"


class TestRestart:
    def test_standbys_come_first_and_the_leader_last(self, host: Host) -> None:
        host.agent.say("POST", "/restart", 200, RESTARTED)
        told = host.json("restart", "demo", "--force")
        assert [each["member"] for each in told["results"]] == ["pg2", "pg3", "pg1"]
        assert told["ok"] is True

    def test_what_failed_on_one_is_not_tried_on_the_next(self, host: Host) -> None:
        host.agent.say("POST", "/restart", 503, "restart failed")
        code, output, problems = host("restart", "--force")
        assert code == 1
        assert output == "pg2: restart failed\n"
        assert problems == "pgherd: not done on pg2\n"

    def test_the_leader_comes_first_where_a_setting_is_lowered(self, host: Host) -> None:
        """A standby must not have less room for connections than its primary."""
        reason = {"max_connections": {"old_value": "200", "new_value": "150"}}
        waits: dict[str, Any] = {"pending_restart": True, "pending_restart_reason": reason}
        host.show(host.member("pg1", "leader", **waits), host.member("pg2", **waits))
        host.agent.say("POST", "/restart", 200, RESTARTED)
        told = host.json("restart", "--force")
        assert [each["member"] for each in told["results"]] == ["pg1", "pg2"]

    @pytest.mark.parametrize(
        ("arguments", "asked"),
        [
            (["pg3"], ["pg3"]),
            (["demo", "pg3", "pg2"], ["pg3", "pg2"]),
            (["--role", "leader"], ["pg1"]),
            (["--role", "primary"], ["pg1"]),
            (["--role", "replica"], ["pg2", "pg3"]),
        ],
    )
    def test_only_who_is_meant(self, host: Host, arguments: list[str], asked: list[str]) -> None:
        host.agent.say("POST", "/restart", 200, RESTARTED)
        told = host.json("restart", *arguments, "--force")
        assert [each["member"] for each in told["results"]] == asked

    def test_conditions_are_sent_as_patroni_knows_them(self, host: Host) -> None:
        host.agent.say("POST", "/restart", 202, "Restart scheduled")
        code, output, _ = host(
            "restart", "pg2", "--scheduled", "2126-01-01T10:00Z", "--pg-version", "17.5",
            "--timeout", "60", "--force",
        )  # fmt: skip
        assert (code, output) == (0, "pg2: Restart scheduled\n")
        [(_, _, body)] = host.agent.changes
        assert body == {
            "schedule": "2126-01-01T10:00:00+00:00",
            "postgres_version": "17.5",
            "timeout": "60",
        }

    def test_what_was_planned_makes_way_when_it_is_forced(self, host: Host) -> None:
        host.show(host.member("pg2", scheduled_restart={"schedule": "2126-01-01T09:00+00:00"}))
        host.agent.say("DELETE", "/restart", 200, "scheduled restart deleted")
        host.agent.say("POST", "/restart", 202, "Restart scheduled")
        assert host("restart", "--scheduled", "+1h", "--force")[0] == 0
        assert [method for method, _, _ in host.agent.changes] == ["DELETE", "POST"]

    def test_pending_restarts_only_who_waits_for_it(self, host: Host) -> None:
        host.show(host.member("pg1", "leader"), host.member("pg2", pending_restart=True))
        host.agent.say("POST", "/restart", 200, RESTARTED)
        code, output, _ = host("restart", "--pending", "--force")
        assert code == 0
        assert output.startswith("nothing is pending on pg1\npg2: restarted successfully (")
        assert host.agent.changes == [("POST", "/restart", {"restart_pending": True})]

    @pytest.mark.parametrize("words", [(), ("--rolling",)])
    async def test_who_has_to_take_in_a_change_first_is_given_the_time(
        self,
        pgherd: Command,
        agent: Agent,
        tmp_path: Path,
        real_etcd: Etcd,
        words: tuple[str, ...],
    ) -> None:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        host = Host(pgherd, agent, tmp_path, hosts)
        rows = host.member("pg1", "leader"), host.member("pg2", pending_restart=True)
        body = {"members": [rows[0], host.member("pg2")], "scope": "demo"}
        agent.say("GET", "/cluster", 200, {**body, "pgherd": {"uninformed": ["pg2"]}})
        agent.say("GET", "/cluster", 200, {**body, "members": rows})
        agent.say("POST", "/restart", 200, RESTARTED)
        agent.say("POST", "/rolling_restart", 202, "began")

        async def publish(revision: int) -> None:
            data = {"state": "running", "pgherd": {"config_revision": revision}}
            await real_etcd.txn([], [Put("/service/demo/members/pg2", json.dumps(data))])

        await publish(0)
        await real_etcd.txn([], [Put("/service/demo/config", "{}")])
        asking = asyncio.create_task(
            asyncio.to_thread(host, "restart", "--pending", "--force", *words)
        )

        async def has_asked() -> bool:
            return bool(agent.asked)

        await until(has_asked, every=0.01, within=10)
        await publish(1 << 40)
        assert (await asking)[0] == 0
        path, asked = ("/rolling_restart", "pending") if words else ("/restart", "restart_pending")
        assert agent.changes == [("POST", path, {asked: True})]

    def test_when_nobody_waits_there_is_nothing_to_do(self, host: Host) -> None:
        assert host.json("restart", "--pending", "--force") == {"ok": True, "results": []}
        assert host.agent.changes == []

    def test_a_member_that_is_not_there_is_told_with_those_that_are(self, host: Host) -> None:
        code, _, problems = host("restart", "pg9", "--force")
        assert (code, problems) == (1, "pgherd: there is no member 'pg9'; members: pg1, pg2, pg3\n")

    def test_when_none_answers_it_is_3_and_says_where_to_look(self, host: Host) -> None:
        [port] = free_ports(1)
        host.show(host.member("pg2", api_url=f"http://127.0.0.1:{port}/patroni"))
        code, output, problems = host("restart", "--force")
        assert (code, problems) == (3, "pgherd: not done on pg2\n")
        assert "does not answer: Connection refused; look there at `systemctl" in output

    def test_when_only_some_do_not_answer_it_is_1(self, host: Host) -> None:
        [port] = free_ports(1)
        silent = host.member("pg2", api_url=f"http://127.0.0.1:{port}/patroni")
        host.show(host.member("pg1", "leader"), silent)
        host.agent.say("POST", "/reload", 202, "reload scheduled")
        code, _, problems = host("reload", "--force")
        assert (code, problems) == (1, "pgherd: not done on pg2\n")

    def test_it_is_asked_first(self, host: Host) -> None:
        assert host("restart")[0] == 2
        assert host.agent.changes == []


class TestRollingRestart:
    async def test_the_agents_do_it_and_it_is_followed(
        self, pgherd: Command, agent: Agent, tmp_path: Path, real_etcd: Etcd
    ) -> None:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        host = Host(pgherd, agent, tmp_path, hosts)
        host.show(host.member("pg1", "leader"), host.member("pg2", pending_restart=True))
        agent.say("POST", "/rolling_restart", 202, "Rolling restart began", X_Pgherd_Operation="7")
        entry = {
            "id": "7", "kind": "rolling_restart", "state": "done", "result": "restarted pg2",
            "finished_at": "now",
        }  # fmt: skip
        await real_etcd.txn([], [Put("/service/demo/operations", json.dumps([entry]))])
        told = await asyncio.to_thread(host.json, "restart", "--rolling", "--pending", "--force")
        assert told["ok"] is True
        assert told["operation"]["result"] == "restarted pg2"
        assert agent.changes == [("POST", "/rolling_restart", {"pending": True})]

    def test_with_nothing_pending_nothing_is_begun(self, host: Host) -> None:
        assert host("restart", "--rolling", "--pending", "-y")[0] == 0
        assert host.agent.changes == []

    def test_whose_turn_it_is_is_told_once(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        notice = turns(Session(tmp_path, as_json=False))
        for turn in (0, 0, 1):
            notice(Entry("7", "rolling_restart", details={"plan": ["pg2", "pg1"], "turn": turn}))
        notice(Entry("7", "rolling_restart", "done", details={"plan": ["pg2"], "turn": 0}))
        assert capsys.readouterr().out == "1 of 2: pg2\n2 of 2: pg1\n"


class TestReload:
    def test_everybody_is_asked(self, host: Host) -> None:
        host.agent.say("POST", "/reload", 202, "reload scheduled")
        code, output, _ = host("reload", "--force")
        assert code == 0
        assert output == "".join(f"{name}: reload scheduled\n" for name in ("pg2", "pg3", "pg1"))


class TestReinit:
    def test_it_is_named_who(self, host: Host) -> None:
        code, _, problems = host("reinit", "--force")
        assert code == 2
        assert "pgherd reinit MEMBER" in problems

    def test_a_standby_is_copied_anew(self, host: Host) -> None:
        host.agent.say("POST", "/reinitialize", 200, "reinitialize started")
        code, output, _ = host("reinit", "demo", "pg3", "--from-leader", "--force")
        assert (code, output) == (0, "pg3: reinitialize started\n")
        assert host.agent.changes == [
            ("POST", "/reinitialize", {"force": True, "from_leader": True})
        ]

    def test_a_leader_refuses(self, host: Host) -> None:
        host.agent.say("POST", "/reinitialize", 503, "I am the leader, can not reinitialize")
        code, output, _ = host("reinit", "pg1", "--force")
        assert code == 1
        assert "I am the leader" in output


class TestFlush:
    @pytest.mark.parametrize(
        "arguments", [["restart"], ["demo", "restart"], ["demo", "pg1", "pg2", "pg3", "restart"]]
    )
    def test_scheduled_restarts_of_all(self, host: Host, arguments: list[str]) -> None:
        host.agent.say("DELETE", "/restart", 200, "scheduled restart deleted")
        host.agent.say("DELETE", "/restart", 404, "no restarts are scheduled")
        code, output, _ = host("flush", *arguments, "--force")
        assert code == 0
        assert output == (
            "pg1: scheduled restart deleted\npg2: no restarts are scheduled\n"
            "pg3: no restarts are scheduled\n"
        )

    @pytest.mark.parametrize(
        ("word", "path"), [("switchover", "/switchover"), ("rolling", "/rolling_restart")]
    )
    def test_what_concerns_the_whole_cluster(self, host: Host, word: str, path: str) -> None:
        host.agent.say("DELETE", path, 200, "deleted")
        assert host("flush", word, "--force") == (0, "deleted\n", "")
        assert [(method, asked) for method, asked, _ in host.agent.changes] == [("DELETE", path)]

    def test_nothing_to_cancel_is_fine(self, host: Host) -> None:
        host.agent.say("DELETE", "/switchover", 404, "no switchover is scheduled")
        assert host("flush", "switchover", "--force")[0] == 0

    def test_it_must_be_said_what(self, host: Host) -> None:
        assert host("flush", "pg1", "--force")[0] == 2
