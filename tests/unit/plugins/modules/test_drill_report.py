# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill: its files and its page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_account import DrillError
from ansible_collections.pgherd.cluster.plugins.modules.drill_report import one, several, write

from tests.drill_sample import WALL
from tests.drill_sample import write as make

if TYPE_CHECKING:
    from pathlib import Path


def test_report_is_one_page_and_the_same_again(tmp_path: Path) -> None:
    """No resource from elsewhere, everything escaped, well-formed picture; again: no change."""
    drill = make(tmp_path / "one")
    answer, paths, files = one(drill, tmp_path, {}, 5, {})
    assert answer["passed"]
    assert len(write(files, changes=True)) == 3
    page = paths["report"].read_text()
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert "Power off &lt;pg1&gt;" in page
    assert "<b>bold" not in page
    picture = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert picture
    assert ET.fromstring(picture.group()).get("role") == "img"
    assert len(page) < 120_000
    assert write(one(drill, tmp_path, {}, 5, {})[2], changes=True) == {}


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    """What would change is said."""
    drill = make(tmp_path / "one")
    assert len(write(one(drill, tmp_path, {}, 5, {})[2], changes=False)) == 3
    assert not (drill / "result.json").exists()


def test_earlier_drills_are_compared(tmp_path: Path) -> None:
    """The second report has the first one's figures."""
    first = make(tmp_path / "one")
    write(one(first, tmp_path, {}, 5, {})[2], changes=True)
    second = make(tmp_path / "two", started="2027-01-16T08:00:00Z")
    answer, paths, files = one(second, tmp_path, {"rto_seconds_max": 1}, 5, {})
    assert not answer["passed"]
    assert "median of 1 before" in answer["table"][2]
    write(files, changes=True)
    assert META_STARTED in paths["report"].read_text()
    assert len(json.loads(paths["history"].read_text())) == 2


META_STARTED = "2027-01-15T08:00:00Z"


def test_summary(tmp_path: Path) -> None:
    """Several drills make one page."""
    drill = make(tmp_path / "one")
    write(one(drill, tmp_path, {"rto_seconds_max": 1}, 5, {})[2], changes=True)
    answer, paths, files = several([drill], tmp_path)
    assert not answer["passed"]
    write(files, changes=True)
    assert "0 of 1 drills passed." in paths["index"].read_text()


def test_probe_that_saw_nothing_has_a_report(tmp_path: Path) -> None:
    """A drill that failed altogether is reported, too."""
    lines = [{"kind": "start", "t": 0.0, "wall": WALL, "members": ["pg1"]}]
    answer, _, files = one(make(tmp_path / "one", lines), tmp_path, {}, 5, {})
    assert not answer["passed"]
    assert any("None was seen." in text for text in files.values())


@pytest.mark.parametrize("name", ["probe.jsonl", "events.json", "rows.json", "meta.json"])
def test_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """It is named."""
    drill = make(tmp_path / "one")
    (drill / name).unlink()
    with pytest.raises(DrillError, match=f"{name} cannot be read"):
        one(drill, tmp_path, {}, 5, {})


def test_wrong_input(tmp_path: Path) -> None:
    """An empty history and a drill without a name are refused."""
    drill = make(tmp_path / "one")
    with pytest.raises(DrillError, match="history_keep is 0"):
        one(drill, tmp_path, {}, 0, {})
    (drill / "meta.json").write_text("{}")
    with pytest.raises(DrillError, match="lacks drill, cluster, started"):
        one(drill, tmp_path, {}, 5, {})


def test_what_is_handed_over_is_written_and_not_read(tmp_path: Path) -> None:
    drill = make(tmp_path / "one")
    given = {name: json.loads((drill / f"{name}.json").read_text()) for name in ("events", "meta")}
    for name in given:
        (drill / f"{name}.json").unlink()
    answer, _paths, files = one(drill, tmp_path, {}, 5, given)
    assert answer["passed"]
    assert json.loads(files[drill / "events.json"]) == given["events"]
    assert drill / "rows.json" not in files
