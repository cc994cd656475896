# SPDX-License-Identifier: GPL-3.0-or-later
"""Which functions have to be reached in full, and that one that is not is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tests.plan_coverage import lacking, thinking

REPOSITORY: Final = Path(__file__).resolve().parents[1]
MODULE: Final = """
import time
from ansible_collections.pgherd.cluster.plugins.module_utils._help import ask, think

class Kept:
    def age(self): return time.time()
    def name(self): return "kept"

class Data:
    def name(self): return "data"

def plan(found: "Path"): return think(found)
def by_clock(): return time.time()
def through_another(): return by_clock()
def through_a_file(): return ask(1)
def typed(module: AnsibleModule): return 1
def pure(found): return Data().name() if found else 2
"""
HELP: Final = "import socket\ndef ask(to): socket.socket()\ndef think(of): return of\n"


def test_functions_that_get_data_and_use_nothing_outside_only_think(tmp_path: Path) -> None:
    for name, text in (("modules/one.py", MODULE), ("module_utils/_help.py", HELP)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    assert thinking(tmp_path) == {
        ("modules.one", "Data"),
        ("modules.one", "Data.name"),
        ("modules.one", "plan"),
        ("modules.one", "pure"),
        ("module_utils._help", "think"),
    }


def test_of_a_function_that_is_reached_in_part_the_lines_are_told(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "one.py").write_text(MODULE)
    missed: dict[str, Any] = {"missing_lines": [18], "missing_branches": [[17, 18], [17, -16]]}
    files = {"/x/plugins/modules/one.py": {"functions": {"pure": missed, "by_clock": missed}}}
    assert lacking(files, tmp_path) == [
        "plugins/modules/one.py: pure is not reached at 17, 18",
    ]
    files["/x/plugins/modules/one.py"]["functions"]["pure"] = {
        "missing_lines": [],
        "missing_branches": [],
    }
    assert lacking(files, tmp_path) == []


def test_the_functions_that_plan_are_among_them() -> None:
    found = thinking(REPOSITORY / "plugins")
    for module in ("failover", "maintenance", "member", "switchover", "etcd_kv", "etcd_member"):
        assert (f"modules.{module}", "plan") in found
    assert ("module_utils._health", "examine") in found
    assert ("modules.failover", "main") not in found
