# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and colours for a terminal; plain columns, without either, for everything else."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Left edge, line, crossing and right edge of the rules above, below the heads, and at the end.
RULES: Final = (("┏", "━", "┳", "┓"), ("┡", "━", "╇", "┩"), ("└", "─", "┴", "┘"))


@dataclass(frozen=True)
class Cell:
    """A piece of text and how it looks.

    :param colour: a name that click knows, None for the terminal's own.
    """

    text: str
    colour: str | None = None
    bold: bool = False
    dim: bool = False

    def drawn(self, width: int = 0, *, right: bool = False) -> str:
        """Return the text, filled up to *width*, in its colour."""
        filled = self.text.rjust(width) if right else self.text.ljust(width)
        if not self.text or (self.colour is None and not self.bold and not self.dim):
            return filled
        return click.style(filled, fg=self.colour, bold=self.bold or None, dim=self.dim or None)


@dataclass(frozen=True)
class Column:
    """The head of a column and where its cells stand."""

    head: str
    right: bool = False


def has_colours() -> bool | None:
    """Tell click about colours: never (NO_COLOR), always (FORCE_COLOR), or as the output is."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def has_boxes() -> bool:
    """Whether the output is a terminal, or to be taken for one, that can draw a table's lines."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    is_shown = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
    return is_shown and encoding.startswith("utf")


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> str:
    """Draw a table: in a box where there is a terminal wide enough, in plain columns elsewhere."""
    cells = [list(row) for row in rows]
    widths = [
        max([len(column.head), *(len(row[index].text) for row in cells)])
        for index, column in enumerate(columns)
    ]
    room = shutil.get_terminal_size().columns
    if has_boxes() and sum(widths) + 3 * len(widths) + 1 <= room:
        return _boxed(columns, cells, widths)
    return _plain(columns, cells, widths)


def _boxed(
    columns: Sequence[Column], cells: Sequence[Sequence[Cell]], widths: Sequence[int]
) -> str:
    top, below, end = (
        left + cross.join(line * (width + 2) for width in widths) + right
        for left, line, cross, right in RULES
    )
    heads = [Cell(column.head, bold=True) for column in columns]
    lines = [top, "┃ " + " ┃ ".join(_line(columns, heads, widths)) + " ┃", below]
    lines += ["│ " + " │ ".join(_line(columns, row, widths)) + " │" for row in cells]
    return "\n".join([*lines, end])


def _plain(
    columns: Sequence[Column], cells: Sequence[Sequence[Cell]], widths: Sequence[int]
) -> str:
    heads = [Cell(column.head, bold=True) for column in columns]
    if not columns[-1].right:
        # What fills the last column up would stay at the line's end, inside its colour.
        widths = [*widths[:-1], 0]
    return "\n".join("  ".join(_line(columns, row, widths)).rstrip() for row in [heads, *cells])


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int]) -> list[str]:
    return [
        cell.drawn(width, right=column.right)
        for column, cell, width in zip(columns, row, widths, strict=True)
    ]


def size(count: int) -> str:
    """Return bytes the way people read them."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    """Return a length of time the way people read it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours // 24} d {hours % 24} h"
