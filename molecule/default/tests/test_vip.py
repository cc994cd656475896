# SPDX-License-Identifier: GPL-3.0-or-later
"""The address that moves: one host has it, gives it away, and does not take it back."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from typing import Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS
from lab.progress import Progress
from lab.wait import until

SETTINGS: Final = Settings.from_environment()
STATISTICS: Final = 7000
SECONDS_MAX: Final = 20.0
# Longer than a host waits that wants the address: three adverts and its share of one.
QUIET_SECONDS: Final = 2.0


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The hosts."""
    return Lab(SETTINGS, Progress(quiet=True))


def holders(lab: Lab) -> list[str]:
    """Return the hosts that have the address."""
    command = ["ip", "-brief", "address", "show", "to", f"{SETTINGS.vip}/32"]
    return [name for name in MEMBERS if SETTINGS.vip in lab.exec(name, command)[1]]


def await_holder(lab: Lab, other_than: str = "") -> str:
    """Return the one host that has the address, once it is not *other_than*."""
    found = until(
        lambda: holders(lab),
        SECONDS_MAX,
        f"One host has {SETTINGS.vip}",
        holds=lambda names: len(names) == 1 and names != [other_than],
    )
    return found[0]


def balancer_at_the_address() -> int:
    """Return the status that the HAProxy behind the address gives."""
    connection = HTTPConnection(SETTINGS.vip, STATISTICS, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_host_has_it_and_answers_there(lab: Lab) -> None:
    await_holder(lab)
    assert balancer_at_the_address() == 200


@pytest.mark.parametrize("name", MEMBERS)
def test_the_secret_is_for_root_only(lab: Lab, name: str) -> None:
    path = "/etc/keepalived/pgherd-secret.rw"
    assert lab.exec(name, ["stat", "-c", "%U %a", path])[1].split() == ["root", "600"]


def test_who_goes_gives_it_away_and_does_not_take_it_back(lab: Lab) -> None:
    before = await_holder(lab)
    lab.exec(before, ["systemctl", "stop", "keepalived"])
    try:
        after = await_holder(lab, other_than=before)
        assert balancer_at_the_address() == 200
    finally:
        lab.exec(before, ["systemctl", "start", "keepalived"])
    quiet = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < quiet:
        assert holders(lab) == [after]


def test_a_balancer_that_hangs_costs_its_host_the_address(lab: Lab) -> None:
    before = await_holder(lab)
    lab.exec(before, ["systemctl", "kill", "--signal=SIGSTOP", "haproxy"])
    try:
        await_holder(lab, other_than=before)
        assert balancer_at_the_address() == 200
    finally:
        lab.exec(before, ["systemctl", "kill", "--signal=SIGCONT", "haproxy"])
