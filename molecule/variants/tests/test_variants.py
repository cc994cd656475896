# SPDX-License-Identifier: GPL-3.0-or-later
"""The way in takes other shapes, one after the other, and the lab's own again.

The tests are chapters of one story, in the order of the file.
"""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from lab import Lab, Settings
from lab.applications import HOST, Applications
from lab.cluster import INVENTORY, MEMBERS, Cluster
from lab.entrance import PATIENT_SECONDS, RO, RW, Crowd, Entrance
from lab.playbook import SITE, other_groups, run
from lab.settings import HOST_NAMES
from lab.stage import await_synchronous
from lab.store import Store
from lab.wait import until
from lab.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lab.wire import Target

pytestmark = pytest.mark.timeout(900)

SECONDS_MAX: Final = 60.0
# Only they have poolers to lose.
POOLERS: Final = ("pgbouncer-rw", "pgbouncer-ro")
ROWS: Final = 500
# An address of the lab's own in IPv6; Docker keeps that from hosts whose network has none.
NETWORK6: Final = "fd00:87::/64"
VIP6: Final = "fd00:87::100"
SPEAK6: Final = """
mount -o remount,bind,rw /proc/sys
for name in lo eth0; do echo 0 > /proc/sys/net/ipv6/conf/$name/disable_ipv6; done
mount -o remount,bind,ro /proc/sys
ip -6 address replace "$1" dev eth0 nodad
"""
FORGET6: Final = """
mount -o remount,bind,rw /proc/sys
for name in lo eth0; do echo 1 > /proc/sys/net/ipv6/conf/$name/disable_ipv6; done
mount -o remount,bind,ro /proc/sys
"""


@dataclass
class Story:
    """The lab, its cluster and an application's database."""

    lab: Lab
    entrance: Entrance
    target: Target

    @property
    def cluster(self) -> Cluster:
        return self.entrance.cluster

    def deploy(
        self, variables: Mapping[str, object] | None = None, inventory: Path = INVENTORY
    ) -> None:
        """Run the playbook twice; the second time it has nothing to do."""
        for wanted in (None, {0}):
            began = time.monotonic()
            outcome = run(SITE, variables, inventory=inventory)
            assert outcome.code == 0, outcome.output[-4000:]
            assert wanted in (None, set(outcome.changed.values())), outcome.output[-4000:]
            sys.stdout.write(f"\nsite.yml: {time.monotonic() - began:.0f} s\n")

    def active(self, *units: str) -> dict[str, list[str]]:
        """Return the hosts on which each of *units* runs."""
        return {
            unit: [
                host
                for host in HOST_NAMES
                if self.lab.exec(host, ["systemctl", "is-active", unit], check=False)[0] == 0
            ]
            for unit in units
        }

    def holders(self, address: str) -> list[str]:
        """Return the hosts that have *address*."""
        look = ["ip", "-brief", "address", "show", "to", address]
        return [host for host in HOST_NAMES if self.lab.exec(host, look)[1]]

    def whole(self) -> str:
        """Wait until all members may be elected, and return who leads."""
        return await_synchronous(self.cluster, Store(self.lab))

    def hand_over(self) -> None:
        """Hand the lead over to the next member."""
        old = self.whole()
        new = MEMBERS[(MEMBERS.index(old) + 1) % len(MEMBERS)]
        body = {"leader": old, "candidate": new}
        status, text = self.cluster.ask(old, "POST", "/switchover", body)
        assert status == 200, text
        assert self.whole() == new

    def hand_over_under_clients(self) -> Crowd:
        """Hand the lead over while clients write, who wait; return them."""
        self.whole()
        with Crowd(self.entrance, self.target, 3, PATIENT_SECONDS) as crowd:
            self.hand_over()
        sys.stdout.write(
            f"\n{crowd.outage():.2f} s without a commit, {crowd.lost} of {crowd.acknowledged} "
            f"rows lost, {crowd.broken} connections lost, {len(crowd.letdowns)} errors\n"
        )
        return crowd

    def leads_to(self, port: int, in_recovery: str) -> None:
        """Wait until a new client at *port* is led to a server that is in recovery, or is not."""

        def look() -> str:
            with Wire(replace(self.target, port=port), 10) as wire:
                return wire.query("SELECT pg_is_in_recovery()")[0][0]

        until(
            look,
            SECONDS_MAX,
            f"{in_recovery} at port {port}",
            holds=in_recovery.__eq__,
            passing=(WireError,),
        )


