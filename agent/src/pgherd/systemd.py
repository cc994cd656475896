# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking with systemd: sd_notify(3), and which job is ending us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket


class Notifier:
    """Sends sd_notify messages; does nothing where there is no service manager."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")

    def ready(self, status: str) -> None:
        """The agent serves its REST API."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """The loop has just made a round."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """The agent is about to end."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        # A service manager that is being replaced misses one message, not more.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.connect(address)
            channel.sendall(message.encode())


async def is_restart(unit: str, within: float = 2.0) -> bool:
    """Tell whether systemd is ending *unit* only to start it again.

    `systemctl restart` queues a job of type restart, `systemctl stop` and a shutdown one of type
    stop. When systemd cannot be asked the answer is no: stopping PostgreSQL is the safe reading.
    """
    command = ["systemctl", "list-jobs", "--no-legend", "--plain", unit]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    # Columns: job number, unit, type, state.
    jobs = [line.split() for line in output.decode().splitlines()]
    return any(len(job) >= 3 and job[1] == unit and job[2] == "restart" for job in jobs)
