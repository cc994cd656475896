# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles promise: one shape, defaults as documented, full names, nothing unused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PHASES = ["preflight", "install", "configure", "run"]
TASK_FILES = sorted(
    path
    for pattern in ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml")
    for path in ROOT.glob(pattern)
)
# What a task or a play may say beside its one action.
KEYWORDS = {
    "name", "when", "tags", "vars", "register", "notify", "loop", "loop_control", "run_once",
    "throttle", "no_log", "changed_when", "failed_when", "check_mode", "delegate_to", "until",
    "retries", "delay", "hosts", "connection", "gather_facts", "gather_subset", "any_errors_fatal",
    "force_handlers", "become", "environment", "block", "rescue", "listen", "ignore_unreachable",
    "async", "poll",
}  # fmt: skip
# Commands that only look: for these, and no others, "never changed" is the truth.
LOOKING = [
    ["/usr/local/bin/pgherd", *words]
    for words in (["check-config"], ["man"], ["completion", "bash"], ["dsn", "--service"], ["list"])
]


def load(path: Path) -> Any:
    """Return the content of a YAML file, an empty mapping when there is no file."""
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of a role's entry point `main`."""
    spec = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    found: dict[str, dict[str, Any]] = spec["options"]
    return found


def tasks(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all tasks in plays, blocks and files, flat."""
    found = []
    for item in items:
        nested = [
            *item.get("block", []), *item.get("pre_tasks", []), *item.get("tasks", []),
            *item.get("post_tasks", []),
        ]  # fmt: skip
        found += tasks(nested) if nested else [item] if "hosts" not in item else []
    return found


def test_there_is_something_to_check() -> None:
    assert [role.name for role in ROLES] == [
        "adoption", "agent", "cluster", "drill", "etcd", "haproxy", "keepalived", "pgbackrest",
        "pgbouncer", "postgresql",
    ]  # fmt: skip
    assert len(TASK_FILES) > 15


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_as_documented(role: Path) -> None:
    defaults = load(role / "defaults" / "main.yml")
    documented = {
        name: option["default"] for name, option in options(role).items() if "default" in option
    }
    assert defaults == documented
    assert [type(value) for value in defaults.values()] == [
        type(documented[name]) for name in defaults
    ]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_is_the_roles_own_and_has_type_meaning_and_value(role: Path) -> None:
    for name, option in options(role).items():
        assert name.startswith(role.name + "_"), name
        assert option.get("type"), name
        assert option.get("description"), name
        assert option.get("required", False) != ("default" in option), name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_is_used(role: Path) -> None:
    text = "\n".join(
        path.read_text()
        for folder in ("tasks", "templates", "handlers", "vars", "defaults")
        for path in sorted((ROOT / "roles").glob(f"*/{folder}/*"))
    )
    text += "".join(path.read_text() for path in sorted((ROOT / "playbooks").glob("*.yml")))
    own = list(options(role)) + list(load(role / "vars" / "main.yml"))
    unused = [name for name in own if not re.search(rf"\b{name}\b(?!:)", text)]
    assert unused == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_main_file_is_a_table_of_contents(role: Path) -> None:
    phases = []
    for task in load(role / "tasks" / "main.yml"):
        phase = task["ansible.builtin.import_tasks"].removesuffix(".yml")
        assert set(task) == {"name", "ansible.builtin.import_tasks", "tags"}
        assert phase in task["tags"]
        assert (role / "tasks" / f"{phase}.yml").is_file()
        phases.append(phase)
    assert phases == [phase for phase in PHASES if phase in phases]
    assert phases == PHASES or role.name in ("adoption", "cluster", "drill")


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_actions_and_roles_have_their_full_names(path: Path) -> None:
    content = load(path)
    for task in tasks(content):
        actions = set(task) - KEYWORDS
        assert len(actions) == 1, task
        action = actions.pop()
        assert re.fullmatch(r"\w+\.\w+\.\w+", action), action
        if action.endswith("import_role"):
            assert task[action]["name"].startswith("pgherd.cluster."), task
    for play in content:
        assert all(role["role"].startswith("pgherd.cluster.") for role in play.get("roles", []))


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_hides_a_failure_or_a_change(path: Path) -> None:
    for task in tasks(load(path)):
        assert "ignore_errors" not in task, task
        assert task.get("failed_when") is not False, task
        looks = task.get("ansible.builtin.command", {}).get("argv") in LOOKING
        looks |= "ansible.builtin.group_by" in task  # changes what the run knows of its hosts
        looks |= task.get("check_mode") is True  # asks what would be done, or refused
        assert task.get("changed_when") is not False or looks, task


@pytest.mark.parametrize(
    "path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: str(path.name)
)
def test_no_play_loads_a_role_with_handlers_on_two_conditions(path: Path) -> None:
    """Its handlers would have the second time's condition, and be skipped for the first."""
    for play in load(path):
        conditions: dict[str, set[str]] = {}
        loads = [(role["role"], role.get("when", "")) for role in play.get("roles", [])]
        ran = tasks([{"tasks": play.get(key, [])} for key in ("tasks", "post_tasks")])
        loads += [
            (task["ansible.builtin.import_role"]["name"], task.get("when", ""))
            for task in ran
            if "ansible.builtin.import_role" in task
        ]
        for name, condition in loads:
            conditions.setdefault(name.rpartition(".")[2], set()).add(str(condition))
        twice = [name for name, found in conditions.items() if len(found) > 1]
        assert [name for name in twice if (ROOT / "roles" / name / "handlers").is_dir()] == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: str(path.name)
)
def test_no_role_for_some_hosts_of_a_play_leaves_a_task_to_the_first(path: Path) -> None:
    """With run_once the first host of the play decides for all, and it may not have the role."""
    some = {role["role"] for play in load(path) for role in play.get("roles", []) if "when" in role}
    for name in sorted(some):
        for file in (ROOT / "roles" / name.rpartition(".")[2] / "tasks").glob("*.yml"):
            assert [task for task in tasks(load(file)) if "run_once" in task] == [], file


def test_agents_are_told_of_poolers_before_a_pooler_can_fail() -> None:
    """Handlers run in their file's order; those after one that fails are lost for every run."""
    handlers = load(ROOT / "roles" / "pgbouncer" / "handlers" / "main.yml")
    assert handlers[0]["name"] == "Tell the agent of its PgBouncers"


def test_the_plays_variables_are_known_to_preflight() -> None:
    """Preflight knows names by their prefix: every role must have one of those it looks for."""
    text = (ROOT / "roles" / "cluster" / "tasks" / "preflight.yml").read_text()
    (pattern,) = re.findall(r"varnames', '\^\(([a-z|]+)\)_'", text)
    assert sorted(pattern.split("|")) == [role.name for role in ROLES]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins" / "modules").glob("*.py")), ids=lambda path: str(path.name)
)
def test_modules_import_only_what_travels_with_them(path: Path) -> None:
    """Ansible packs the files of module_utils that a module imports, and no other of ours."""
    found = re.findall(r"ansible_collections\.pgherd\.cluster\.plugins\.(\w+)", path.read_text())
    assert set(found) <= {"module_utils"}
