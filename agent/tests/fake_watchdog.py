# SPDX-License-Identifier: GPL-3.0-or-later
"""A watchdog device without hardware."""

from __future__ import annotations

import errno

from pgherd.watchdog import Driver


class Hardware(Driver):
    """A device that remembers what was done to it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_there = True
        self.least_timeout = 1
        self.stops = True
        self.breaks = False
        self.seconds = 60

    def open(self, device: str) -> int:
        if not self.is_there:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self.calls.append(f"open {device}")
        return 7

    def write(self, fd: int, content: bytes) -> None:
        if self.breaks:
            raise OSError(errno.EIO, "Input/output error")
        self.calls.append({b".": "feed", b"V": "stop"}[content])

    def close(self, fd: int) -> None:
        self.calls.append("close")

    def is_usable(self, device: str) -> bool:
        return self.is_there

    def set_timeout(self, fd: int, seconds: int) -> None:
        self.seconds = max(seconds, self.least_timeout)
        self.calls.append(f"timeout {self.seconds}")

    def timeout(self, fd: int) -> int:
        return self.seconds

    def can_stop(self, fd: int) -> bool:
        return self.stops
