# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent tells the guard process, what it answers, and the file that outlives both.

The agent writes its orders to the file first, then sends the same over the socket. So a guard that
starts finds the newest orders, also those that were given while there was no guard. (Tuples with
names, because the module `dataclasses` would be a tenth of the guard's memory.)
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

# Orders and answers are a few hundred bytes; one datagram each.
DATAGRAM_BYTES = 16384


class Orders(NamedTuple):
    """Until when PostgreSQL may be a primary, and how it is killed.

    Times are seconds on CLOCK_BOOTTIME, which mean nothing in another boot than `boot_id`.
    `deadline` is None while PostgreSQL is no primary. `lease_end` is when etcd gives the key to
    others: a watchdog must have reset the host by then. `cage` is the cgroup of the instance, empty
    where it has none.
    """

    boot_id: str
    told_at: float
    deadline: float | None
    lease_end: float
    data_dir: str
    cage: str
    watchdog_mode: str
    watchdog_device: str
    watchdog_timeout: int

    def says_the_same_as(self, other: Orders | None) -> bool:
        """Whether *other* differs in nothing but when it was told."""
        return other is not None and other._replace(told_at=self.told_at) == self

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, content: bytes) -> Orders:
        """Read what `encode` has made.

        :raises ValueError: it is damaged, or made by another release.
        """
        return cls(**_document(content, set(cls._fields)))

    def write(self, path: Path) -> None:
        """Write the orders to *path* by rename.

        Not synced: the file has to outlive processes, not the host, whose next boot has another id.

        :raises OSError: it cannot be written.
        """
        temporary = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(self.encode())
        temporary.rename(path)

    @classmethod
    def read(cls, path: Path) -> Orders | None:
        """Return the orders in the file *path*, None when there are none that can be read."""
        try:
            return cls.decode(path.read_bytes())
        except (OSError, ValueError):
            return None


class Answer(NamedTuple):
    """What the guard process says to the orders told at `told_at`.

    `watchdog` is ``off``, ``active`` or ``unavailable``.
    """

    told_at: float
    watchdog: str

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @classmethod
    def decode(cls, content: bytes) -> Answer:
        """Read what `encode` has made.

        :raises ValueError: it is damaged, or made by another release.
        """
        return cls(**_document(content, set(cls._fields)))


def _document(content: bytes, names: set[str]) -> dict[str, Any]:
    document = json.loads(content)
    if not isinstance(document, dict) or set(document) != names:
        raise ValueError("not what this release of pgherd writes")
    return document


def socket_path(runtime_dir: Path, scope: str) -> Path:
    """Return where the guard of the cluster *scope* listens."""
    return runtime_dir / f"{scope}.guard.sock"


def orders_path(runtime_dir: Path, scope: str) -> Path:
    """Return where the orders for the guard of the cluster *scope* are kept."""
    return runtime_dir / f"{scope}.guard.json"
