# SPDX-License-Identifier: GPL-3.0-or-later
"""vip-manager: the address is where the leader is, by etcd's key and by the REST API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from lab.cluster import CLUSTER_NAME, MEMBERS, REST_PORT
from lab.patroni_tools import HOST
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from lab.patroni_tools import Tools

# The last numbers of the two addresses, neither of which is the cluster's own.
MODES: Final = {"etcd": 110, "rest": 111}
UNIT: Final = "lab-vip-{mode}"
PACKAGE: Final = "vip-manager2"
MOVED_SECONDS_MAX: Final = 30.0

pytestmark = pytest.mark.timeout(180)


def address(lab: Lab, mode: str) -> str:
    """Return the address that follows the leader by *mode*."""
    return lab.settings.gateway.rpartition(".")[0] + f".{MODES[mode]}"


def command(lab: Lab, name: str, mode: str) -> list[str]:
    """Return how vip-manager is run on the host of the member *name*."""
    line = ["vip-manager", "--netmask", "24", "--interface", "eth0", "--ip", address(lab, mode)]
    if mode == "etcd":
        urls = [f"http://{lab.settings.address(member)}:2379" for member in MEMBERS]
        key = f"/service/{CLUSTER_NAME}/leader"
        options = ["--trigger-key", key, "--trigger-value", name, "--dcs-endpoints", ",".join(urls)]
    else:
        # As its documentation has it, so that it asks for `//leader`.
        url = f"http://127.0.0.1:{REST_PORT}/"
        options = ["--trigger-key", "/leader", "--trigger-value", "200", "--dcs-endpoints", url]
    return [*line, "--dcs-type", "etcd" if mode == "etcd" else "patroni", *options]


@pytest.fixture(scope="module", autouse=True)
def managers(lab: Lab, tools: Tools) -> Iterator[None]:
    """Both managers on every member's host."""
    if lab.settings.release == "12":
        pytest.skip("Debian 12 has vip-manager 1.0, which speaks etcd's API of version 2 only")
    units = [UNIT.format(mode=mode) for mode in MODES]
    for name in MEMBERS:
        tools.apt(name, PACKAGE)
        # The package starts it with no settings, which fails.
        lab.exec(name, ["systemctl", "disable", "--quiet", "--now", "vip-manager"])
        # A run that was broken off may have left its own.
        lab.exec(name, ["systemctl", "stop", *units], check=False)
        lab.exec(name, ["systemctl", "reset-failed"])
        for mode in MODES:
            unit = ["systemd-run", "--quiet", "--collect", "--unit", UNIT.format(mode=mode)]
            lab.exec(name, [*unit, *command(lab, name, mode)])
    yield
    for name in MEMBERS:
        lab.exec(name, ["systemctl", "stop", *units])


def holders(lab: Lab, mode: str) -> list[str]:
    """Return the members whose hosts have the address of *mode*."""
    show = ["ip", "-4", "-oneline", "address", "show", "dev", "eth0"]
    mark = f" {address(lab, mode)}/"
    return [name for name in MEMBERS if mark in lab.exec(name, show)[1]]


def await_holder(lab: Lab, mode: str, name: str) -> None:
    """Wait until *name* alone has the address, and its neighbours know; raises LabError."""
    until(
        lambda: holders(lab, mode),
        MOVED_SECONDS_MAX,
        f"{name} alone has the address",
        holds=lambda found: found == [name],
    )
    mac = lab.exec(name, ["cat", "/sys/class/net/eth0/address"])[1].strip()
    # Nothing listens there: the refusal is an answer, and by it the neighbour is known.
    connect = f"exec 3<> /dev/tcp/{address(lab, mode)}/9"
    refusal = lab.exec(HOST, ["bash", "-c", connect], check=False)[1]
    assert "Connection refused" in refusal
    assert re.search(mac, lab.exec(HOST, ["ip", "neighbour", "show", address(lab, mode)])[1])


@pytest.mark.parametrize("mode", MODES)
def test_the_address_follows_the_leader(
    lab: Lab, tools: Tools, leader: str, standbys: tuple[str, ...], mode: str
) -> None:
    await_holder(lab, mode, leader)
    tools.patronictl("switchover", "--candidate", standbys[0], "--force")
    await_holder(lab, mode, standbys[0])


def test_the_address_leaves_a_host_without_an_agent(lab: Lab, leader: str) -> None:
    """By the REST API it would stay: to vip-manager an agent that is silent is no news."""
    await_holder(lab, "etcd", leader)
    lab.exec(leader, ["systemctl", "stop", "pgherd"])
    try:
        found = until(
            lambda: holders(lab, "etcd"),
            MOVED_SECONDS_MAX,
            f"Others than {leader} have the address",
            holds=lambda names: names and leader not in names,
        )
        assert len(found) == 1
    finally:
        lab.exec(leader, ["systemctl", "start", "pgherd"])
