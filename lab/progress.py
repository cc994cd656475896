# SPDX-License-Identifier: GPL-3.0-or-later
"""Terse output: one line per thing done, each with the seconds since the start."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Progress:
    """Prints lines such as `  12.3s  image  built`; `quiet` keeps silent."""

    quiet: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def line(self, subject: str, text: str) -> None:
        """Print that *subject* got to *text*."""
        if not self.quiet:
            self.out.write(f"{self.elapsed():7.1f}s  {subject:<12} {text}\n")
            self.out.flush()
