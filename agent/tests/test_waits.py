# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd wait`: what counts as missing, and waiting on a real etcd."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import cluster, member, raw_config
from agent.tests.command import Command, pgherd, write
from agent.tests.etcd_processes import free_ports
from pgherd.commands.waits import Wanted, missing
from pgherd.etcd import Put
from pgherd.published import cluster_body

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.etcd import Etcd

__all__ = ["pgherd"]

LEADER = {"role": "primary", "state": "running", "timeline": 1}
STANDBY = {
    "role": "replica", "state": "running", "replication_state": "streaming", "timeline": 1,
}  # fmt: skip


def body(**changes: Any) -> dict[str, Any]:
    """Return the body of GET /cluster: pg2 leads, pg1 and pg3 stream."""
    rows = [member("pg2", **LEADER), member("pg1", **STANDBY), member("pg3", **STANDBY)]
    return cluster_body(cluster(**{"members": rows, **changes}), "demo")


class TestMissing:
    @pytest.mark.parametrize(
        ("wanted", "problems"),
        [
            (Wanted(healthy=True), []),
            (Wanted(leader=""), []),
            (Wanted(leader="pg2"), []),
            (Wanted(leader="pg1"), ["pg2 leads"]),
            (Wanted(("pg1",), role="replica"), []),
            (Wanted(("pg1", "pg2"), role="standby"), ["pg2 is leader"]),
            (Wanted(("pg2",), role="primary"), []),
            (Wanted(("pg1",), role="sync_standby"), ["pg1 is replica"]),
            (Wanted(("pg1",), state="streaming"), []),
            (Wanted(("pg1",), state="stopped"), ["pg1 is streaming"]),
            (Wanted(("pg9",), state="running"), ["pg9 is no member"]),
            (Wanted(replicas=2), []),
            (Wanted(replicas=3), ["2 standbys stream"]),
            (Wanted(settled=True), []),
            (Wanted(paused=False), []),
            (Wanted(paused=True), ["maintenance mode is off"]),
            (Wanted(leader="pg1", replicas=3), ["pg2 leads", "2 standbys stream"]),
        ],
    )
    def test_in_a_healthy_cluster(self, wanted: Wanted, problems: list[str]) -> None:
        assert missing(wanted, body()) == problems

    def test_without_a_leader(self) -> None:
        told = cluster_body(cluster(None), "demo")
        assert missing(Wanted(leader=""), told) == ["there is no leader"]
        assert missing(Wanted(healthy=True), told) == ["there is no leader"]

    def test_a_leader_that_does_not_run(self) -> None:
        told = body(members=[member("pg2", **{**LEADER, "state": "starting"})])
        assert missing(Wanted(leader="pg2"), told) == ["pg2 leads and is starting"]

    def test_a_standby_on_another_timeline_is_not_healthy(self) -> None:
        rows = [member("pg2", **{**LEADER, "timeline": 2}), member("pg1", **STANDBY)]
        problems = missing(Wanted(healthy=True), body(members=rows))
        assert problems[0] == "pg1 is streaming on timeline 1"

    def test_a_pending_restart(self) -> None:
        waiting = body(members=[member("pg1", pending_restart=True, **STANDBY)])
        assert missing(Wanted(settled=True), waiting) == ["pg1 must be restarted"]
        assert missing(Wanted(("pg3",), settled=True), waiting) == []
        late = {**body(), "pgherd": {"uninformed": ["pg1"]}}
        assert missing(Wanted(settled=True), late) == ["pg1 must take in the configuration"]
        assert missing(Wanted(("pg3",), settled=True), late) == []

    def test_maintenance_mode(self) -> None:
        assert missing(Wanted(paused=False), body(config={"pause": True})) == [
            "maintenance mode is on"
        ]

    def test_an_operation(self) -> None:
        wanted = Wanted(operation="7")
        assert missing(wanted, body(), []) == ["operation 7 is not known"]
        running = {"id": "7", "state": "running", "finished_at": None}
        assert missing(wanted, body(), [running]) == ["operation 7 is running"]
        assert missing(wanted, body(), [{**running, "finished_at": "now"}]) == []


