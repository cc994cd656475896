# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster follows another, lives through its failover, takes its place and gives it back.

The probe writes all the time to whichever of the two clusters takes writes. The tests are chapters
of one story, in the order of the file.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from lab import Lab, Settings
from lab.cluster import MEMBERS, Cluster
from lab.playbook import SITE, deploy, run
from lab.probe import Probe
from lab.stage import await_synchronous
from lab.store import Store
from lab.wait import until
from lab.wire import Wire, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)

AWAY: Final = "ops1"
INVENTORY: Final = Path(__file__).parents[1] / "inventory"
SECONDS_MAX: Final = 60.0
ROWS: Final = 50


@dataclass
class Story:
    """Two clusters: `home`, the lab's, and the one of a single member away; and who writes."""

    lab: Lab
    home: Cluster
    probe: Probe

    def role(self, host: str) -> str:
        """Return the role that *host* says it plays, empty while it does not answer."""
        try:
            _, body = self.home.rest(host, "/patroni")
        except OSError:
            return ""
        return str(json.loads(body).get("role", ""))

    def await_role(self, role: str, *hosts: str) -> str:
        """Wait until one of *hosts* plays *role*; return it."""
        found: list[str] = []

        def holds() -> bool:
            found[:] = [host for host in hosts if self.role(host) == role]
            return bool(found)

        until(holds, SECONDS_MAX, f"{role} among {hosts}")
        return found[0]

    def writes_go_on(self) -> None:
        """Wait until rows have been acknowledged that were not when this was called."""
        self.probe.await_rows(ROWS, after=time.monotonic(), timeout_seconds=SECONDS_MAX)

    def rows_arrive(self, *hosts: str) -> None:
        """Wait until all rows that are acknowledged now are on *hosts*."""
        wanted = {row.number for row in self.probe.acknowledged}
        for host in hosts:
            until(partial(self._has, host, wanted), SECONDS_MAX, f"rows on {host}")

    def _has(self, host: str, wanted: set[int]) -> bool:
        try:
            with Wire(self.home.target(host), 10) as wire:
                return not wanted - self.probe.present(wire)
        except WireError:
            return False

    def streams(self, upstream: str, name: str) -> bool:
        """Tell whether *name* streams from *upstream*, which may be starting."""
        try:
            rows = self.home.query(upstream, "SELECT application_name FROM pg_stat_replication")
        except WireError:
            return False
        return (name,) in rows

    def undone(self) -> int:
        """Return how often WAL had to be undone anywhere."""
        command = ["journalctl", "--unit=pgherd", "--no-pager", "--output=cat"]
        outputs = [self.lab.exec(host, command)[1] for host in (AWAY, *MEMBERS)]
        return sum(output.count("is not part of the cluster") for output in outputs)

    def configure(self, host: str, followed: dict[str, Any] | None) -> None:
        """Say in the cluster of *host* whom it follows."""
        status, text = self.home.ask(host, "PATCH", "/config", {"standby_cluster": followed})
        assert status == 200, text

    def addresses(self, *hosts: str) -> dict[str, Any]:
        """Return how to follow the cluster of *hosts*."""
        names = ",".join(self.lab.settings.address(host) for host in hosts)
        return {"host": names, "port": 5432}


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Deploy the second cluster; take it away again at the end."""
    lab = Lab(Settings.from_environment())
    home = Cluster(lab.settings)
    deploy({"cluster_partner_addresses": [lab.settings.address(AWAY)]})
    outcome = run(SITE, inventory=INVENTORY)
    assert outcome.code == 0, outcome.output[-4000:]
    await_synchronous(home, Store(lab))
    targets = (*home.targets(), home.target(AWAY))
    probe = Probe(targets, run=uuid.uuid4().hex)
    probe.start()
    try:
        yield Story(lab, home, probe)
    finally:
        probe.stop()
        lab.exec(AWAY, ["systemctl", "disable", "--now", "pgherd", "pgherd-guard"])


def test_what_is_written_at_home_arrives_away(story: Story) -> None:
    assert story.role(AWAY) == "standby_leader"
    story.writes_go_on()
    story.rows_arrive(AWAY)
    assert story.home.rest(AWAY, "/standby-leader")[0] == 200
    assert story.home.rest(AWAY, "/primary")[0] == 503


def test_a_second_run_of_the_playbook_changes_nothing(story: Story) -> None:
    outcome = run(SITE, inventory=INVENTORY)
    assert (outcome.code, outcome.changed[AWAY]) == (0, 0), outcome.output[-4000:]


def test_a_failover_at_home_is_followed(story: Story) -> None:
    lost = await_synchronous(story.home, Store(story.lab))
    story.lab.kill(lost)
    story.writes_go_on()
    story.rows_arrive(AWAY)
    story.lab.start(lost, wait=False)
    story.home.await_healthy(SECONDS_MAX)


def test_a_member_streams_from_another_one_while_that_is_there(story: Story) -> None:
    """With a failover of the standby in between the leader is followed at once."""
    leader = await_synchronous(story.home, Store(story.lab))
    middle, last = (name for name in MEMBERS if name != leader)
    fragment = json.dumps({"tags": {"replicatefrom": middle}})
    path = "/etc/pgherd/conf.d/90-tags.yml"
    story.lab.exec(last, ["sh", "-c", f"echo '{fragment}' > {path}; systemctl reload pgherd"])
    until(lambda: story.streams(middle, last), SECONDS_MAX, "a cascade")
    story.lab.kill(middle)
    killed = time.monotonic()
    until(lambda: story.streams(leader, last), SECONDS_MAX, "the leader is followed")
    sys.stdout.write(f"\nback with the leader after {time.monotonic() - killed:.2f} s\n")
    story.lab.start(middle, wait=False)
    until(lambda: story.streams(middle, last), SECONDS_MAX, "a cascade again")
    story.lab.exec(last, ["sh", "-c", f"rm {path}; systemctl reload pgherd"])
    await_synchronous(story.home, Store(story.lab))


def test_they_change_places(story: Story) -> None:
    """All WAL of the demoted primary is with the other cluster: nothing has to be undone."""
    undone, began = story.undone(), time.monotonic()
    leader = story.home.await_healthy(SECONDS_MAX)
    story.configure(leader, story.addresses(AWAY))
    story.await_role("standby_leader", *MEMBERS)
    story.configure(AWAY, None)
    story.await_role("primary", AWAY)
    story.writes_go_on()
    sys.stdout.write(f"\nplaces changed after {time.monotonic() - began:.2f} s\n")
    story.rows_arrive(*MEMBERS)
    assert story.undone() == undone


def test_and_back(story: Story) -> None:
    undone = story.undone()
    leader = story.await_role("standby_leader", *MEMBERS)
    story.configure(AWAY, story.addresses(*MEMBERS))
    story.await_role("standby_leader", AWAY)
    story.configure(leader, None)
    story.await_role("primary", *MEMBERS)
    story.writes_go_on()
    story.rows_arrive(AWAY, *MEMBERS)
    await_synchronous(story.home, Store(story.lab))
    assert story.undone() == undone


def test_no_acknowledged_row_is_missing_anywhere(story: Story) -> None:
    story.probe.stop()
    story.rows_arrive(AWAY, *MEMBERS)
    gap = story.probe.gap()
    sys.stdout.write(
        f"\n{len(story.probe.acknowledged)} rows acknowledged, none lost; "
        f"longest time without a commit {gap.seconds:.2f} s\n"
    )
