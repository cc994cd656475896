# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd cluster of three on loopback, for tests that must not trust an imitation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgherd.errors import StoreError
from pgherd.etcd import Delete, Etcd
from pgherd.waiting import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS: Final = 30.0
PROGRAM: Final = shutil.which("etcd") or shutil.which("etcd", path="/usr/bin:/usr/local/bin")
MISSING: Final = (
    "these tests talk to a real etcd, and there is no program `etcd` in the path: "
    "install it (Debian: apt-get install etcd-server)"
)


@dataclass(frozen=True)
class EtcdMember:
    """One running etcd process and its client URL."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Have the process do nothing for a while, as on a host that hangs."""
        self.process.send_signal(signal.SIGSTOP)
        # The signal takes effect when the kernel gets to it; the process says so itself.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start(directory: Path) -> list[EtcdMember]:
    """Start three members with their data below *directory*; they answer later."""
    assert PROGRAM is not None, MISSING
    ports = free_ports(6)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    peers = ",".join(f"m{index}={urls[index + 3]}" for index in range(3))
    # The environment of whoever runs the tests must not configure these processes.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
    members = []
    for index in range(3):
        command = [
            PROGRAM, "--name", f"m{index}", "--data-dir", str(directory / f"m{index}"),
            "--listen-client-urls", urls[index], "--advertise-client-urls", urls[index],
            "--listen-peer-urls", urls[index + 3],
            "--initial-advertise-peer-urls", urls[index + 3],
            "--initial-cluster", peers, "--initial-cluster-state", "new",
            "--heartbeat-interval", "50", "--election-timeout", "500",
            # Learners are added right after members were frozen.
            "--strict-reconfig-check=false",
        ]  # fmt: skip
        with (directory / f"m{index}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        members.append(EtcdMember(urls[index], process))
    return members


def stop(members: list[EtcdMember]) -> None:
    """End the processes."""
    for member in members:
        member.process.kill()
    for member in members:
        member.process.wait()


async def wait_until_healthy(members: list[EtcdMember], tls: ssl.SSLContext | None = None) -> None:
    """Wait until every member answers a linearizable read.

    :param tls: with which they are asked, None where they do without.
    :raises TimeoutError: they do not come up.
    """
    for member in members:
        client = Etcd([member.endpoint], timeout=2, hedge_delay=1, tls=tls)

        async def answers(client: Etcd = client) -> bool:
            try:
                await client.range("/healthy")
            except StoreError:
                return False
            return True

        try:
            await until(answers, every=0.05, within=START_SECONDS)
        finally:
            await client.close()


def run_until_healthy(members: list[EtcdMember]) -> None:
    """Do the same where there is no event loop yet."""
    asyncio.run(wait_until_healthy(members))


async def delete_all(client: Etcd) -> None:
    """Delete every key, so that one test does not see what another one wrote."""
    _, found = await client.range("/")
    if found:
        await client.txn([], [Delete(each.key) for each in found])
