# SPDX-License-Identifier: GPL-3.0-or-later
"""The first thing an agent does: renew the lease of the agent before it, with bare hands.

The libraries that the agent needs take most of its start, and on a busy host longer than a short
lease lasts. This needs none of them: it is done within some hundredths of a second of processor
time. What it must know is left in a file by the agent before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgherd.clock import boot_id, boottime
from pgherd.guard_orders import Orders

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "early.json"
ANSWER_BYTES = 65536


class Notes(NamedTuple):
    """What the next agent with the configuration file `config` needs; seconds, paths."""

    boot_id: str
    config: str
    lease: str
    orders: str
    endpoints: list[str]
    cacert: str | None
    cert: str | None
    key: str | None
    margin: float
    within: float

    def write(self, directory: Path) -> None:
        """Leave the notes in *directory*.

        :raises OSError: they cannot be written.
        """
        temporary = directory / f"{NAME}.new"
        temporary.write_text(json.dumps(self._asdict()))
        temporary.rename(directory / NAME)


def renew(config: Path, directory: Path | None = None) -> bool:
    """Renew the lease of the last agent with *config*, and put the guard's deadline off.

    Only where that agent had a primary guarded: nothing else is in such a hurry. Whatever is
    missing or does not work is left to the agent that is about to start.

    :param directory: the runtime directory, by default the one that systemd names.
    :return: whether the lease was renewed.
    """
    directory = directory or Path(os.environ.get("RUNTIME_DIRECTORY", "/run/pgherd"))
    try:
        notes = Notes(**_mapping(directory / NAME))
        lease = _mapping(Path(notes.lease))
        if notes.config != str(config) or {notes.boot_id, lease["boot_id"]} != {boot_id()}:
            return False
        number, ttl = int(lease["lease"]), int(lease["ttl"])
    except (OSError, ValueError, TypeError, KeyError):
        return False
    orders = Orders.read(Path(notes.orders))
    if orders is None or orders.boot_id != notes.boot_id or orders.deadline is None:
        return False
    for endpoint in notes.endpoints:
        sent = boottime()
        try:
            if not _keep_alive(endpoint, number, notes):
                return False
        except (OSError, ValueError):
            continue
        # As LeaseKeeper and Loop reckon; the guard looks into the file before it kills.
        deadline = sent + ttl - notes.margin / 2
        later = orders._replace(told_at=sent, deadline=deadline, lease_end=sent + ttl)
        with contextlib.suppress(OSError):
            later.write(Path(notes.orders))
        return True
    return False


def _keep_alive(endpoint: str, lease: int, notes: Notes) -> bool:
    """Ask one endpoint once; tell whether etcd knows the lease.

    :raises OSError: no answer, or not one of etcd's.
    """
    scheme, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    body = json.dumps({"ID": str(lease)})
    request = (
        f"POST /v3/lease/keepalive HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    plain = socket.create_connection((host.strip("[]"), int(port)), timeout=notes.within)
    with _secured(plain, host, notes) if scheme == "https" else plain as channel:
        channel.sendall(request.encode())
        return _ttl(channel.recv) > 0


def _secured(plain: socket.socket, host: str, notes: Notes) -> socket.socket:
    import ssl

    context = ssl.create_default_context(cafile=notes.cacert)
    if notes.cert:
        context.load_cert_chain(notes.cert, notes.key)
    return context.wrap_socket(plain, server_hostname=host.strip("[]"))


def _ttl(receive: Callable[[int], bytes]) -> int:
    """Return the seconds that the answer promises; etcd leaves the field out for none.

    :raises OSError: the answer is none of etcd's.
    """
    answer = b""
    while not re.search(rb'\{"result":\{.*\}\}', answer):
        chunk = receive(ANSWER_BYTES)
        if not chunk or len(answer) > ANSWER_BYTES:
            raise OSError("not the answer of etcd's gateway")
        answer += chunk
    found = re.search(rb'"TTL":"(\d+)"', answer)
    return int(found[1]) if found else 0


def _mapping(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise TypeError(f"{path} holds no mapping")
    return content
