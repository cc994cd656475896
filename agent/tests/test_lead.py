# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd switchover` and `failover`: what is asked, of whom, and how the outcome is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import raw_config
from agent.tests.command import Command, Host, agent, host, pgherd, write
from agent.tests.etcd_processes import free_ports
from pgherd.commands import lead
from pgherd.etcd import Put

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.command import Agent
    from pgherd.etcd import Etcd

__all__ = ["agent", "host", "pgherd"]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for a cluster that exists in answers only to settle."""
    monkeypatch.setattr(lead, "SETTLE_SECONDS", 0.1)


DONE = 'Successfully switched over to "pg2"'
ENTRY = {"id": "ab12", "kind": "switchover", "state": "done", "result": DONE, "finished_at": "now"}


class TestSwitchover:
    def test_the_leader_is_asked_and_the_outcome_told(self, host: Host) -> None:
        host.agent.say("POST", "/switchover", 200, DONE, X_Pgherd_Operation="ab12")
        code, output, _ = host("switchover", "demo", "--candidate", "pg2", "--force")
        assert code == 0
        assert f"{DONE} (" in output
        assert host.agent.changes == [
            ("POST", "/switchover", {"leader": "pg1", "candidate": "pg2"})
        ]

    def test_what_becomes_of_long_transactions_is_said(self, host: Host) -> None:
        host.agent.say("POST", "/switchover", 200, DONE, X_Pgherd_Operation="ab12")
        wanted = ("--transactions", "call-off", "--transaction-timeout", "0")
        assert host("switchover", *wanted, "--force")[0] == 0
        [(_, _, body)] = host.agent.changes
        assert body == {"leader": "pg1", "transactions": "call-off", "transaction_timeout": 0}

    def test_it_is_scheduled_with_a_time_zone(self, host: Host) -> None:
        host.agent.say(
            "POST", "/switchover", 202, "Switchover scheduled", X_Pgherd_Operation="ab12"
        )
        code, output, _ = host("switchover", "--scheduled", "2126-01-01T10:00+02:00", "--force")
        assert code == 0
        assert "Switchover scheduled\n" in output
        [(_, _, body)] = host.agent.changes
        assert body == {"leader": "pg1", "scheduled_at": "2126-01-01T10:00:00+02:00"}

    def test_a_refusal_is_1_and_the_agents_sentence(self, host: Host) -> None:
        host.agent.say("POST", "/switchover", 412, "candidate does not exists")
        code, _, problems = host("switchover", "--candidate", "pg2", "--force")
        assert (code, problems) == (1, "pgherd: candidate does not exists\n")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--candidate", "pg9"], "pg9 is no standby of this cluster; standbys: pg2, pg3"),
            (["--candidate", "pg1"], "pg1 is no standby of this cluster"),
            (["--leader", "pg2"], "pg2 does not lead: pg1 does"),
        ],
    )
    def test_what_cannot_be_is_not_even_asked(
        self, host: Host, arguments: list[str], said: str
    ) -> None:
        code, _, problems = host("switchover", *arguments, "--force")
        assert code == 1
        assert said in problems
        assert host.agent.changes == []

    def test_without_a_leader_a_failover_is_named(self, host: Host) -> None:
        host.show(host.member("pg2"), host.member("pg3"))
        code, _, problems = host("switchover", "--force")
        assert code == 1
        assert "pgherd failover" in problems

    def test_without_a_terminal_it_must_be_forced(self, host: Host) -> None:
        code, _, problems = host("switchover", "--candidate", "pg2")
        assert code == 2
        assert "say --force" in problems
        assert host.agent.changes == []

    def test_a_person_is_asked_for_what_is_missing(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter(["pg1", "pg3", "now"])
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("click.prompt", lambda *_, **__: next(answers))
        monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
        asked: list[str] = []
        host.agent.say("POST", "/switchover", 200, DONE)
        assert host("switchover")[0] == 0
        assert asked == ["Switch over from pg1 to pg3?"]
        assert host.agent.changes == [
            ("POST", "/switchover", {"leader": "pg1", "candidate": "pg3"})
        ]

    def test_for_a_script_it_is_json(self, host: Host) -> None:
        host.agent.say("POST", "/switchover", 200, DONE, X_Pgherd_Operation="ab12")
        told = host.json("switchover", "--candidate", "pg2", "--force")
        assert told == {"ok": True, "status": 200, "message": DONE, "operation": "ab12"}

    def test_a_refusal_is_json_too(self, host: Host) -> None:
        host.agent.say("POST", "/switchover", 503, "Switchover failed")
        code, output, _ = host("switchover", "--candidate", "pg2", "--force", "--json")
        assert code == 1
        assert json.loads(output)["ok"] is False


class TestFailover:
    def test_it_needs_a_candidate(self, host: Host) -> None:
        code, _, problems = host("failover", "--force")
        assert code == 2
        assert "--candidate" in problems

    def test_any_member_takes_it_when_there_is_no_leader(self, host: Host) -> None:
        host.show(host.member("pg2"), host.member("pg3"))
        host.agent.say("POST", "/failover", 200, 'Successfully failed over to "pg3"')
        assert host("failover", "--candidate", "pg3", "--force")[0] == 0
        assert host.agent.changes == [("POST", "/failover", {"candidate": "pg3"})]

    def test_who_cannot_be_reached_is_passed_over(self, host: Host) -> None:
        [port] = free_ports(1)
        gone = host.member("pg1", "leader", api_url=f"http://127.0.0.1:{port}/patroni")
        host.show(gone, host.member("pg2"))
        host.agent.say("POST", "/failover", 200, 'Successfully failed over to "pg2"')
        assert host("failover", "--candidate", "pg2", "--force")[0] == 0


class TestAnOutcomeThatIsToldElsewhere:
    """The agent that was asked dies, or says that it takes longer: the operation tells."""

    @pytest.fixture
    def known(self, pgherd: Command, agent: Agent, tmp_path: Path, real_etcd: Etcd) -> Host:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        known = Host(pgherd, agent, tmp_path, hosts)
        known.show()
        return known

    async def end(self, etcd: Etcd, **changes: Any) -> None:
        await etcd.txn([], [Put("/service/demo/operations", json.dumps([{**ENTRY, **changes}]))])

    async def test_it_is_followed_when_it_takes_longer(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("POST", "/switchover", 202, "is still under way", X_Pgherd_Operation="ab12")
        await self.end(real_etcd, state="running", finished_at=None)
        command = asyncio.create_task(
            asyncio.to_thread(known, "switchover", "--candidate", "pg2", "--force")
        )
        await self.end(real_etcd)
        code, output, _ = await command
        assert code == 0
        assert DONE in output

    async def test_it_is_found_when_the_agent_dies(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("GET", "/operations", 200, [])
        known.agent.say("GET", "/operations", 200, [ENTRY])
        known.agent.say("POST", "/switchover", 0)
        await self.end(real_etcd)
        code, output, _ = await asyncio.to_thread(
            known, "switchover", "--candidate", "pg2", "--force"
        )
        assert code == 0
        assert "looking for the outcome elsewhere" in output
        assert DONE in output

    async def test_one_that_failed_is_1(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("POST", "/switchover", 202, "still under way", X_Pgherd_Operation="ab12")
        await self.end(real_etcd, state="failed", result="pg2 lags")
        code, _, problems = await asyncio.to_thread(
            known, "switchover", "--candidate", "pg2", "--force"
        )
        assert (code, problems) == (1, "pgherd: pg2 lags\n")

    async def test_one_that_was_never_begun_is_told_so(self, known: Host) -> None:
        known.agent.say("GET", "/operations", 200, [ENTRY])
        known.agent.say("POST", "/switchover", 0)
        code, _, problems = await asyncio.to_thread(
            known, "switchover", "--candidate", "pg2", "--force"
        )
        assert code == 1
        assert "the switchover was not begun" in problems


def test_when_nobody_is_reached_it_is_3(pgherd: Command, tmp_path: Path) -> None:
    port, etcd = free_ports(2)
    rest = {"listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}"}
    path = write(
        tmp_path, raw_config(tmp_path, restapi=rest, etcd3={"hosts": [f"127.0.0.1:{etcd}"]})
    )
    assert pgherd("switchover", "--force", "-c", path)[0] == 3
