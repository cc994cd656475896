# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling systemd how a service is: sd_notify(3). Both processes do, so it imports little."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

# Pings come so often while the process may be silent once: sd_watchdog_enabled(3) asks for twice,
# but a host that stalls a little must not look like a process that hangs.
PINGS: Final = 4


class Notifier:
    """Sends sd_notify messages; does nothing where there is no service manager."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    @property
    def limit(self) -> float | None:
        """How long the unit lets the process be silent, seconds; None where it may be for good."""
        try:
            return int(os.environ["WATCHDOG_USEC"]) / 1_000_000
        except (KeyError, ValueError):
            return None

    def set_limit(self, seconds: float) -> None:
        """Have systemd wait so long for the next ping, and for those after it, from now on."""
        self._send(f"WATCHDOG_USEC={int(seconds * 1_000_000)}")

    def ready(self, status: str) -> None:
        """The service does its work."""
        self._send(f"READY=1\nSTATUS={status}")

    def ping(self) -> None:
        """The process does not hang."""
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The service is about to end."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        # A service manager that is being replaced misses one message, not more; one that does not
        # read must not hold us up.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel,
        ):
            channel.connect(address)
            channel.sendall(message.encode())
