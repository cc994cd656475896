# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the plays of site.yml are for, with every kind of inventory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from lab.playbook import run

if TYPE_CHECKING:
    from pathlib import Path

GROUPS: Final = {
    "all three": {"etcd": ["a", "b"], "postgres": ["b", "c"], "balancer": ["d"]},
    "no balancer": {"etcd": ["a", "b"], "postgres": ["b", "c"]},
    "somebody else's etcd": {"postgres": ["b", "c"], "balancer": ["b"]},
    "servers alone": {"postgres": ["b"]},
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_groups_that_are_not_there_are_not_missed(
    groups: dict[str, list[str]], tmp_path: Path
) -> None:
    inventory = tmp_path / "hosts.ini"
    sections = [f"[{name}]\n" + "\n".join(hosts) for name, hosts in groups.items()]
    inventory.write_text("\n".join(sections) + "\n", encoding="utf-8")
    outcome = run(options=["--list-hosts"], inventory=inventory)
    assert outcome.code == 0, outcome.output
    assert "WARNING" not in outcome.output
    wanted = {name: set(groups.get(name, [])) for name in ("etcd", "postgres", "balancer")}
    found = dict(
        re.findall(
            r"play #\d+ .*?: (.*?)\tTAGS.*?hosts \(\d+\):((?:\n +\w+)*)", outcome.output, re.DOTALL
        )
    )
    plays = {title: set(hosts.split()) for title, hosts in found.items()}
    assert plays["Check everything before anything is changed"] == set().union(*wanted.values())
    assert plays["Run etcd"] == wanted["etcd"]
    assert plays["Run PostgreSQL and its agents"] == wanted["postgres"]
    assert plays["Run the balancers"] == wanted["postgres"] | wanted["balancer"]