@pytest.fixture(scope="module")
def story() -> Story:
    lab = Lab(Settings.from_environment())
    entrance = Entrance(lab, Cluster(lab.settings))
    entrance.await_whole()
    return Story(lab, entrance, entrance.application())


def test_a_balancer_that_is_nothing_else(story: Story, tmp_path: Path) -> None:
    groups = {"etcd": MEMBERS, "postgres": MEMBERS, "balancer": [HOST]}
    story.deploy(inventory=other_groups(story.lab.settings, tmp_path / "hosts.yml", groups))
    assert story.active("haproxy", "keepalived") == {"haproxy": [HOST], "keepalived": [HOST]}
    assert story.holders(story.lab.settings.vip) == [HOST]
    crowd = story.hand_over_under_clients()
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)
    story.leads_to(RW, "f")
    story.leads_to(RO, "t")


def test_no_poolers(story: Story) -> None:
    # As documented for a host that is of no group any more.
    story.lab.exec(HOST, ["systemctl", "disable", "--now", "keepalived", "haproxy"])
    story.deploy({"cluster_pooler": "none"})
    assert story.active("haproxy", *POOLERS) == {
        "haproxy": list(MEMBERS),
        **{unit: [] for unit in POOLERS},
    }
    story.leads_to(RW, "f")
    story.leads_to(RO, "t")
    # Nobody holds the clients' transactions back: they lose their connections, but no row.
    crowd = story.hand_over_under_clients()
    assert crowd.lost == 0
    story.leads_to(RO, "t")


@pytest.fixture
def speaking6(story: Story) -> Iterator[None]:
    """Give the hosts addresses of IPv6."""
    for host in HOST_NAMES:
        address = f"{NETWORK6.removesuffix('/64')}{story.lab.settings.spec(host).number}/64"
        story.lab.exec(host, ["sh", "-ec", SPEAK6, "sh", address])
    yield
    for host in HOST_NAMES:
        story.lab.exec(host, ["sh", "-ec", FORGET6])


def test_an_address_of_ipv6(story: Story, speaking6: None) -> None:
    subnet = story.lab.settings.subnet
    story.deploy({"cluster_vip": VIP6, "cluster_client_networks": [subnet, NETWORK6]})
    assert story.active(*POOLERS) == {unit: list(MEMBERS) for unit in POOLERS}
    applications = Applications(story.lab, story.cluster)
    applications.install(["libpq"])
    applications.prepare()
    [holder] = story.holders(VIP6)
    assert story.holders(story.lab.settings.vip) == []
    held, ways = uuid.uuid4().hex, {}
    for form in ("libpq", "uri"):
        command = ["pgherd", "dsn", "--rw", "-d", "shop", "-U", "app", "--format", form]
        ways[form] = story.lab.exec(holder, command)[1].strip()
        assert VIP6 in ways[form]
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(applications.run, "libpq", ways["uri"], held, ROWS)
        until(lambda: applications.written(held) > 0, SECONDS_MAX, "it writes")
        story.hand_over()
        assert not task.done()
        assert task.result() == {"standby": False, "rows": ROWS, "errors": []}
    began = time.monotonic()
    story.lab.exec(holder, ["systemctl", "kill", "--signal=SIGSTOP", "haproxy"])
    try:
        until(lambda: story.holders(VIP6) not in ([], [holder]), SECONDS_MAX, "it moves")
        sys.stdout.write(f"\nelsewhere after {time.monotonic() - began:.2f} s\n")
        told = applications.run("libpq", ways["libpq"], uuid.uuid4().hex, 2)
    finally:
        story.lab.exec(holder, ["systemctl", "kill", "--signal=SIGCONT", "haproxy"])
    assert told == {"standby": False, "rows": 2, "errors": []}


def test_and_back(story: Story) -> None:
    story.deploy()
    assert story.holders(VIP6) == []
    crowd = story.hand_over_under_clients()
    assert (crowd.letdowns, crowd.broken, crowd.lost) == ([], 0, 0)
    assert story.entrance.await_whole() in MEMBERS
