# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a user installs it: built, put into an empty path, and read by Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
INVENTORY: Final = """\
all:
  children:
    etcd: {hosts: {db1: {}, db2: {}, db3: {}}}
    postgres: {hosts: {db1: {}, db2: {}, db3: {}}}
  vars: {cluster_name: shop}
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the collection; return the archive."""
    target = tmp_path_factory.mktemp("artifact")
    galaxy("build", str(REPOSITORY), "--output-path", str(target))
    (archive,) = target.glob("pgherd-cluster-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def installed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the archive into an empty path; return the path."""
    target = tmp_path_factory.mktemp("collections")
    galaxy("install", str(artifact), "--offline", "--collections-path", str(target))
    assert (target / "ansible_collections" / "pgherd" / "cluster" / "playbooks").is_dir()
    return target


def environment() -> dict[str, str]:
    """Return an environment in which Ansible knows nothing of the repository."""
    return {key: value for key, value in os.environ.items() if "ANSIBLE" not in key}


def galaxy(verb: str, *arguments: str) -> None:
    """Run `ansible-galaxy collection` outside the repository; a failure is the test's.

    Inside, the repository's ansible.cfg would make it find the collection installed already.
    """
    line = [str(BIN / "ansible-galaxy"), "collection", verb, *arguments]
    done = subprocess.run(
        line, cwd="/", env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def site(installed: Path, directory: Path, option: str) -> subprocess.CompletedProcess[str]:
    """Run the installed playbook with *option*, far from the repository and its ansible.cfg."""
    inventory = directory / "hosts.yml"
    inventory.write_text(INVENTORY, encoding="utf-8")
    return subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(inventory), "pgherd.cluster.site", option],
        cwd=directory,
        env={**environment(), "ANSIBLE_COLLECTIONS_PATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_archive_holds_what_a_user_needs_and_nothing_else(artifact: Path) -> None:
    with tarfile.open(artifact) as archive:
        names = archive.getnames()
    tops = {name.split("/")[0] for name in names}
    assert "agent/src/pgherd/__main__.py" in names
    assert {"playbooks/site.yml", "roles/agent/tasks/main.yml", "LICENSE", "README.md"} <= {*names}
    assert tops <= {
        "FILES.json",
        "LICENSE",
        "MANIFEST.json",
        "README.md",
        "agent",
        "changelogs",
        "docs",
        "inventories",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }
    assert not [name for name in names if name.startswith(("inventories/lab", "agent/tests"))]
    assert not [name for name in names if ".secrets" in name or name.endswith(".pyc")]


def test_installed_playbook_has_sound_syntax(installed: Path, tmp_path: Path) -> None:
    done = site(installed, tmp_path, "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"playbook: {installed}/" in done.stdout


def test_installed_playbook_lists_the_tasks_of_every_role(installed: Path, tmp_path: Path) -> None:
    done = site(installed, tmp_path, "--list-tasks")
    assert done.returncode == 0, done.stdout + done.stderr
    # Without the role's tasks a play would still be listed, so look for tasks of each.
    for role in ("etcd", "postgresql", "agent"):
        assert f"{role} : " in done.stdout
