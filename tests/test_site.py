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


# What the roles see; a filter's own test gives it no mappings of Ansible's.
ENTRY: Final = """\
- hosts: postgres
  gather_facts: false
  tasks:
    - name: Learn the cluster's values
      ansible.builtin.import_role:
        name: pgherd.cluster.cluster
        tasks_from: inventory
    - name: Tell the entry
      ansible.builtin.debug:
        msg: "rw={{ __cluster_entry.rw | join(',') }} ro={{ __cluster_entry.ro | join(',') }};"
      run_once: true
"""


@pytest.mark.parametrize(
    ("variables", "rw", "ro"),
    [
        ({}, "192.0.2.3:5000", "192.0.2.3:5001"),
        ({"cluster_vip": "192.0.2.9"}, "192.0.2.9:5000", "192.0.2.9:5001"),
        ({"cluster_balancer": "none"}, "192.0.2.1:6432,192.0.2.2:6432",
         "192.0.2.1:6433,192.0.2.2:6433"),
        ({"cluster_balancer": "none", "cluster_pooler": "none"},
         "192.0.2.1:5432,192.0.2.2:5432", "192.0.2.1:5432,192.0.2.2:5432"),
    ],
    ids=["balancers", "an address that moves", "poolers", "servers"],
)  # fmt: skip
def test_the_roles_know_where_clients_connect(
    variables: dict[str, str], rw: str, ro: str, tmp_path: Path
) -> None:
    playbook, inventory = tmp_path / "entry.yml", tmp_path / "hosts.ini"
    playbook.write_text(ENTRY, encoding="utf-8")
    inventory.write_text(
        "[postgres]\na cluster_address=192.0.2.1\nb cluster_address=192.0.2.2\n"
        "[balancer]\nc cluster_address=192.0.2.3\n",
        encoding="utf-8",
    )
    outcome = run(str(playbook), variables, inventory=inventory)
    assert outcome.code == 0, outcome.output
    assert f"rw={rw} ro={ro};" in " ".join(outcome.output.split())
