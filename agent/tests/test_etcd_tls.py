# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd behind TLS that asks its clients for certificates."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.tests.builders import config
from agent.tests.door import make_certificate
from agent.tests.etcd_processes import (
    MISSING,
    PROGRAM,
    START_SECONDS,
    EtcdMember,
    free_ports,
    stop,
    wait_until_healthy,
)
from pgherd.clock import boottime
from pgherd.config import Tls
from pgherd.early import renew
from pgherd.errors import StoreError
from pgherd.etcd import Etcd, Put
from pgherd.start import Foothold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "/test/key"


def start(directory: Path, tls: Tls) -> EtcdMember:
    """Start one member, which trusts no certificate but its own."""
    assert PROGRAM is not None, MISSING
    client, peer = free_ports(2)
    ours, theirs = f"https://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    command = [
        PROGRAM, "--name", "m", "--data-dir", str(directory / "m"),
        "--listen-client-urls", ours, "--advertise-client-urls", ours,
        "--listen-peer-urls", theirs, "--initial-advertise-peer-urls", theirs,
        "--initial-cluster", f"m={theirs}",
        "--client-cert-auth", "--trusted-ca-file", str(tls.ca),
        "--cert-file", str(tls.certificate), "--key-file", str(tls.key),
    ]  # fmt: skip
    # The environment of whoever runs the tests must not configure it.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
    with (directory / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    return EtcdMember(ours, process)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    made = make_certificate(tmp_path_factory.mktemp("tls"), "etcd")
    return Tls(made.ca, made.certificate, made.key)


@pytest.fixture(scope="module")
def member(tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    directory = tmp_path_factory.mktemp("etcd")
    known = start(directory, tls)
    try:
        asyncio.run(wait_until_healthy([known], tls.client_context()))
        yield known
    finally:
        stop([known])


def client(member: EtcdMember, tls: Tls) -> Etcd:
    return Etcd([member.endpoint], timeout=2, hedge_delay=1, tls=tls.client_context())


async def test_what_an_agent_asks_of_etcd_works_through_tls(member: EtcdMember, tls: Tls) -> None:
    etcd = client(member, tls)
    try:
        lease = await etcd.lease_grant(60)
        revision, _ = await etcd.range(KEY)
        assert await etcd.txn([], [Put(KEY, "there", lease)])
        await etcd.lease_keepalive(lease)
        async with asyncio.timeout(START_SECONDS):
            async for changed in etcd.watch("/test/", revision):
                assert KEY in changed
                break
        _, found = await etcd.range(KEY)
        assert [each.value for each in found] == ["there"]
    finally:
        await etcd.close()


async def test_who_shows_no_certificate_or_trusts_another_authority_gets_nothing(
    member: EtcdMember, tls: Tls, tmp_path: Path
) -> None:
    other = make_certificate(tmp_path, "other")
    for mistaken in (Tls(tls.ca), Tls(other.ca, tls.certificate, tls.key)):
        etcd = client(member, mistaken)
        try:
            with pytest.raises(StoreError):
                await etcd.range(KEY)
        finally:
            await etcd.close()


async def test_the_first_renewal_of_a_new_agent_goes_through_tls(
    member: EtcdMember, tls: Tls, tmp_path: Path
) -> None:
    section = {
        "hosts": [member.endpoint.partition("://")[2]],
        "protocol": "https",
        "cacert": tls.ca,
        "cert": tls.certificate,
        "key": tls.key,
    }
    path = tmp_path / "pgherd.yml"
    before = Foothold(path, config(tmp_path, etcd3=section))
    await before.take()
    before.guard_process.arm(boottime())
    assert before.keeper.lease is not None
    await before.etcd.close()
    assert await asyncio.to_thread(renew, path, tmp_path)
