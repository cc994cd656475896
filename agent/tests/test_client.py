# SPDX-License-Identifier: GPL-3.0-or-later
"""The command on a machine that is no member: its own configuration, and whom it asks then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import yaml

from agent.tests.builders import raw_config
from agent.tests.command import Agent, Command, agent, pgherd
from agent.tests.door import make_certificate
from agent.tests.etcd_processes import free_ports
from pgherd.client_config import build_client, is_client
from pgherd.commands import session
from pgherd.errors import ConfigError
from pgherd.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgherd.etcd import Etcd

__all__ = ["agent", "pgherd"]

ACCOUNT = {"username": "herd", "password": "s3cret"}
HOSTS = {"etcd3": {"hosts": ["192.0.2.1:2379"]}}


def problems(raw: dict[str, Any]) -> list[str]:
    """Return what is wrong with a client's configuration."""
    try:
        build_client(raw, Path("/home/me"))
    except ConfigError as error:
        return list(error.problems)
    return []


class TestTheFile:
    def test_a_members_file_is_told_from_a_clients(self, tmp_path: Path) -> None:
        assert not is_client(raw_config(tmp_path))
        assert is_client({"scope": "demo", **HOSTS})
        assert not is_client({"scope": "demo", "postgresql": {}, **HOSTS})
        assert not is_client({"restapi": {"listen": "0.0.0.0:8008"}, **HOSTS})
        assert not is_client({})

    @pytest.mark.parametrize(
        ("etcd", "endpoints"),
        [
            ({"hosts": "a:2379, b:2379"}, ("http://a:2379", "http://b:2379")),
            ({"hosts": ["a:2379"], "protocol": "https"}, ("https://a:2379",)),
            ({"host": "a:2379"}, ("http://a:2379",)),
            ({"url": "https://a:2379/"}, ("https://a:2379",)),
            ({"proxy": "http://a:2379"}, ("http://a:2379",)),
        ],
    )
    def test_etcd_is_named_as_patronictl_has_it(
        self, etcd: dict[str, Any], endpoints: tuple[str, ...]
    ) -> None:
        assert build_client({"etcd3": etcd}, Path()).etcd_endpoints == endpoints

    def test_what_ctl_lacks_is_taken_from_restapi(self) -> None:
        rest = {"authentication": ACCOUNT, "cafile": "/etc/ca.crt"}
        client = build_client({"restapi": rest, **HOSTS}, Path())
        assert client.ctl.ca == "/etc/ca.crt"
        assert client.ctl.headers["Authorization"].startswith("Basic ")

    def test_paths_begin_where_the_file_is_or_at_home(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/home/me")
        etcd = {"hosts": ["a:1"], "cacert": "etcd.crt", "cert": "~/me.crt", "key": "/k"}
        tls = build_client({"etcd3": etcd}, Path("/home/me/.config/pgherd")).etcd_tls
        assert tls.ca == "/home/me/.config/pgherd/etcd.crt"
        assert (tls.certificate, tls.key) == ("/home/me/me.crt", "/k")

    def test_its_name_and_namespace(self) -> None:
        client = build_client({"scope": "demo", "namespace": "/db/", **HOSTS}, Path())
        assert (client.scope, client.namespace) == ("demo", "db")
        assert client.of("other").scope == "other"

    @pytest.mark.parametrize(
        ("raw", "begin"),
        [
            ({"ctl": {}}, "etcd3.hosts: is missing; without it, ctl.agents"),
            ({"etcd": {}, **HOSTS}, "etcd: unknown key; did you mean `etcd3`?"),
            ({"etcd3": {"hosts": ["a:1"], "username": "me"}}, "etcd3.password: is missing"),
            ({"etcd3": {"url": "a:2379"}}, "etcd3.url: must be a URL"),
            ({"ctl": {"agents": "http://a:8008"}}, "ctl.agents: must be a list of URLs"),
            ({"ctl": {"authentication": {"username": "x"}}, **HOSTS}, "ctl.authentication: must"),
        ],
    )
    def test_what_is_wrong_is_named(self, raw: dict[str, Any], begin: str) -> None:
        [problem] = problems(raw)
        assert problem.startswith(begin)


class Outside:
    """A machine with a client's configuration, whose cluster's agents are all *agent*."""

    def __init__(self, run: Command, agent: Agent, directory: Path, **raw: Any) -> None:
        self._run = run
        self.agent = agent
        self.path = directory / "pgherdctl.yml"
        self.say(**raw)

    def say(self, **raw: Any) -> None:
        """Replace the configuration."""
        self.path.write_text(yaml.safe_dump({"ctl": {"authentication": ACCOUNT}, **raw}))

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(*arguments, "--config", str(self.path))

    def cluster(self) -> dict[str, Any]:
        """Return a body of GET /cluster."""
        url = f"http://{self.agent.address}/patroni"
        row = {"state": "streaming", "api_url": url, "timeline": 1, "port": 5432, "lag": 0}
        leader = {**row, "name": "pg1", "host": "pg1", "role": "leader", "state": "running"}
        return {"members": [leader, {**row, "name": "pg2", "host": "pg2", "role": "replica"}]}


@pytest.fixture
def outside(pgherd: Command, agent: Agent, tmp_path: Path) -> Outside:
    """A machine that only agents can be reached from."""
    known = Outside(pgherd, agent, tmp_path)
    asked = {"agents": [f"http://127.0.0.1:{free_ports(1)[0]}", f"http://{agent.address}"]}
    known.say(scope="demo", ctl={"authentication": ACCOUNT, **asked})
    agent.say("GET", "/config", 200, {"ttl": 30})
    agent.say("GET", "/cluster", 200, {**known.cluster(), "scope": "demo"})
    return known


class TestByAgents:
    def test_the_next_agent_is_asked_when_one_is_silent(self, outside: Outside) -> None:
        code, output, _ = outside("list", "demo")
        assert code == 0
        assert "pg2" in output

    def test_what_changes_something_carries_the_password(self, outside: Outside) -> None:
        outside.agent.say("POST", "/reload", 200, "reloaded")
        assert outside("reload", "pg2", "--force")[0] == 0
        assert outside.agent.headers[-1]["Authorization"].startswith("Basic ")

    def test_what_needs_etcd_says_so(self, outside: Outside) -> None:
        code, _, complaint = outside("wait", "--leader")
        assert (code, complaint) == (
            1, "pgherd: this needs etcd, and etcd3.hosts is missing in the configuration\n",
        )  # fmt: skip

    def test_nobody_to_ask_is_3(self, outside: Outside) -> None:
        outside.say(scope="demo", ctl={"agents": [f"http://127.0.0.1:{free_ports(1)[0]}"]})
        code, _, complaint = outside("list")
        assert code == 3
        assert "no agent of ctl.agents answers" in complaint
        assert complaint.endswith("does not answer: Connection refused\n")

    def test_what_looks_at_a_hosts_files_says_where_to_run_it(self, outside: Outside) -> None:
        code, _, complaint = outside("doctor")
        assert code == 1
        assert "is a client's: run it on a host of the cluster" in complaint

    def test_whose_role_is_waited_for_must_be_said(self, outside: Outside) -> None:
        code, _, complaint = outside("wait", "--role", "replica")
        assert code == 2
        assert "say whose" in complaint

    def test_the_file_can_be_checked(self, outside: Outside) -> None:
        assert outside("check-config") == (0, "", "")
        outside.say(scope="demo", ctl={"agents": ["http://a:1"], "cacert": "/none"})
        code, _, complaint = outside("check-config")
        assert (code, complaint.split(": ")[1]) == (1, "ctl")

    def test_files_that_cannot_be_used_are_one_line(self, outside: Outside) -> None:
        agents = [f"http://{outside.agent.address}"]
        outside.say(scope="demo", ctl={"agents": agents, "cacert": "none.crt"})
        code, _, complaint = outside("list")
        assert code == 1
        ca = outside.path.with_name("none.crt")
        assert complaint == f"pgherd: ctl: {ca}: cannot be used: No such file or directory\n"

    @pytest.mark.parametrize("trusted", [True, False])
    def test_a_certificate_that_is_not_trusted_is_told_from_silence(
        self, outside: Outside, trusted: bool
    ) -> None:
        tls = make_certificate(outside.path.parent, "agent")
        context = tls.context()
        assert context
        outside.agent.use_tls(context)
        ctl = {"agents": [f"https://{outside.agent.address}"]}
        outside.say(scope="demo", ctl={**ctl, "cacert": tls.certificate} if trusted else ctl)
        code, output, complaint = outside("show-config")
        if trusted:
            assert (code, output) == (0, "ttl: 30\n")
        else:
            assert code == 3
            assert "a certificate that is not trusted" in complaint
            assert "see ctl.cacert" in complaint

    def test_the_clusters_name_may_be_left_to_the_command_line(self, outside: Outside) -> None:
        asked = {"agents": [f"http://{outside.agent.address}"]}
        outside.say(ctl={"authentication": ACCOUNT, **asked})
        outside.agent.say("POST", "/reload", 200, "reloaded")
        assert outside("reload", "demo", "pg2", "--force")[0] == 0
        code, _, complaint = outside("list")
        assert code == 2
        assert "names no cluster: say which one is meant" in complaint


@pytest_asyncio.fixture
async def cluster(
    pgherd: Command, agent: Agent, tmp_path: Path, real_etcd: Etcd
) -> AsyncIterator[Outside]:
    """A machine that reaches etcd, where pg1 leads pg2."""
    hosts = [endpoint.removeprefix("http://") for endpoint in real_etcd.endpoints]
    known = Outside(pgherd, agent, tmp_path, scope="demo", etcd3={"hosts": hosts})
    lease = await real_etcd.lease_grant(60)
    published = {"api_url": f"http://{agent.address}/patroni", "state": "running", "timeline": 1}
    for name, role in (("pg1", "primary"), ("pg2", "replica")):
        store = Store(real_etcd, "service", "demo", name)
        await store.publish({**published, "conn_url": f"postgres://{name}/x", "role": role}, lease)
    await Store(real_etcd, "service", "demo", "pg1").take_leader(lease)
    yield known


class TestByEtcd:
    async def test_it_tells_who_is_there(self, cluster: Outside) -> None:
        code, output, _ = await asyncio.to_thread(cluster, "list", "--json")
        rows = json.loads(output)["members"]
        assert code == 0
        assert [(row["name"], row["role"]) for row in rows] == [
            ("pg1", "leader"), ("pg2", "replica"),
        ]  # fmt: skip

    async def test_it_waits(self, cluster: Outside) -> None:
        assert await asyncio.to_thread(cluster, "wait", "--leader", "pg1") == (0, "", "")

    async def test_it_has_an_agent_do_things(self, cluster: Outside) -> None:
        cluster.agent.say("POST", "/reload", 200, "reloaded")
        code, _, complaint = await asyncio.to_thread(cluster, "reload", "pg1", "--force")
        assert (code, complaint) == (0, "")
        assert cluster.agent.changes == [("POST", "/reload", {})]


async def test_an_etcd_that_is_silent_is_3_and_says_what_to_look_at(
    pgherd: Command, agent: Agent, tmp_path: Path
) -> None:
    etcd = {"hosts": [f"127.0.0.1:{free_ports(1)[0]}"]}
    outside = Outside(pgherd, agent, tmp_path, scope="demo", etcd3=etcd)
    code, _, complaint = await asyncio.to_thread(outside, "list")
    assert code == 3
    assert "can this machine reach it" in complaint


class TestWhereItIs:
    @pytest.fixture
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
        """Where a host's file would be, and the user's own."""
        host = tmp_path / "etc" / "pgherd.yml"
        monkeypatch.setattr(session, "CONFIG", str(host))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
        monkeypatch.delenv("PGHERD_CONFIG", raising=False)
        for path in (host, session.own_path()):
            path.parent.mkdir(parents=True)
        return host, session.own_path()

    def test_the_hosts_own_goes_before_the_users(self, places: tuple[Path, Path]) -> None:
        host, own = places
        own.touch()
        assert session._default_path() == own
        host.touch()
        assert session._default_path() == host

    def test_the_environment_goes_before_both(
        self, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places[0].touch()
        monkeypatch.setenv("PGHERD_CONFIG", "/else.yml")
        assert session._default_path() == Path("/else.yml")

    def test_without_any_it_is_said_what_to_write(
        self, places: tuple[Path, Path], pgherd: Command
    ) -> None:
        host, own = places
        code, _, complaint = pgherd("list")
        assert code == 1
        assert complaint.splitlines() == [
            f"pgherd: {host}: cannot be read: No such file or directory",
            f"pgherd: is this a host of a cluster? elsewhere {own} says where the cluster is",
        ]
