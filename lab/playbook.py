# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection's playbooks over the lab's inventory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from lab.cluster import CLUSTER_NAME, INVENTORY, REPOSITORY
from lab.errors import LabError
from lab.settings import HOST_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.settings import Settings

SITE: Final = "pgherd.cluster.site"
RECAP: Final = re.compile(
    r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=\d+", re.MULTILINE
)


@dataclass(frozen=True)
class Outcome:
    """What a playbook did: its exit code, all it printed, and the changes counted per host."""

    code: int
    output: str
    changed: Mapping[str, int]


def command(
    playbook: str = SITE,
    variables: Mapping[str, object] | None = None,
    inventory: Path = INVENTORY,
) -> list[str]:
    """Return the command line that runs *playbook* over *inventory* with extra *variables*."""
    tool = Path(sys.executable).with_name("ansible-playbook")
    line = [str(tool), "--inventory", str(inventory), playbook]
    if variables:
        line += ["--extra-vars", json.dumps(dict(variables))]
    return line


def other_groups(settings: Settings, path: Path, groups: Mapping[str, Sequence[str]]) -> Path:
    """Write to *path* the lab's inventory with its hosts in *groups* instead; return *path*."""
    shared = yaml.safe_load((INVENTORY / "group_vars" / "all.yml").read_text(encoding="utf-8"))
    shared["cluster_secrets_dir"] = str(INVENTORY / ".secrets" / CLUSTER_NAME)
    tree = {
        "hosts": {name: {"lab_host_number": settings.spec(name).number} for name in HOST_NAMES},
        "children": {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()},
        "vars": shared,
    }
    path.write_text(yaml.safe_dump({"all": tree}), encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    """Return the environment for Ansible: this repository's settings and nothing coloured."""
    settings = {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    # molecule forces colours on a terminal, and with Ansible that wins over wanting none.
    kept = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
    return {**kept, **settings}


def run(
    playbook: str = SITE,
    variables: Mapping[str, object] | None = None,
    options: Sequence[str] = (),
    inventory: Path = INVENTORY,
    timeout_seconds: float = 900,
) -> Outcome:
    """Run *playbook* over *inventory* and return what came of it, a failure included.

    options: further words of ansible-playbook's command line, such as `--check`.

    Raises LabError when it takes longer than *timeout_seconds*.
    """
    try:
        done = subprocess.run(
            [*command(playbook, variables, inventory), *options],
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{playbook} was not done in {timeout_seconds:g} s.") from error
    changed = {match["host"]: int(match["changed"]) for match in RECAP.finditer(done.stdout)}
    return Outcome(done.returncode, done.stdout, changed)


def play(name: str, *options: str, **variables: object) -> Outcome:
    """Run the collection's playbook *name* and return what came of it, as `run` does."""
    return run(f"pgherd.cluster.{name}", variables, options, timeout_seconds=300)


def changes(outcome: Outcome) -> int:
    """Return how many tasks changed something; raises AssertionError if the playbook failed."""
    assert outcome.code == 0, outcome.output
    return sum(outcome.changed.values())


def deploy(variables: Mapping[str, object] | None = None, options: Sequence[str] = ()) -> Outcome:
    """Run site.yml with *variables* and *options* as `run` does; raises LabError when it fails."""
    outcome = run(variables=variables, options=options)
    if outcome.code != 0:
        tail = "\n".join(outcome.output.splitlines()[-40:])
        raise LabError(f"site.yml failed with {outcome.code}:\n{tail}")
    return outcome
