# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's members as Ansible's hosts: who is asked, which groups and variables come of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.inventory.cluster import (
    ask,
    groups_of,
    hosts_of,
    is_ours,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[4]
LOGIN = {"username": "", "password": "", "timeout_seconds": 2.0, "tls": {}}


def member(number: int, role: str, **more: Any) -> dict[str, Any]:
    """Return a row of `GET /cluster`."""
    url = f"http://192.0.2.{number}:8008/patroni"
    row = {"name": f"pg{number}", "role": role, "host": f"192.0.2.{number}", "api_url": url}
    state = "running" if role == "leader" else "streaming"
    return {**row, "state": state, "timeline": 4, **more}


def cluster() -> dict[str, Any]:
    """Return the body of `GET /cluster` of a cluster with one of each kind."""
    tagged = member(3, "replica", lag="unknown", tags={"nofailover": True})
    return {
        "scope": "demo",
        "members": [member(1, "leader"), member(2, "quorum_standby", lag=8), tagged],
    }


class Agent:
    """An agent that answers what it is told to."""

    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, json.dumps(cluster()), 0
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                agent.asked += 1
                self.send_response(agent.status)
                self.end_headers()
                self.wfile.write(agent.body.encode())

            def log_message(self, *words: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that is up."""
    made = Agent()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def down() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pgherd.yml", True),
        ("pgherd.yaml", True),
        ("shop.pgherd.yml", True),
        ("shop.pgherd.yaml", True),
        ("mypgherd.yml", False),
        ("hosts.yml", False),
        ("pgherd.yml.orig", False),
    ],
)
def test_a_source_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_ours(f"/etc/inventory/{name}") is expected


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("leader", ["primary"]),
        ("standby_leader", ["primary"]),
        ("sync_standby", ["replicas", "sync"]),
        ("quorum_standby", ["replicas", "sync"]),
        ("replica", ["replicas"]),
    ],
)
def test_roles_have_their_groups(role: str, expected: list[str]) -> None:
    assert groups_of(role) == expected


def test_variables_say_what_is_known() -> None:
    hosts = hosts_of(cluster(), "name")
    assert hosts["pg3"] == {
        "ansible_host": "192.0.2.3",
        "pgherd_name": "pg3",
        "pgherd_cluster": "demo",
        "pgherd_role": "replica",
        "pgherd_state": "streaming",
        "pgherd_timeline": 4,
        "pgherd_lag_bytes": None,
        "pgherd_tags": {"nofailover": True},
        "pgherd_api_url": "http://192.0.2.3:8008",
    }
    assert [hosts[name]["pgherd_lag_bytes"] for name in ("pg1", "pg2")] == [0, 8]
    assert hosts["pg1"]["pgherd_tags"] == {}


def test_hosts_may_be_called_by_their_addresses() -> None:
    assert [*hosts_of(cluster(), "address")] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


@pytest.mark.parametrize("address", ["192.0.2.1", "", None])
def test_addresses_have_to_be_the_members_own(address: str | None) -> None:
    body = cluster()
    body["members"][1]["host"] = address
    with pytest.raises(ValueError, match="say hostname: name"):
        hosts_of(body, "address")


def test_a_member_without_an_address_gets_none() -> None:
    body = {"members": [member(1, "leader", host="")]}
    assert "ansible_host" not in hosts_of(body, "name")["pg1"]


def test_the_next_agent_is_asked_when_one_is_down(agent: Agent, down: str) -> None:
    assert ask({**LOGIN, "agents": [down, agent.url + "/"]}) == cluster()


def test_all_agents_are_named_when_none_answers(down: str) -> None:
    with pytest.raises(ValueError, match="agents: none of ") as caught:
        ask({**LOGIN, "agents": [down, "http://127.0.0.1:1"]})
    assert str(caught.value).count(down) == 2
    assert str(caught.value).count("http://127.0.0.1:1:") == 1


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, '{"error": "no etcd"}', "no etcd"),
        (200, "hello", "not JSON"),
        (200, "[]", "knows of no member"),
        (200, '{"members": []}', "knows of no member"),
    ],
)
def test_an_answer_without_members_is_none(
    agent: Agent, status: int, body: str, reason: str
) -> None:
    agent.status, agent.body = status, body
    with pytest.raises(ValueError, match=reason) as caught:
        ask({**LOGIN, "agents": [agent.url]})
    assert agent.url in str(caught.value)


def test_an_empty_list_of_agents_is_refused() -> None:
    with pytest.raises(ValueError, match="none was named"):
        ask({**LOGIN, "agents": []})


@pytest.mark.parametrize(
    ("tls", "reason"),
    [({"ca": "x"}, "tls: ca is not known"), ({"cacert": "/nowhere"}, "cannot be used")],
)
def test_tls_that_cannot_be_is_refused(agent: Agent, tls: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ask({**LOGIN, "agents": [agent.url], "tls": tls})


def listed(
    source: Path, content: dict[str, Any], strict: bool = True
) -> subprocess.CompletedProcess[str]:
    """Write *content* to *source* and return what `ansible-inventory --list` makes of it."""
    source.write_text(json.dumps({"plugin": "pgherd.cluster.cluster", **content}), "utf-8")
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": str(strict),
        "ANSIBLE_NOCOLOR": "1",
    }
    return subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(source), "--list"],
        cwd=source.parent,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ansible_reads_it(agent: Agent, tmp_path: Path) -> None:
    content = {
        "agents": [agent.url],
        "group_prefix": "db_",
        "compose": {"short": "pgherd_name[-1]"},
        "keyed_groups": [{"key": "pgherd_state", "prefix": "state"}],
        "groups": {"may_lead": "not (pgherd_tags.nofailover | default(false))"},
    }
    done = listed(tmp_path / "shop.pgherd.yml", content)
    assert done.returncode == 0, done.stderr
    # Text that came over the network is no template, and marked as such.
    found = json.loads(done.stdout, object_hook=lambda each: each.get("__ansible_unsafe", each))
    assert found["db_primary"]["hosts"] == ["pg1"]
    assert found["db_replicas"]["hosts"] == ["pg2", "pg3"]
    assert found["db_sync"]["hosts"] == ["pg2"]
    assert found["may_lead"]["hosts"] == ["pg1", "pg2"]
    assert found["state_streaming"]["hosts"] == ["pg2", "pg3"]
    assert found["_meta"]["hostvars"]["pg2"]["short"] == "2"


def test_nothing_comes_out_silently(down: str, tmp_path: Path) -> None:
    strict = listed(tmp_path / "pgherd.yml", {"agents": [down]})
    assert strict.returncode != 0
    assert f"agents: none of {down} tells the members" in " ".join(strict.stderr.split())
    lax = listed(tmp_path / "pgherd.yml", {"agents": [down]}, strict=False)
    assert f"agents: none of {down} tells the members" in " ".join(lax.stderr.split())


def test_a_cache_spares_the_agents(agent: Agent, tmp_path: Path) -> None:
    content = {
        "agents": [agent.url],
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(tmp_path / "cache"),
    }
    first = listed(tmp_path / "pgherd.yml", content)
    second = listed(tmp_path / "pgherd.yml", content)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert agent.asked == 1
