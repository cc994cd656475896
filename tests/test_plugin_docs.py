# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own reader of documentation can read every plugin's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "module": "modules",
    "lookup": "lookup",
    "filter": "filter",
    "test": "test",
    "inventory": "inventory",
}
# By action group, the option that says who is asked.
WHOM = {"agent": "agents", "etcd": "endpoints"}


def plugins(folder: str) -> list[str]:
    """Return the full names of the plugins in *folder* of plugins/, none when it is missing."""
    files = sorted((ROOT / "plugins" / folder).glob("*.py"))
    return [f"pgherd.cluster.{path.stem}" for path in files if path.stem != "__init__"]


def documented(kind: str, names: list[str]) -> dict[str, Any]:
    """Return what `ansible-doc` tells of the plugins *names*, by their names."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-doc")), "-t", kind, "--json", *names],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "kind", [kind for kind, folder in FOLDERS.items() if plugins(folder)], ids=str
)
def test_every_plugin_is_documented(kind: str) -> None:
    names = plugins(FOLDERS[kind])
    found = documented(kind, names)
    missing = [n for n in names if not found.get(n, {}).get("doc", {}).get("short_description")]
    assert missing == []
    assert [name for name in names if not found[name].get("examples")] == []


def test_no_folder_of_plugins_is_left_out() -> None:
    folders = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    # Action plugins are documented by their modules, fragments by those that use them.
    silent = {"action", "doc_fragments", "module_utils", "__pycache__"}
    assert folders - silent <= set(FOLDERS.values())
    assert {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")} <= {
        name.rpartition(".")[2] for name in plugins("modules")
    }


def test_modules_of_the_action_group_take_its_options() -> None:
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text("utf-8"))["action_groups"]
    for group, short in groups.items():
        found = documented("module", [f"pgherd.cluster.{name}" for name in short])
        assert len(found) == len(short), group
        for name, entry in found.items():
            wanted = {WHOM[group], "username", "password", "timeout_seconds", "tls"}
            assert wanted <= set(entry["doc"]["options"]), name
