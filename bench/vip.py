# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.vip`: have the address that moves move again and again; print how long it took.

Makes and deploys the lab where it is missing, with the balancer that is asked for. Exit code 1
when an acknowledged row was lost, 2 when the lab or the cluster cannot be had.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from bench.samples import spread
from lab import losses
from lab.cluster import Cluster
from lab.entrance import IMPATIENT_SECONDS, POOLER_RW, RW, Crowd, Entrance
from lab.errors import LabError
from lab.hosts import Lab
from lab.knocks import Knocks
from lab.playbook import deploy
from lab.progress import Progress
from lab.wire import WireError

if TYPE_CHECKING:
    from lab.losses import Loss
    from lab.wire import Target

# Who answers at the address, and where, by cluster_balancer.
DOORS: Final = {"haproxy": ("haproxy", RW), "none": ("pooler", POOLER_RW)}
CLIENTS: Final = 3


@dataclass(frozen=True)
class Move:
    """What a loss cost, in seconds: how long nobody answered, and how long no row was written."""

    silent: float
    stall: float
    lost: int


def move(entrance: Entrance, target: Target, lose: Loss) -> Move:
    """Have the address leave its host by *lose*; raises LabError or WireError.

    Another host leads, so that it is the address alone that is waited for.
    """
    leader, host = entrance.await_whole(), entrance.vip_host()
    if leader == host:
        status, text = entrance.cluster.ask(host, "POST", "/switchover", {"leader": host})
        if status != 200:
            raise LabError(f"Switchover from {host}: {status} {text}")
        entrance.await_whole()
    with (
        Crowd(entrance, target, CLIENTS, IMPATIENT_SECONDS) as crowd,
        Knocks(target.host, target.port) as door,
    ):
        begin = time.monotonic()
        mend = lose(entrance.lab, host)
        try:
            crowd.await_rows(100)
        finally:
            end = time.monotonic()
            mend()
        found = door.longest(begin, end), crowd.outage(begin, end)
        entrance.await_whole()
    if entrance.vip_host() == host:
        raise LabError(f"The address did not leave {host}.")
    return Move(*found, crowd.lost)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.vip", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="losses of each kind (5)")
    parser.add_argument("--balancer", choices=sorted(DOORS), default="none", help="(none)")
    parser.add_argument("--deployed", action="store_true", help="the lab is as it must be")
    arguments = parser.parse_args()
    part, port = DOORS[arguments.balancer]
    lab = Lab(progress=Progress(quiet=True))
    entrance = Entrance(lab, Cluster(lab.settings))
    lost = 0
    try:
        if not arguments.deployed:
            lab.up()
            deploy({"cluster_balancer": arguments.balancer})
        target = replace(entrance.application(), port=port)
        for what, lose in losses.of_the_address(part).items():
            moves = [move(entrance, target, lose) for _ in range(arguments.runs)]
            lost += sum(each.lost for each in moves)
            for name in ("silent", "stall"):
                figures = [getattr(each, name) for each in moves]
                sys.stdout.write(f"{spread(f'{what}, {name}', figures)}\n")
            sys.stdout.flush()
    except (LabError, WireError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write(f"acknowledged rows lost: {lost}\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
