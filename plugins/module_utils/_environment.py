# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of VARIABLE="value" lines as systemd reads them. Private to the collection."""

from __future__ import annotations

import re

_LINE = re.compile(r'^\s*([A-Za-z_][A-Za-z0-9_]*)="?(.*?)"?\s*$')


def render(settings: dict[str, str], header: str) -> str:
    """Return the text of an EnvironmentFile with *settings* in their order under a comment."""
    lines = [f"# {header}"]
    for name, value in settings.items():
        if "\n" in value:
            raise ValueError(f"{name}: an environment file has no place for a line break")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'{name}="{escaped}"')
    return "\n".join(lines) + "\n"


def parse(text: str) -> dict[str, str]:
    """Return the settings of an EnvironmentFile; comments and what is not a setting are skipped."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            found[match[1]] = re.sub(r"\\(.)", r"\1", match[2])
    return found