class TestTheCommand:
    @pytest.fixture
    def path(self, tmp_path: Path, real_etcd: Etcd) -> str:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        return write(tmp_path, raw_config(tmp_path, etcd3={"hosts": hosts}))

    async def publish(self, etcd: Etcd, leader: str = "pg1", **changes: Any) -> None:
        data = {"conn_url": "postgres://h:5432/postgres", "api_url": "http://h:8008/patroni"}
        rows = {"pg1": LEADER, "pg2": STANDBY} | changes
        puts = [
            Put(f"/service/demo/members/{name}", json.dumps({**data, **row}))
            for name, row in rows.items()
        ]
        await etcd.txn([], [*puts, Put("/service/demo/leader", leader)])

    async def test_what_holds_is_not_waited_for(
        self, pgherd: Command, path: str, real_etcd: Etcd
    ) -> None:
        await self.publish(real_etcd)
        told = await asyncio.to_thread(pgherd, "wait", "-c", path, "--within", "20")
        assert told == (0, "", "")

    async def test_a_change_ends_it(self, pgherd: Command, path: str, real_etcd: Etcd) -> None:
        await self.publish(real_etcd, pg2={**STANDBY, "replication_state": "in archive recovery"})
        waiting = asyncio.create_task(
            asyncio.to_thread(pgherd, "wait", "pg2", "--state", "streaming", "-c", path)
        )
        await self.publish(real_etcd)
        assert (await waiting)[0] == 0

    async def test_what_does_not_come_is_4_and_told(
        self, pgherd: Command, path: str, real_etcd: Etcd
    ) -> None:
        await self.publish(real_etcd)
        arguments = ("wait", "--leader", "pg2", "--replicas", "2", "--within", "1", "-c", path)
        code, _, problems = await asyncio.to_thread(pgherd, *arguments)
        assert (code, problems) == (4, "pgherd: after 1 s: pg1 leads; 1 standbys stream\n")

    async def test_a_leader_that_takes_no_writes_yet_is_not_one(
        self, pgherd: Command, path: str, real_etcd: Etcd
    ) -> None:
        await self.publish(real_etcd, pg1={**LEADER, "role": "replica"})
        code, _, problems = await asyncio.to_thread(
            pgherd, "wait", "--leader", "--within", "1", "-c", path
        )
        assert code == 4
        assert "pg1 leads and is replica" in problems

    async def test_the_outcome_of_an_operation_is_the_exit_code(
        self, pgherd: Command, path: str, real_etcd: Etcd
    ) -> None:
        await self.publish(real_etcd)
        entries = [
            {
                "id": "1",
                "kind": "switchover",
                "state": "done",
                "result": "ok",
                "finished_at": "now",
            },
            {
                "id": "2",
                "kind": "switchover",
                "state": "failed",
                "result": "no",
                "finished_at": "now",
            },
        ]
        await real_etcd.txn([], [Put("/service/demo/operations", json.dumps(entries))])
        code, output, _ = await asyncio.to_thread(
            pgherd, "wait", "--operation", "1", "--json", "-c", path
        )
        assert code == 0
        assert json.loads(output)["result"] == "ok"
        code, _, problems = await asyncio.to_thread(pgherd, "wait", "--operation", "2", "-c", path)
        assert (code, problems) == (1, "pgherd: switchover 2 failed: no\n")


def test_an_etcd_that_never_answers_is_3(pgherd: Command, tmp_path: Path) -> None:
    [port] = free_ports(1)
    path = write(tmp_path, raw_config(tmp_path, etcd3={"hosts": [f"127.0.0.1:{port}"]}))
    code, _, problems = pgherd("wait", "--within", "1", "-c", path)
    assert code == 3
    assert "no etcd endpoint answered" in problems
