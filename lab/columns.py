# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for people: columns that stand below each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def align(rows: Sequence[Sequence[str]], numbers: Container[int]) -> str:
    """Return *rows* as lines: words to the left, the columns *numbers* to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        aligned = [
            text.rjust(width) if column in numbers else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)
