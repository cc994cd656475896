# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd list`: how the table reads, and where its content comes from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from agent.tests.builders import ME, cluster, config, member, sync_key, synchronous, view
from agent.tests.etcd_processes import free_ports
from agent.tests.fakes import Rig
from pgherd.api import Api
from pgherd.errors import StoreError
from pgherd.etcd import Put
from pgherd.listing import fetch, fetch_node, render
from pgherd.model import Instance
from pgherd.published import cluster_body
from pgherd.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.config import Config
    from pgherd.etcd import Etcd
    from pgherd.model import Cluster, SyncKey


def drawn(body: dict[str, Any], nodes: dict[str, Any] | None = None) -> str:
    """Return the table as text of a wide terminal."""
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(render(body, nodes or {}))
    return capture.get()


def line(text: str, name: str) -> list[str]:
    """Return the cells of the row of member *name*."""
    [row] = [row for row in text.splitlines() if f" {name} " in row]
    return [cell.strip() for cell in row.strip()[1:-1].split("│")]


REPLICA = {
    "replication_state": "streaming", "receive_lsn": "0/2000", "replay_lsn": "0/2000",
    "xlog_location": 0x2000,
}  # fmt: skip


def body(**changes: Any) -> dict[str, Any]:
    """Return the body of GET /cluster of three members, pg1 a replica that lags 4 kB behind."""
    known = {"members": [member(ME, **REPLICA)], "optime": 0x3000}
    return cluster_body(cluster(**{**known, **changes}), "demo")


class TestTheTable:
    def test_a_leader_and_a_replica(self) -> None:
        text = drawn(body())
        assert "Cluster: demo" in text
        assert line(text, "pg2") == ["pg2", "pg2:5432", "Leader", "running", "1", ""]
        assert line(text, "pg1") == ["pg1", "pg1:5432", "Replica", "streaming", "1", "4.0 kB"]
        assert line(text, "pg3")[-1] == "unknown"

    @pytest.mark.parametrize(
        ("optime", "shown"),
        [
            (0x2000, "0 B"),
            (0x2000 + 1023, "1023 B"),
            (0x2000 + 1536, "1.5 kB"),
            (0x2000 + 5 * 2**20, "5.0 MB"),
            (0x2000 + 3 * 2**40, "3072.0 GB"),
        ],
    )
    def test_a_lag_reads_as_people_read_it(self, optime: int, shown: str) -> None:
        assert line(drawn(body(optime=optime)), "pg1")[-1] == shown

    def test_without_a_leader_it_says_so(self) -> None:
        assert "No leader" in drawn(cluster_body(cluster(None), "demo"))
        assert "No leader" not in drawn(body())

    def test_without_a_member_it_says_what_to_look_at(self) -> None:
        assert "is pgherd running" in drawn({"members": [], "scope": "demo"})

    def test_a_pending_restart_is_marked_and_explained(self) -> None:
        reason = {"max_connections": {"old_value": "100", "new_value": "200"}}
        waiting = member(ME, pending_restart=True, pending_restart_reason=reason)
        text = drawn(body(members=[waiting]))
        assert line(text, "pg1 *")[0] == "pg1 *"
        assert "max_connections becomes 200 (now 100)" in text

    def test_maintenance_mode_is_shown(self) -> None:
        assert "Maintenance mode" in drawn(body(config={"pause": True}))
        assert "Maintenance mode" not in drawn(body())

    @pytest.mark.parametrize(
        ("sync", "settings", "said"),
        [
            (sync_key("pg2", "pg1,pg3", 1), {}, "waits for the leader and 1 of pg1, pg3."),
            (sync_key("pg2", "pg1", 0), {"synchronous_mode": "on"}, "the leader and 1 of pg1."),
            (sync_key("pg2", "", 0), {}, "a commit is on the leader only"),
            (sync_key("pg2", "", 0), {"synchronous_mode_strict": True}, "Commits wait: no standby"),
        ],
    )
    def test_it_says_where_a_commit_is(
        self, sync: SyncKey, settings: dict[str, Any], said: str
    ) -> None:
        text = drawn(cluster_body(synchronous("pg2", sync, **settings), "demo"))
        assert said in text

    @pytest.mark.parametrize(
        "known",
        [
            cluster(),
            synchronous("pg2", None),
            synchronous("pg2", sync_key(), synchronous_mode="off"),
        ],
    )
    def test_without_synchronous_replication_it_says_nothing_of_it(self, known: Cluster) -> None:
        assert "ommit" not in drawn(cluster_body(known, "demo"))

    def test_who_acknowledges_is_shown_so(self) -> None:
        roles = {
            mode: line(
                drawn(cluster_body(synchronous("pg2", sync_key(), synchronous_mode=mode), "demo")),
                "pg1",
            )[2]
            for mode in ("on", "quorum")
        }
        assert roles == {"on": "Sync Standby", "quorum": "Quorum Standby"}

    def test_names_are_not_taken_for_markup(self) -> None:
        assert "[red]pg1" in drawn(body(members=[member("[red]pg1")]))

    def test_verbose_shows_the_rule_of_every_member_that_answers(self) -> None:
        nodes = {"pg1": {"pgherd": {"rule": "stream", "why": "steady"}}, "pg2": {}}
        text = drawn(body(), nodes)
        assert line(text, "pg1")[-1] == "stream: steady"
        assert line(text, "pg2")[-1].startswith("no answer")


