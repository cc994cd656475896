# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the benchmark of backups: medians, spread and ratios."""

from __future__ import annotations

from bench.backup import MODULE, Figures, report
from bench.page import DOCUMENT, replaced


def test_the_table_has_medians_spread_and_ratios() -> None:
    figures = Figures()
    for what, each in {
        "backup": (4.0, 5.0, 6.0),
        "basebackup": (9.0, 10.0, 12.0),
        "cp": (1.0, 1.0, 2.0),
        "bare restore": (2.0, 2.0, 3.0),
        "playbook": (20.0, 21.0, 25.0),
        "delta": (1.0, 1.0, 1.0),
        "anew": (3.0, 4.0, 5.0),
    }.items():
        for seconds in each:
            figures.add(what, seconds)
    text = report(figures, 1024, 3)
    assert "5.00 s (4.00 to 6.00) | pg_basebackup | 10.00 s (9.00 to 12.00) | 2.0 |" in text
    assert "1.00 s (1.00 to 1.00) | old data removed, pg_basebackup | 4.00 s" in text
    assert "takes 19.0 s (18.0 to 22.0) more" in text


def test_the_page_has_a_place_for_it() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert "figures of a run" in replaced(page, MODULE, "figures of a run")
