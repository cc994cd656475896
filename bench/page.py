# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the documentation that benchmarks write their figures into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lab.cluster import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT: Final = REPOSITORY / "docs" / "benchmarks.md"
END: Final = "<!-- end of the figures -->"


def begin(module: str) -> str:
    """Return the mark after which the figures of *module* stand."""
    return f"<!-- figures: written by python -m {module} -->"


def replaced(text: str, module: str, figures: str) -> str:
    """Return *text*, a document, with *figures* between the two marks of *module*.

    Raises ValueError when it has no such marks.
    """
    before, mark, rest = text.partition(begin(module))
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the document has no {begin(module)} followed by {END}")
    return f"{before}{mark}\n\n{figures}\n{end}{after}"


def row(head: str, cells: list[str]) -> str:
    """Return a row of a table in Markdown."""
    return f"| {' | '.join([head, *cells])} |"


def publish(module: str, figures: str, chart: tuple[Path, str]) -> None:
    """Write *figures* into the page, and the *chart*, a file and its SVG, beside it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(replaced(text, module, figures), encoding="utf-8")
    path, svg = chart
    path.write_text(svg, encoding="utf-8")
