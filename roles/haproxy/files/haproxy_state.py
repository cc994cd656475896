# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell HAProxy which servers are fit before it lets the first client in.

HAProxy takes every server for fit until a first check says otherwise, and what has just been
started or reloaded would send clients to the wrong one. So this runs before: what the HAProxy that
runs knows is kept, and who is not known there is asked, all at once.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any

# Of the file's format 1 (HAProxy's management guide, "show servers state").
OPERATION, ADMINISTRATION, USER_WEIGHT, FIRST_WEIGHT = 5, 6, 7, 8
PORT = 18
DOWN, UP = 0, 2
# The check's state: configured and enabled.
CHECKED = 6
FAILED, PASSED = 2, 3
DUMP_SECONDS = 2.0
DUMP_BYTES = 65536

Key = tuple[str, str]


def running_states(path: str) -> dict[Key, list[str]]:
    """Return the fields of each server that the HAProxy at socket *path* has; none if none runs."""
    try:
        with socket.socket(socket.AF_UNIX) as console:
            console.settimeout(DUMP_SECONDS)
            console.connect(path)
            console.sendall(b"show servers state\n")
            text = b""
            while part := console.recv(DUMP_BYTES):
                text += part
    except OSError:
        return {}
    rows = [line.split() for line in text.decode().splitlines()[1:]]
    return {(row[1], row[3]): row for row in rows if len(row) > PORT and not row[0].startswith("#")}


def ask(servers: list[dict[str, Any]], seconds: float) -> set[Key]:
    """Return those of *servers* whose agents answer 200 within *seconds*."""
    fit = set()
    with selectors.DefaultSelector() as selector:
        for server in servers:
            family = socket.AF_INET6 if ":" in server["address"] else socket.AF_INET
            line = socket.socket(family)
            line.setblocking(False)
            line.connect_ex((server["address"], server["check_port"]))
            selector.register(line, selectors.EVENT_WRITE, server)
        deadline = time.monotonic() + seconds
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _events in selector.select(left):
                if _proceed(selector, key):
                    fit.add(name_of(key.data))
        for key in list(selector.get_map().values()):
            _close(selector, key)
    return fit


def _proceed(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
    """Send the request or read the answer; return whether it was 200."""
    line = key.fileobj
    assert isinstance(line, socket.socket)
    try:
        if key.events == selectors.EVENT_WRITE:
            line.sendall(f"GET {key.data['path']} HTTP/1.0\r\n\r\n".encode())
            selector.modify(line, selectors.EVENT_READ, key.data)
            return False
        words = line.recv(256).split(maxsplit=2)
    except OSError:
        words = []
    _close(selector, key)
    return len(words) > 1 and words[1] == b"200"


def _close(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    line = key.fileobj
    assert isinstance(line, socket.socket)
    selector.unregister(line)
    line.close()


def name_of(server: dict[str, Any]) -> Key:
    """Return backend and server, by which HAProxy knows it."""
    return server["backend"], server["server"]


def state_text(servers: list[dict[str, Any]], running: dict[Key, list[str]], fit: set[Key]) -> str:
    """Return the file: what *running* says of the same server, else whether it is in *fit*."""
    lines = ["1", "# Written before HAProxy starts or reloads."]
    for number, server in enumerate(servers, 1):
        key = name_of(server)
        up, administration, weights = key in fit, "0", ("1", "1")
        if known := same(server, running):
            up = known[OPERATION] != str(DOWN)
            administration = known[ADMINISTRATION]
            weights = (known[USER_WEIGHT], known[FIRST_WEIGHT])
        fields = [number, key[0], number, key[1], server["address"], UP if up else DOWN]
        fields += [administration, *weights, 0]
        # The last check's kind (15: an HTTP status, 7: no connection), its result and the counter.
        fields += [15, PASSED, server["health"]] if up else [7, FAILED, 0]
        fields += [CHECKED, 0, 0, 0, "-", server["port"], "-", 0, server["check_port"], "-", "-", 0]
        lines.append(" ".join(str(field) for field in fields))
    return "\n".join(lines) + "\n"


def same(server: dict[str, Any], running: dict[Key, list[str]]) -> list[str] | None:
    """Return what is known of *server*, unless its name is that of another place now."""
    known = running.get(name_of(server))
    if known and known[4] == server["address"] and known[PORT] == str(server["port"]):
        return known
    return None


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("servers", help="the file that names the servers and how to ask for them")
    parser.add_argument("state", help="the file HAProxy reads")
    parser.add_argument("--socket", default="/run/haproxy/admin.sock", help="of HAProxy")
    arguments = parser.parse_args()
    wanted = json.loads(Path(arguments.servers).read_text(encoding="utf-8"))
    servers = wanted["servers"]
    running = running_states(arguments.socket)
    unknown = [server for server in servers if same(server, running) is None]
    text = state_text(servers, running, ask(unknown, wanted["timeout_ms"] / 1000))
    temporary = Path(arguments.state + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(arguments.state)
    return 0


if __name__ == "__main__":
    sys.exit(main())
