# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages: every link leads somewhere, and what there is to run is told of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults import FAULTS

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING: Final = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)


def text_of(page: Path) -> str:
    """Return a page without the blocks between fences."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind `#`: the headings, as renderers write them."""
    found: set[str] = set()
    for heading in HEADING.findall(text_of(page)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(words)}(-\d+)?", anchor))
        found.add(f"{words}-{number}" if number else words)
    return found


def broken(page: Path) -> list[str]:
    """Return the links of *page* that lead nowhere."""
    wrong = []
    for target in LINK.findall(text_of(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A head\n\n[a](#a-head) [b](#b-head) [c](none.md) [d](page.md#a-head)\n")
    assert broken(page) == ["#b-head", "none.md"]


def test_every_playbook_is_told_of() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    known = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    # A page of its own tells of that one.
    assert {name for name in known if f"`{name}`" not in page} <= {"site", "adopt_patroni"}


@pytest.mark.parametrize("name", ["drills.md", "failure-modes.md"])
def test_every_drill_is_told_of(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert [fault for fault in FAULTS if f"`{fault}`" not in page] == []
