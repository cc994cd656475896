# SPDX-License-Identifier: GPL-3.0-or-later
"""Many clients of a REST API at once, as a program of its own: `python flood.py REQUESTS SECONDS`.

Reads the port from its standard input, goes on until it asked so often and for so long, and prints
what came of it as one line of JSON: how often which path was answered with which status (`failed`
for no answer), and the seconds it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import count
from typing import Final

CLIENTS: Final = 100
IDLE: Final = 200
# What is asked in rotation; balancers come with a new connection each time.
MIX: Final = (
    ("GET", "/primary"),
    ("OPTIONS", "/"),
    ("HEAD", "/replica"),
    ("GET", "/patroni"),
    ("GET", "/health"),
    ("GET", "/replica?lag=1MB"),
    ("GET", "/cluster"),
    ("POST", "/restart"),
    ("GET", "/metrics"),
    ("GET", "//leader"),
)


async def ask(port: int, method: str, path: str) -> str:
    """Ask on a connection of its own; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.transport.abort()
    return answer[9:12].decode() or "failed"


async def flood(port: int, requests: int, lasts: float) -> dict[str, object]:
    """Ask at least so many times and for so many seconds, with clients that hang on beside."""
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
    seen: Counter[str] = Counter()
    numbers = count()

    async def client() -> None:
        while (number := next(numbers)) < requests or time.monotonic() - began < lasts:
            method, path = MIX[number % len(MIX)]
            try:
                status = await ask(port, method, path)
            except OSError:
                status = "failed"
            seen[f"{method} {path} {status}"] += 1

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    seconds = time.monotonic() - began
    for _, writer in idle:
        writer.transport.abort()
    return {"seen": seen, "seconds": seconds}


if __name__ == "__main__":
    requests, lasts = int(sys.argv[1]), float(sys.argv[2])
    port = int(sys.stdin.readline())
    sys.stdout.write(json.dumps(asyncio.run(flood(port, requests, lasts))) + "\n")
