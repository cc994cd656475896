# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL's log says of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def last_words(log_file: Path) -> str:
    """Return what the log says last of the server's end, and the two lines that led to it.

    With `logging_collector` most of it stands in another file of the same directory.
    """
    try:
        newest = max(log_file.parent.glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines = newest.read_text(errors="replace").splitlines()[-50:]
    except (OSError, ValueError) as error:
        return f"the log beside {log_file} cannot be read: {error}"
    fatal = [at for at, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
    end = fatal[-1] if fatal else len(lines) - 1
    return " | ".join(lines[max(0, end - 2) : end + 1]) or "it left no message"