def local(directory: Path, port: int, etcd: list[str]) -> Config:
    """Return the configuration of a host whose agent listens on *port*."""
    address = f"127.0.0.1:{port}"
    hosts = [endpoint.removeprefix("http://") for endpoint in etcd]
    rest = {"listen": address, "connect_address": address}
    return config(directory, restapi=rest, etcd3={"hosts": hosts})


class TestWhereItComesFrom:
    async def test_from_the_agent_of_this_host(self, tmp_path: Path) -> None:
        [port] = free_ports(1)
        address = f"127.0.0.1:{port}"
        rig = Rig(tmp_path, Instance(), restapi={"listen": address, "connect_address": address})
        lease = await rig.etcd.lease_grant(5)
        await rig.etcd.txn([], [Put("/service/demo/members/pg9", "{}", lease)])
        rig.loop.view = view()
        api = Api(rig.loop)
        await api.start()
        try:
            told = await asyncio.to_thread(fetch, rig.config)
            node = await asyncio.to_thread(fetch_node, rig.config, rig.config.api_url)
        finally:
            await api.stop()
        assert [row["name"] for row in told["members"]] == ["pg9"]
        assert node["patroni"]["name"] == ME

    async def test_from_etcd_when_the_agent_is_silent(
        self, tmp_path: Path, real_etcd: Etcd
    ) -> None:
        [port] = free_ports(1)
        lease = await real_etcd.lease_grant(60)
        await Store(real_etcd, "service", "demo", "pg9").publish({"state": "running"}, lease)
        known = local(tmp_path, port, list(real_etcd.endpoints))
        told = await asyncio.to_thread(fetch, known)
        assert [(row["name"], row["state"]) for row in told["members"]] == [("pg9", "running")]

    async def test_when_both_are_silent_the_error_says_where_to_look(self, tmp_path: Path) -> None:
        port, *etcd = free_ports(3)
        known = local(tmp_path, port, [f"127.0.0.1:{each}" for each in etcd])
        with pytest.raises(StoreError, match="systemctl status pgherd etcd"):
            await asyncio.to_thread(fetch, known)

    async def test_a_member_that_does_not_answer_tells_nothing(self, tmp_path: Path) -> None:
        [port] = free_ports(1)
        known = local(tmp_path, port, ["127.0.0.1:1"])
        assert await asyncio.to_thread(fetch_node, known, known.api_url) == {}
