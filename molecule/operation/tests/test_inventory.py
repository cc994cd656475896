# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin tells who leads, also after that has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.cluster import MEMBERS, REPOSITORY
from lab.playbook import environment

if TYPE_CHECKING:
    from molecule.operation.tests.conftest import Bench

pytestmark = pytest.mark.timeout(400)


def listed(bench: Bench, directory: Path) -> dict[str, Any]:
    """Return what `ansible-inventory --list` tells of the lab's cluster."""
    rows = json.loads(bench.cluster.rest(bench.leader, "/cluster")[1])["members"]
    source = directory / "lab.pgherd.yml"
    urls = [row["api_url"].removesuffix("/patroni") for row in rows]
    source.write_text(json.dumps({"plugin": "pgherd.cluster.cluster", "agents": urls}), "utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(source), "--list"],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Text that came over the network is no template, and marked as such.
    found: dict[str, Any] = json.loads(
        done.stdout, object_hook=lambda each: each.get("__ansible_unsafe", each)
    )
    return found


def test_members_are_in_the_groups_of_their_roles(bench: Bench, tmp_path: Path) -> None:
    leader, standbys = bench.leader, sorted(bench.standbys)
    found = listed(bench, tmp_path)
    assert found["pgherd_primary"]["hosts"] == [leader]
    assert sorted(found["pgherd_replicas"]["hosts"]) == standbys
    assert sorted(found["pgherd_sync"]["hosts"]) == standbys
    told = found["_meta"]["hostvars"]
    assert sorted(told) == sorted(MEMBERS)
    assert {values["pgherd_cluster"] for values in told.values()} == {"demo"}
    assert told[leader]["pgherd_role"] == "leader"
    assert told[leader]["ansible_host"] in told[leader]["pgherd_api_url"]


def test_the_groups_follow_the_lead(bench: Bench, tmp_path: Path) -> None:
    leader, heir = bench.leader, bench.standbys[0]
    assert listed(bench, tmp_path)["pgherd_primary"]["hosts"] == [leader]
    # On the leader's host, as an operator does.
    bench.shell(leader, f"/usr/local/bin/pgherd switchover --candidate {heir} --force")
    bench.await_whole()
    found = listed(bench, tmp_path)
    assert found["pgherd_primary"]["hosts"] == [heir]
    assert leader in found["pgherd_replicas"]["hosts"]
