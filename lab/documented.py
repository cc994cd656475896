# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection strings that docs/clients.md shows, for tests that use them as they are there."""

from __future__ import annotations

import re
from typing import Final

from lab.cluster import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "clients.md"
BLOCK: Final = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What documents use for addresses of nobody.
NETWORK: Final = "192.0.2."


def strings(section: str) -> list[str]:
    """Return the strings below the heading *section*, each in one line again.

    Raises LookupError when there is no such section.
    """
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(section)}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise LookupError(f"{PAGE.name} has no section {section!r}")
    lines: list[str] = []
    for block in BLOCK.findall(found[1]):
        for line in block.splitlines():
            if line.startswith(" "):
                space = "" if line.lstrip().startswith("&") else " "
                lines[-1] += space + line.lstrip()
            else:
                lines.append(line)
    return lines


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
