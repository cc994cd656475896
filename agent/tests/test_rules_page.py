# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the rules is that of the rules in force."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pgherd.decide import RULES
from pgherd.rules_page import page

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "rules.md"
COLUMNS_MAX: Final = 120


def test_page_has_every_rule_in_the_order_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page(), re.MULTILINE)
    assert rows == [(str(number), rule.name) for number, rule in enumerate(RULES, 1)]


def test_stored_page_is_the_one_the_rules_make() -> None:
    remedy = "make it anew: PYTHONPATH=agent/src python -m pgherd.rules_page > docs/rules.md"
    assert PAGE.read_text(encoding="utf-8") == page(), remedy


def test_page_is_readable_as_text() -> None:
    assert max(map(len, page().splitlines())) <= COLUMNS_MAX
    assert not [rule.name for rule in RULES if "|" in rule.why]
