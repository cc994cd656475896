# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd remove`, `demote-cluster` and `promote-cluster`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.command import Command, Host, agent, host, pgherd
from pgherd.etcd import Put

if TYPE_CHECKING:
    from pathlib import Path

    from agent.tests.command import Agent
    from pgherd.etcd import Etcd

__all__ = ["agent", "host", "pgherd"]

KEYS = ("initialize", "config", "history")


@pytest.fixture
def known(pgherd: Command, agent: Agent, tmp_path: Path, real_etcd: Etcd) -> Host:
    hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
    known = Host(pgherd, agent, tmp_path, hosts)
    known.show()
    return known


async def publish(etcd: Etcd, role: str, state: str = "running") -> None:
    """Have pg1 lead and say that it plays *role*."""
    url = "postgres://h:5432/postgres"
    data = {"conn_url": url, "api_url": "http://h:8008/patroni", "role": role, "state": state}
    member = Put("/service/demo/members/pg1", json.dumps(data))
    await etcd.txn([], [member, Put("/service/demo/leader", "pg1")])


class TestRemove:
    async def store(self, etcd: Etcd, *more: Put) -> None:
        puts = [Put(f"/service/demo/{name}", "1") for name in KEYS]
        await etcd.txn([], [*puts, Put("/service/demo2/config", "other"), *more])

    async def test_the_cluster_is_forgotten_and_no_other(
        self, known: Host, real_etcd: Etcd
    ) -> None:
        await self.store(real_etcd)
        told = await asyncio.to_thread(known.json, "remove", "demo", "--force")
        assert told == {"ok": True, "deleted": [f"/service/demo/{name}" for name in sorted(KEYS)]}
        _, left = await real_etcd.range("/service/")
        assert [each.key for each in left] == ["/service/demo2/config"]

    async def test_while_an_agent_runs_it_is_refused(self, known: Host, real_etcd: Etcd) -> None:
        lease = await real_etcd.lease_grant(60)
        await self.store(real_etcd, Put("/service/demo/members/pg3", "{}", lease))
        code, _, problems = await asyncio.to_thread(known, "remove", "--force")
        assert code == 1
        assert "agents are running: pg3; stop them first" in problems
        _, left = await real_etcd.range("/service/demo/")
        assert len(left) == len(KEYS) + 1

    async def test_nothing_is_deleted_unasked(self, known: Host, real_etcd: Etcd) -> None:
        await self.store(real_etcd)
        assert (await asyncio.to_thread(known, "remove"))[0] == 2
        _, left = await real_etcd.range("/service/demo/")
        assert len(left) == len(KEYS)

    async def test_the_wrong_name_deletes_nothing(
        self, known: Host, real_etcd: Etcd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.store(real_etcd)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("click.prompt", lambda *_, **__: "dmeo")
        code, _, problems = await asyncio.to_thread(known, "remove")
        assert (code, problems) == (1, "pgherd: 'dmeo' is not 'demo': nothing was deleted\n")

    async def test_where_there_is_nothing_it_says_so(self, known: Host) -> None:
        code, _, problems = await asyncio.to_thread(known, "remove", "--force")
        assert (code, problems) == (1, "pgherd: etcd holds nothing of cluster demo\n")


class TestStandbyClusters:
    async def test_it_is_demoted_and_waited_for(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("PATCH", "/config", 200, {})
        await publish(real_etcd, "primary")
        command = asyncio.create_task(
            asyncio.to_thread(known, "demote-cluster", "--host", "10.0.0.9,10.0.0.8", "--force")
        )
        await publish(real_etcd, "standby_leader")
        code, output, _ = await command
        assert code == 0
        assert "Cluster demo is demoted" in output
        assert known.agent.changes == [
            ("PATCH", "/config", {"standby_cluster": {"host": "10.0.0.9,10.0.0.8"}})
        ]

    async def test_it_is_promoted_and_waited_for(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("GET", "/config", 200, {"standby_cluster": {"host": "x"}})
        known.agent.say("PATCH", "/config", 200, {})
        await publish(real_etcd, "primary")
        told: Any = await asyncio.to_thread(known.json, "promote-cluster", "--force")
        assert told == {"ok": True, "leader": "pg1"}
        assert known.agent.changes == [("PATCH", "/config", {"standby_cluster": None})]

    async def test_what_takes_too_long_is_4(self, known: Host, real_etcd: Etcd) -> None:
        known.agent.say("PATCH", "/config", 200, {})
        await publish(real_etcd, "primary")
        code, _, problems = await asyncio.to_thread(
            known, "demote-cluster", "--restore-command", "cp", "--within", "1", "--force"
        )
        assert (code, problems) == (4, "pgherd: after 1 s: pg1 is primary, running\n")

    def test_it_must_be_said_whom_to_follow(self, host: Host) -> None:
        assert host("demote-cluster", "--force")[0] == 2

    def test_what_stands_alone_is_not_promoted(self, host: Host) -> None:
        host.agent.say("GET", "/config", 200, {})
        assert host("promote-cluster", "--force")[0] == 1
