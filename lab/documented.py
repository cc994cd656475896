# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/clients.md shows, strings and a program, for tests that use it as it is there."""

from __future__ import annotations

import re
from typing import Final

from lab.cluster import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "clients.md"
BLOCK: Final = "^```{language}\n(.*?)^```$"
# What documents use for addresses of nobody.
NETWORK: Final = "192.0.2."


def strings(section: str) -> list[str]:
    """Return the strings below the heading *section*, each in one line again.

    Raises LookupError when there is no such section.
    """
    lines: list[str] = []
    for block in _blocks(section, "text"):
        for line in block.splitlines():
            if line.startswith(" "):
                space = "" if line.lstrip().startswith("&") else " "
                lines[-1] += space + line.lstrip()
            else:
                lines.append(line)
    return lines


def program(section: str) -> str:
    """Return the Python below the heading *section*; raises LookupError without such a section."""
    return "".join(_blocks(section, "python"))


def _blocks(section: str, language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    below = rf"^#+ {re.escape(section)}$(.*?)(?=^#|\Z)"
    found = re.search(below, text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise LookupError(f"{PAGE.name} has no section {section!r}")
    return re.findall(BLOCK.format(language=language), found[1], re.MULTILINE | re.DOTALL)


def kind(string: str) -> str:
    """Return whose words *string* is in, by the names of `pgherd dsn --format`."""
    for start, name in (
        ("jdbc:", "jdbc"),
        ("postgresql:", "uri"),
        ("postgres:", "pgx"),
        ("{", "node"),
    ):
        if string.startswith(start):
            return name
    return "pq" if "sslmode=" in string else "libpq"
