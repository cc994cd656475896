# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the playbooks: declared once, used, documented, and nothing else is taken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lab.playbook import run

if TYPE_CHECKING:
    from lab.playbook import Outcome

ROOT = Path(__file__).resolve().parents[1]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
SPECS: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / "roles/agent/meta/argument_specs.yml").read_text("utf-8")
)["argument_specs"]["operate"]["options"]
PREFIXES = "|".join(sorted({name.split("_", 1)[0] for name in SPECS if "_" in name}))
NAME = re.compile(rf"\b(?:{PREFIXES})_[a-z_]+\b")


def used(path: Path) -> set[str]:
    """Return the names in *path* that begin like a variable of a playbook."""
    text = re.sub(r"pgherd\.cluster\.[a-z_.]+", "", path.read_text("utf-8"))
    return set(NAME.findall(text))


def given(playbook: str, tmp_path: Path, **variables: object) -> Outcome:
    """Run *playbook* with *variables* over a host that nobody reaches."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(
        "[postgres]\na ansible_connection=local ansible_python_interpreter=/nowhere\n"
        "[all:vars]\ncluster_name=demo\ncluster_address=192.0.2.1\nstatus_page=mine\n",
        encoding="utf-8",
    )
    return run(f"pgherd.cluster.{playbook}", variables, inventory=inventory, timeout_seconds=60)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_variable_that_a_playbook_takes_is_declared(path: Path) -> None:
    assert used(path) - SPECS.keys() - {each.stem for each in PLAYBOOKS} == set()


def test_every_variable_that_is_declared_is_taken_by_a_playbook() -> None:
    names = set().union(*(used(path) for path in PLAYBOOKS))
    assert SPECS.keys() - names - {"node"} == set()


@pytest.mark.parametrize("name", SPECS)
def test_every_variable_is_documented_with_its_default(name: str) -> None:
    default = SPECS[name].get("default", "")
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    cell = f"`{shown}`" if shown else ""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    assert f"| `{name}` | {cell} |" in page


def test_a_misspelled_variable_is_refused_with_the_nearest_right_name(tmp_path: Path) -> None:
    said = given("switchover", tmp_path, switchover_candidat="pg2")
    assert said.code != 0
    assert "no variable switchover_candidat (did you mean switchover_candidate?)" in said.output
    said = given("status", tmp_path, cluster_nmae="x", agent_config={})
    assert "there is no variable cluster_nmae (did you mean cluster_name?)" in said.output


def test_a_value_of_another_kind_is_refused(tmp_path: Path) -> None:
    said = given("maintenance_node", tmp_path, node="a", maintenance_state="over")
    assert said.code != 0
    assert "maintenance_state must be one of: begin, end" in " ".join(said.output.split())


def test_what_an_inventory_calls_its_own_variables_does_not_matter(tmp_path: Path) -> None:
    said = given("status", tmp_path, mine="x")
    assert "status_page" not in said.output
    assert "can be reached by Ansible" in " ".join(said.output.split())
