# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version of the agent's program, put onto hosts as an upgrade or a downgrade would."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import zipapp
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.cluster import REPOSITORY
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.hosts import Lab

SOURCE: Final = REPOSITORY / "agent" / "src" / "pgherd"
PROGRAM: Final = "/usr/local/bin/pgherd"
VERSION: Final = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)


def version() -> str:
    """Return the version of the agent in this tree."""
    found = VERSION.search((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise LabError(f"{SOURCE} does not say its version.")
    return found["version"]


def build(directory: Path, number: str) -> Path:
    """Return a program made in *directory* of this tree's agent, which calls itself *number*."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / SOURCE.name
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        start = package / "__init__.py"
        text = VERSION.sub(f'__version__ = "{number}"', start.read_text(encoding="utf-8"))
        start.write_text(text, encoding="utf-8")
        program = directory / f"pgherd-{number}.pyz"
        zipapp.create_archive(scratch, program, "/usr/bin/python3", "pgherd.__main__:main")
    return program


def put(lab: Lab, host: str, program: Path) -> None:
    """Replace *host*'s program in one step and restart its agent; raises LabError."""
    fresh = f"{PROGRAM}.new"
    copy = ["docker", "cp", "--quiet", str(program), f"{lab.settings.container(host)}:{fresh}"]
    done = subprocess.run(copy, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{host}: {done.stderr.strip()}")
    lab.exec(host, ["chown", "root:root", fresh])
    lab.exec(host, ["chmod", "755", fresh])
    lab.exec(host, ["mv", fresh, PROGRAM])
    lab.exec(host, ["systemctl", "restart", "pgherd-guard", "pgherd"])
