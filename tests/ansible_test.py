# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m tests.ansible_test sanity|units`: ansible-test over the collection as it is shipped.

ansible-test examines a collection only at `ansible_collections/NAMESPACE/NAME`. So the archive is
built and installed there, below .ansible, and for the unit tests they are put beside it, with what
they import. It gets by without containers and downloads: only packages of a Python index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.plan_coverage import uncovered

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY: Final = Path(__file__).resolve().parents[1]
BIN: Final = Path(sys.executable).parent
PLACE: Final = REPOSITORY / ".ansible" / "tested"
COLLECTION: Final = PLACE / "ansible_collections" / "pgherd" / "cluster"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
# What Ansible loads. The agent is a program that knows nothing of it: `make lint` examines it.
EXAMINED: Final = ("plugins/", "roles/", "playbooks/", "meta/", "changelogs/")
# What unit tests import that is not shipped.
BESIDE: Final = (".collections", "agent/tests", "lab", "tests")
# The pip that ansible-core 2.19 puts into the environments it makes for some sanity tests. It would
# download that from a server of its own; Python brings one along.
PIP: Final = Path(".ansible/test/cache/get_pip_24_2.py")
HOME: Final = REPOSITORY / ".ansible" / "home"
BRING_PIP: Final = "import ensurepip\n\nensurepip.bootstrap()\n"


def environment() -> dict[str, str]:
    """Return an environment in which Ansible knows nothing of the repository.

    ansible-test keeps its environments below `~/.ansible`: nothing of the user's is touched.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    home = Path.home()
    kept.setdefault("XDG_CONFIG_HOME", str(home / ".config"))
    kept.setdefault("XDG_CACHE_HOME", str(home / ".cache"))
    path = f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "HOME": str(HOME), "LC_ALL": "C.UTF-8", "PATH": path}


def run(line: Sequence[str | Path], place: Path) -> int:
    """Run *line* in the directory *place* and return its exit code."""
    words = [str(word) for word in line]
    return subprocess.run(words, cwd=place, env=environment(), check=False).returncode


def install() -> None:
    """Put the collection as it is shipped to COLLECTION; raises SystemExit when that fails."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    galaxy = BIN / "ansible-galaxy"
    # Away from the repository: its ansible.cfg knows the collection already.
    code = run([galaxy, "collection", "build", REPOSITORY, "--output-path", PLACE], Path("/"))
    for archive in PLACE.glob("*.tar.gz"):
        words = ["collection", "install", str(archive), "--offline", "--no-deps"]
        code = code or run([galaxy, *words, "--collections-path", PLACE], Path("/"))
    # ansible-test asks git for the files, and the repository's does not know those below .ansible.
    if code or run(["git", "init", "--quiet"], COLLECTION):
        raise SystemExit(f"ansible-test: the collection cannot be installed to {PLACE}")


def sanity() -> int:
    """Run every sanity test over EXAMINED; return the exit code."""
    bring = HOME / PIP
    bring.parent.mkdir(parents=True, exist_ok=True)
    bring.write_text(BRING_PIP, encoding="utf-8")
    words = ["sanity", "--python", PYTHON, "--color", "no", *EXAMINED]
    return run([BIN / "ansible-test", *words], COLLECTION)


def units() -> int:
    """Run the plugins' unit tests, and see whether they reach every branch they must."""
    for beside in BESIDE:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / beside, COLLECTION / beside, True, ignored)
    words = ["units", "--python", PYTHON, "--color", "no"]
    code = run([BIN / "ansible-test", *words], COLLECTION)
    problems = uncovered(COLLECTION)
    for problem in problems:
        sys.stderr.write(f"coverage: {problem}\n")
    return code or (1 if problems else 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.ansible_test", description=__doc__)
    parser.add_argument("what", choices=("sanity", "units"))
    what = parser.parse_args(argv).what
    install()
    return sanity() if what == "sanity" else units()


if __name__ == "__main__":
    sys.exit(main())
