# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a reproducible zipapp."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.action.zipapp import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package whose function says hello and returns 3."""
    place = tmp_path / "src" / "greeting"
    (place / "deep").mkdir(parents=True)
    (place / "__init__.py").touch()
    (place / "deep" / "__init__.py").write_text("WORD = 'hello'\n")
    (place / "start.py").write_text(
        "from greeting.deep import WORD\n\n\ndef main():\n    print(WORD)\n    return 3\n"
    )
    return place


def test_the_file_runs_and_its_status_is_the_functions(package: Path, tmp_path: Path) -> None:
    program = tmp_path / "greet"
    program.write_bytes(build(package, "greeting.start:main", sys.executable))
    program.chmod(0o755)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "hello\n")


def test_time_and_leftovers_do_not_change_the_bytes(package: Path) -> None:
    before = build(package, "greeting.start:main", "/usr/bin/python3")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "start.cpython-313.pyc").write_bytes(b"x")
    os.utime(package / "start.py", (0, 0))
    (package / "start.py").chmod(0o600)
    assert build(package, "greeting.start:main", "/usr/bin/python3") == before


def test_another_source_gives_other_bytes(package: Path) -> None:
    before = build(package, "greeting.start:main", "/usr/bin/python3")
    (package / "more.py").touch()
    assert build(package, "greeting.start:main", "/usr/bin/python3") != before


@pytest.mark.parametrize("entry_point", ["greeting.start", "greeting.start:", ":main", "a:b c"])
def test_a_bad_entry_point_is_refused(package: Path, entry_point: str) -> None:
    with pytest.raises(ValueError, match="is not MODULE:FUNCTION"):
        build(package, entry_point, "/usr/bin/python3")


def test_a_directory_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a Python package"):
        build(tmp_path, "a:b", "/usr/bin/python3")
