# SPDX-License-Identifier: GPL-3.0-or-later
"""`pgherd doctor`: how bad each thing is, what there is to be found, and what it says to do."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import config
from agent.tests.command import Command, Host, agent, host, pgherd
from pgherd.commands import examine_cluster, examine_host, findings
from pgherd.commands.diagnose import drawn
from pgherd.commands.findings import Finding, Level, good, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgherd.etcd import Etcd

__all__ = ["agent", "host", "pgherd"]

GB = 2**30


def levels(found: Iterable[Finding]) -> list[str]:
    return [each.level.value for each in found]


class Patient:
    """What the doctor knows already, said beforehand."""

    def __init__(self, **known: Any) -> None:
        self.name = "pg1"
        self.cluster: dict[str, Any] = {"members": []}
        self.nodes: dict[str, Any] = {}
        self.node: dict[str, Any] = {}
        self.__dict__.update(known)
        self.members = self.cluster["members"]
        self.peers = [row for row in self.members if row["name"] != self.name]


class TestJudgements:
    @pytest.mark.parametrize(
        ("seconds", "level"), [(0.004, "good"), (0.2, "warning"), (0.6, "problem")]
    )
    def test_the_latency_of_etcd(self, seconds: float, level: str) -> None:
        assert findings.judge_latency(seconds, 1.0).level.value == level

    @pytest.mark.parametrize(("free", "level"), [(50, "good"), (14, "warning"), (4, "problem")])
    def test_the_room_on_a_disk(self, free: int, level: str) -> None:
        found = findings.judge_room("disk", "/data", free * GB, 100 * GB)
        assert found.level.value == level
        assert f"{free}.0 GB of 100.0 GB free" in found.text

    @pytest.mark.parametrize(
        ("seconds", "precision", "level"),
        [(0.2, 0.01, "good"), (-5.0, 0.1, "warning"), (5.0, 0.1, "warning"), (3.0, 2.5, "good")],
    )
    def test_a_clock(self, seconds: float, precision: float, level: str) -> None:
        assert findings.judge_skew("pg2", seconds, precision).level.value == level

    @pytest.mark.parametrize(
        ("days", "level"), [(90, "good"), (20, "warning"), (3, "problem"), (-1, "problem")]
    )
    def test_a_certificate(self, days: float, level: str) -> None:
        assert findings.judge_certificate("/x.crt", days).level.value == level

    @pytest.mark.parametrize(
        ("row", "level"),
        [
            ({"state": "streaming"}, "good"),
            ({"state": "streaming", "pgherd": {"lag": 9, "lag_seconds": 0.1}}, "good"),
            ({"state": "streaming", "pgherd": {"lag": 9, "lag_seconds": 60.0}}, "warning"),
            ({"state": "stopped"}, "problem"),
        ],
    )
    def test_a_standby(self, row: dict[str, Any], level: str) -> None:
        assert findings.judge_standby({"name": "pg2", **row}).level.value == level

    def test_whatever_is_not_well_says_what_to_do(self) -> None:
        bad = [
            findings.judge_latency(2.0, 1.0),
            findings.judge_room("disk", "/data", 1, 100),
            findings.judge_skew("pg2", 60.0, 0.1),
            findings.judge_certificate("/x.crt", 1),
            findings.judge_standby({"name": "pg2", "state": "stopped"}),
        ]
        assert all(each.remedy for each in bad)


class TestThisHost:
    def test_a_file_with_mistakes(self, tmp_path: Path) -> None:
        path = tmp_path / "pgherd.yml"
        path.write_text("scope: a b\n")
        found = list(examine_host.configuration(path))
        assert set(levels(found)) == {"problem"}
        assert any(each.text.startswith("scope: must be a name") for each in found)

    def test_a_file_that_everybody_may_read(self, host: Host) -> None:
        path = Path(host.path)
        path.chmod(0o644)
        assert levels(examine_host.configuration(path)) == ["warning"]
        path.chmod(0o640)
        assert levels(examine_host.configuration(path)) == ["good"]

    def test_a_data_disk(self, tmp_path: Path) -> None:
        (tmp_path / "data" / "pg_wal").mkdir(parents=True)
        [found] = examine_host.disk(Patient(config=config(tmp_path)))  # type: ignore[arg-type]
        assert str(tmp_path / "data") in found.text

    def test_a_disk_that_the_agent_calls_sick(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        node = {"pgherd": {"disk": "it is read-only"}}
        patient = Patient(config=config(tmp_path), node=node)
        first = next(examine_host.disk(patient))  # type: ignore[arg-type]
        assert (first.level, first.text) == (Level.PROBLEM, "the agent says: it is read-only")

    @pytest.mark.parametrize(
        ("mode", "level"), [("off", "good"), ("automatic", "hint"), ("required", "problem")]
    )
    def test_a_watchdog_that_is_not_there(self, tmp_path: Path, mode: str, level: str) -> None:
        known = config(tmp_path, watchdog={"mode": mode, "device": str(tmp_path / "none")})
        assert levels(examine_host.watchdog(Patient(config=known))) == [level]  # type: ignore[arg-type]

    def test_certificates(self, tmp_path: Path) -> None:
        paths = {days: str(tmp_path / f"{days}.crt") for days in (3, 400)}
        for days, path in paths.items():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-keyout", f"{path}.key", "-out", path, "-days", str(days),
                 "-subj", "/CN=pg1"],
                check=True, capture_output=True,
            )  # fmt: skip
        etcd = {"hosts": ["127.0.0.1:1"], "cert": paths[3], "cacert": paths[400]}
        known = config(tmp_path, etcd3={**etcd, "key": paths[3] + ".key"})
        found = list(examine_host.certificates(Patient(config=known)))  # type: ignore[arg-type]
        assert {each.text.split()[0]: each.level.value for each in found} == {
            paths[3]: "problem",
            paths[400]: "good",
        }

    def test_a_certificate_that_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "ca.crt"
        file.write_text("nothing")
        known = config(tmp_path, etcd3={"hosts": ["127.0.0.1:1"], "cacert": str(file)})
        assert levels(examine_host.certificates(Patient(config=known))) == ["problem"]  # type: ignore[arg-type]


class TestTheCluster:
    def test_without_a_leader(self) -> None:
        body = {"members": [{"name": "pg1", "role": "replica"}]}
        assert levels(examine_cluster.leadership(Patient(cluster=body))) == ["problem"]  # type: ignore[arg-type]

    def test_paused_and_waiting_for_a_restart(self) -> None:
        rows = [{"name": "pg1", "role": "leader", "timeline": 1, "pending_restart": True}]
        patient = Patient(cluster={"members": rows, "pause": True})
        found = list(examine_cluster.leadership(patient))  # type: ignore[arg-type]
        assert levels(found) == ["good", "warning", "hint"]
        assert found[2].remedy == "pgherd restart --rolling --pending"

    async def test_an_etcd_of_three_that_is_well(self, tmp_path: Path, real_etcd: Etcd) -> None:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        patient = Patient(config=config(tmp_path, etcd3={"hosts": hosts}))
        found = await asyncio.to_thread(lambda: list(examine_cluster.etcd(patient)))  # type: ignore[arg-type]
        assert [each.level for each in found[:3]] == [Level.GOOD] * 3
        assert "a linearizable read takes" in found[-1].text

    async def test_an_etcd_one_of_which_is_gone(self, tmp_path: Path, real_etcd: Etcd) -> None:
        hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
        known = config(tmp_path, etcd3={"hosts": [*hosts[:2], "127.0.0.1:1"]})
        found = await asyncio.to_thread(
            lambda: list(examine_cluster.etcd(Patient(config=known)))  # type: ignore[arg-type]
        )
        assert levels(found)[:3] == ["good", "good", "problem"]
        assert "systemctl status etcd" in found[2].remedy

    def test_no_etcd_at_all(self, tmp_path: Path) -> None:
        known = config(tmp_path, etcd3={"hosts": ["127.0.0.1:1"]})
        found = list(examine_cluster.etcd(Patient(config=known)))  # type: ignore[arg-type]
        assert levels(found) == ["problem", "problem"]
        assert found[0].text.count("http://127.0.0.1:1") == 1
        assert "it has no quorum" in found[1].text

    def test_a_peer_that_answers_nothing(self, tmp_path: Path) -> None:
        row = {"name": "pg2", "role": "leader", "host": "127.0.0.1", "port": 1}
        patient = Patient(config=config(tmp_path), cluster={"members": [row]}, nodes={"pg2": {}})
        found = list(examine_cluster.peers(patient))  # type: ignore[arg-type]
        assert levels(found) == ["problem", "problem"]
        assert "the agent of pg2 does not answer" in found[0].text
        assert "PostgreSQL of pg2 (127.0.0.1:1)" in found[1].text


class TestTheCommand:
    def test_problems_are_1_and_counted(self, host: Host) -> None:
        host.show(host.member("pg2"))
        code, output, problems = host("doctor", "--quiet")
        assert code == 1
        assert "there is no leader" in output
        assert "-> " in output
        assert "problems" in problems

    def test_for_a_script_everything_is_told(self, host: Host) -> None:
        import json

        code, output, _ = host("doctor", "--json")
        told = json.loads(output)
        assert code == 1
        assert told["ok"] is False
        assert {"level", "area", "text", "remedy"} == set(told["findings"][0])

    def test_a_configuration_that_cannot_be_used_ends_it(
        self, pgherd: Command, tmp_path: Path
    ) -> None:
        code, output, _ = pgherd("doctor", "-c", str(tmp_path / "none.yml"))
        assert code == 1
        assert "cannot be read" in output

    def test_what_is_well_is_left_out_when_it_is_quiet(self) -> None:
        found = [good("etcd", "well"), warning("disk", "full", "make room"), problem("x", "y", "z")]
        text = drawn(found, quiet=True)
        assert "well" not in text
        assert "make room" in text
        assert "well" in drawn(found, quiet=False)
