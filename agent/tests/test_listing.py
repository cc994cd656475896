# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd list`: how the table reads, and where its content comes from."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from agent.tests.builders import ME, cluster, member, raw_config, sync_key, synchronous, view
from agent.tests.command import Host, agent, host, pgherd
from agent.tests.etcd_processes import free_ports
from agent.tests.fakes import Rig
from pgherd.api import Api
from pgherd.commands import drawing
from pgherd.commands.drawing import Cell, Column, duration, table
from pgherd.commands.listing import render, with_lag
from pgherd.commands.session import Session
from pgherd.errors import NobodyAnswersError
from pgherd.etcd import Put
from pgherd.model import Instance
from pgherd.published import cluster_body
from pgherd.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.etcd import Etcd
    from pgherd.model import Cluster, SyncKey


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw as on a wide terminal, in boxes."""
    monkeypatch.setattr(drawing, "has_boxes", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")


def drawn(body: dict[str, Any], nodes: dict[str, Any] | None = None, *, tree: bool = False) -> str:
    """Return the table without its colours."""
    return click.unstyle(render(body, nodes, tree=tree))


def line(text: str, name: str) -> list[str]:
    """Return the cells of the row of member *name*."""
    [row] = [row for row in text.splitlines() if f" {name} " in row and "│" in row]
    return [cell.strip() for cell in row.strip()[1:-1].split("│")]


__all__ = ["agent", "host", "pgherd"]
LAG = 5
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
        assert line(text, "pg3")[LAG] == "unknown"

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
        assert line(drawn(body(optime=optime)), "pg1")[LAG] == shown

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

    def test_what_several_wait_for_is_said_once(self) -> None:
        reason = {"max_connections": {"old_value": "100", "new_value": "200"}}
        both = {"pending_restart": True, "pending_restart_reason": reason}
        text = drawn(body(members=[member(ME, **both), member("pg3", **both)]))
        assert "* pg1, pg3: max_connections becomes 200 (now 100) when" in text

    def test_a_planned_restart_is_told_with_its_conditions(self) -> None:
        planned = {"schedule": "2026-01-01T10:00:00+00:00", "postgres_version": "17.5"}
        text = drawn(body(members=[member(ME, scheduled_restart=planned)]))
        assert "pg1: restart at 2026-01-01T10:00:00+00:00 (postgres version: 17.5)" in text

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


class TestTheLagThatTheLeaderSees:
    def told(self, **standby: Any) -> list[str]:
        node = {"pgherd": {"standbys": {"pg1": {"lag": 0, "lag_seconds": 0.0, **standby}}}}
        return line(drawn(with_lag(body(), node)), "pg1")

    def test_it_is_newer_than_what_etcd_knows(self) -> None:
        assert self.told(lag=2048, lag_seconds=1.26)[LAG:] == ["2.0 kB", "1.3 s"]

    def test_it_stands_beside_patronis_keys(self) -> None:
        node = {"pgherd": {"standbys": {"pg1": {"lag": 7, "lag_seconds": 0.5}}}}
        rows = {row["name"]: row for row in with_lag(body(), node)["members"]}
        assert rows["pg1"]["lag"] == 0x1000
        assert rows["pg1"]["pgherd"] == {"lag": 7, "lag_seconds": 0.5}
        assert "pgherd" not in rows["pg3"]

    def test_what_else_we_tell_of_a_member_stays(self) -> None:
        node = {"pgherd": {"standbys": {"pg1": {"lag": 7, "lag_seconds": 0.5}}}}
        known = body(members=[member(ME, pgherd={"upstream": "pg2:5432"}, **REPLICA)])
        [row] = [each for each in with_lag(known, node)["members"] if each["name"] == ME]
        assert row["pgherd"] == {"upstream": "pg2", "lag": 7, "lag_seconds": 0.5}

    def test_a_leader_that_does_not_answer_leaves_what_etcd_knows(self) -> None:
        told = with_lag(body(), {})
        assert told["members"] == body()["members"]
        assert told["pgherd"] == {"leader_answers": False}
        assert "The leader does not answer" in drawn(told)
        assert "does not answer" not in drawn(with_lag(body(), {"state": "running"}))

    @pytest.mark.parametrize(
        ("seconds", "shown"),
        [
            (0.04, "0.0 s"),
            (59.6, "60 s"),
            (119.8, "2 min 00 s"),
            (7200, "2 h 00 min"),
            (9e5, "10 d 10 h"),
        ],
    )
    def test_a_time_reads_as_people_read_it(self, seconds: float, shown: str) -> None:
        assert duration(seconds) == shown


class TestTheTree:
    def members(self, **sources: str) -> dict[str, Any]:
        known = [
            member(name, role="primary" if name == "pg2" else "replica")
            if name not in sources
            else member(name, tags={"replicatefrom": sources[name]})
            for name in ("pg1", "pg2", "pg3", "pg4")
        ]
        return body(members=known)

    def names(self, told: dict[str, Any]) -> list[str]:
        rows = [row for row in drawn(told, tree=True).splitlines() if row.startswith("│")]
        return [re.split(" +│ ", row[2:])[0] for row in rows]

    def test_the_leader_is_the_root(self) -> None:
        assert self.names(self.members()) == ["pg2", "├─ pg1", "├─ pg3", "└─ pg4"]

    def test_a_cascade_hangs_on_its_source(self) -> None:
        names = self.names(self.members(pg4="pg1"))
        assert names == ["pg2", "├─ pg1", "│  └─ pg4", "└─ pg3"]

    def test_a_source_that_is_not_there_means_the_leader(self) -> None:
        assert "└─ pg4" in self.names(self.members(pg4="gone"))

    def test_members_in_a_circle_are_shown_too(self) -> None:
        shown = drawn(self.members(pg3="pg4", pg4="pg3"), tree=True)
        assert "? pg3" in shown
        assert "? pg4" in shown

    def streaming(self, **upstreams: str) -> dict[str, Any]:
        """Return three members, of whom each says that it streams from an address."""
        known = [
            member(name, replication_state="streaming", pgherd={"upstream": address})
            for name, address in upstreams.items()
        ]
        return body(members=known)

    def test_it_shows_who_is_streamed_from_not_who_should_be(self) -> None:
        told = self.streaming(pg1="pg2:5432", pg3="pg1:5432")
        assert self.names(told) == ["pg2", "└─ pg1", "   └─ pg3"]
        text = drawn(told, tree=True)
        assert line(text, "└─ pg1")[-1] == "pg2"
        assert line(text, "└─ pg3")[-1] == "pg1 (wanted: pg2)"

    def test_a_relay_that_is_not_used_is_marked(self) -> None:
        told = self.streaming(pg1="pg2:5432", pg3="pg2:5432")
        told["members"][2]["tags"] = {"replicatefrom": "pg1"}
        assert line(drawn(told, tree=True), "└─ pg3")[-2] == "pg2 (wanted: pg1)"

    def test_whoever_streams_from_nobody_is_marked(self) -> None:
        stays = member("pg3", replication_state="in archive recovery")
        assert line(drawn(body(members=[stays]), tree=True), "└─ pg3")[-1] == "nobody (wanted: pg2)"

    def test_a_standby_leader_streams_from_another_cluster(self) -> None:
        leads = {"name": "pg2", "role": "standby_leader", "state": "streaming", "host": "pg2"}
        told = {"members": [{**leads, "pgherd": {"upstream": "far:5432"}}], "scope": "demo"}
        assert line(drawn(told, tree=True), "pg2")[-1] == "far:5432"

    def test_agents_that_do_not_tell_are_no_reason_to_worry(self) -> None:
        told = body(members=[member("pg3", replication_state="streaming")])
        assert line(drawn(told, tree=True), "└─ pg3")[-1] == ""

    def test_without_a_leader_all_are_shown(self) -> None:
        shown = drawn(cluster_body(cluster(None), "demo"), tree=True)
        assert all(name in shown for name in ("pg1", "pg2", "pg3"))


class TestTheDrawing:
    columns = (Column("Name"), Column("N", right=True))
    rows = ([Cell("a"), Cell("1", "red")], [Cell("bcdefg"), Cell("22")])

    def test_in_a_box_where_there_is_a_terminal(self) -> None:
        assert click.unstyle(table(self.columns, self.rows)) == (
            "┏━━━━━━━━┳━━━━┓\n┃ Name   ┃  N ┃\n┡━━━━━━━━╇━━━━┩\n"
            "│ a      │  1 │\n│ bcdefg │ 22 │\n└────────┴────┘"
        )

    def test_in_plain_columns_where_it_is_too_narrow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "10")
        assert click.unstyle(table(self.columns, self.rows)) == "Name     N\na        1\nbcdefg  22"

    def test_plain_lines_end_with_their_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "10")
        text = table((Column("Name"), Column("Tags")), [[Cell("a"), Cell("", dim=True)], [
            Cell("b"), Cell("nosync and more", dim=True)]])  # fmt: skip
        assert click.unstyle(text) == "Name  Tags\na\nb     nosync and more"

    def test_colours_do_not_move_the_columns(self) -> None:
        drawn = table(self.columns, self.rows)
        assert "\x1b[31m 1\x1b[0m" in drawn


def local(directory: Path, port: int, etcd: list[str]) -> Session:
    """Return the session of a command on a host whose agent listens on *port*."""
    address = f"127.0.0.1:{port}"
    hosts = [endpoint.removeprefix("http://") for endpoint in etcd]
    rest = {"listen": address, "connect_address": address}
    path = directory / "pgherd.yml"
    path.write_text(yaml.safe_dump(raw_config(directory, restapi=rest, etcd3={"hosts": hosts})))
    return Session(path, as_json=False)


class TestWhereItComesFrom:
    async def test_from_the_agent_of_this_host(self, tmp_path: Path) -> None:
        [port] = free_ports(1)
        address = f"127.0.0.1:{port}"
        rig = Rig(tmp_path, Instance(), restapi={"listen": address, "connect_address": address})
        lease = await rig.etcd.lease_grant(5)
        await rig.etcd.txn([], [Put("/service/demo/members/pg9", "{}", lease)])
        rig.loop.view = view()
        api = Api(rig.loop)
        api.start()
        session = local(tmp_path, port, ["127.0.0.1:1"])
        try:
            told = await asyncio.to_thread(session.cluster)
            node = await asyncio.to_thread(session.node, {"api_url": rig.config.api_url})
        finally:
            api.stop()
        assert [row["name"] for row in told["members"]] == ["pg9"]
        assert node["patroni"]["name"] == ME

    async def test_from_etcd_when_the_agent_is_silent(
        self, tmp_path: Path, real_etcd: Etcd
    ) -> None:
        [port] = free_ports(1)
        lease = await real_etcd.lease_grant(60)
        await Store(real_etcd, "service", "demo", "pg9").publish({"state": "running"}, lease)
        session = local(tmp_path, port, list(real_etcd.endpoints))
        told = await asyncio.to_thread(session.cluster)
        assert [(row["name"], row["state"]) for row in told["members"]] == [("pg9", "running")]

    async def test_when_both_are_silent_the_error_says_where_to_look(self, tmp_path: Path) -> None:
        port, *etcd = free_ports(3)
        session = local(tmp_path, port, [f"127.0.0.1:{each}" for each in etcd])
        with pytest.raises(NobodyAnswersError, match="systemctl status pgherd etcd"):
            await asyncio.to_thread(session.cluster)

    async def test_a_member_that_does_not_answer_tells_nothing(self, tmp_path: Path) -> None:
        [port] = free_ports(1)
        session = local(tmp_path, port, ["127.0.0.1:1"])
        url = session.config.api_url
        assert await asyncio.to_thread(session.node, {"api_url": url}) == {}


@pytest.mark.parametrize("command", ["history", "show-config", "topology", "dsn", "pause"])
def test_whatever_needs_etcd_tells_what_the_agent_says_meanwhile(host: Host, command: str) -> None:
    ours = {"rule": "lead_by_promise", "why": "a majority has promised to wait"}
    host.agent.answers.clear()
    host.agent.say("GET", "/patroni", 200, {"role": "primary", "state": "running", "pgherd": ours})
    code, output, problems = host(command)
    assert (code, output) == (3, "")
    assert "etcd does not answer; the agent of this host does: primary, running" in problems
    assert problems.endswith("systemctl status etcd\n")


def test_without_etcd_the_agent_tells_of_this_host_at_least(host: Host) -> None:
    ours = {"rule": "lead_by_promise", "why": "a majority has promised to wait"}
    host.agent.answers[("GET", "/cluster")] = [(503, "etcd does not answer", {})]
    host.agent.say("GET", "/patroni", 200, {"role": "primary", "state": "running", "pgherd": ours})
    code, _, problems = host("list")
    assert code == 3
    assert problems == (
        "pgherd: etcd does not answer; the agent of this host does: primary, running, "
        "rule lead_by_promise: a majority has promised to wait; more than half of etcd's members "
        "must run and be reached: systemctl status etcd\n"
    )
