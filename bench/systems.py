# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems that are compared when things break: pgherd and Patroni, on the lab's hosts.

Both get the same hosts, made anew so that nothing is left of who was there before. Settings that
differ within one are changed while it runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lab.cluster import MEMBERS, AgreedCluster
from lab.patroni import Patroni
from lab.playbook import deploy
from lab.processes import UNITS
from lab.stage import HEALTHY_SECONDS_MAX, repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.hosts import Lab

PGHERD: Final = "pgherd"
PATRONI: Final = "Patroni"


@dataclass(frozen=True)
class System:
    """What is compared.

    family: PGHERD or PATRONI. words: what sets it apart. settings: variables of site.yml, or
    dynamic settings of Patroni.
    """

    family: str
    words: str
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{self.family} {self.words}"

    @property
    def agent(self) -> str:
        """Which of lab.processes.UNITS runs its members."""
        return "agent" if self.family == PGHERD else "patroni"


DEFAULT: Final = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "synchronous_mode": False}
# Patroni takes nothing below.
TIGHT: Final = {**DEFAULT, "ttl": 20, "loop_wait": 1, "retry_timeout": 3}
SYSTEMS: Final = {
    "normal": System(PGHERD, "normal", {"cluster_rto": "normal"}),
    "fast": System(PGHERD, "fast", {"cluster_rto": "fast"}),
    "default": System(PATRONI, "30/10/10", DEFAULT),
    "tight": System(PATRONI, "20/1/3", TIGHT),
    "quorum": System(PATRONI, "20/1/3, quorum", {**TIGHT, "synchronous_mode": "quorum"}),
}
# What a run compares unless it is told otherwise.
COMPARED: Final = ("normal", "fast", "default", "tight")


@dataclass
class Ground:
    """The lab's hosts, and which family runs on them; empty while nothing is to be relied on."""

    lab: Lab
    family: str = field(default="", init=False)

    def find(self) -> None:
        """Take over what runs on all hosts already, mended of a fault that was broken off."""
        if any(host.state != "running" for host in self.lab.status()):
            return
        for system in SYSTEMS.values():
            unit = UNITS[system.agent]
            command = ["systemctl", "is-active", "--quiet", unit]
            if all(self.lab.exec(host, command, check=False)[0] == 0 for host in MEMBERS):
                repair(self.lab, system.agent)
                self.family = system.family
                return

    def make(self, system: System) -> None:
        """Have *system* run, on hosts made anew unless its family does already.

        Raises LabError when it cannot be had.
        """
        if system.family != self.family:
            self.lab.down()
            self.lab.up()
        if system.family == PGHERD:
            deploy(system.settings)
        else:
            patroni = Patroni(self.lab)
            if system.family != self.family:
                patroni.deploy()
            patroni.configure(system.settings)
        self.family = system.family

    def cluster(self, system: System) -> AgreedCluster:
        """Return the cluster as a client of *system* sees it."""
        if system.family == PGHERD:
            return AgreedCluster(self.lab.settings)
        return Patroni(self.lab).cluster

    def software(self, system: System) -> str:
        """Return what runs, with versions; raises LabError, WireError or OSError."""
        cluster = self.cluster(system)
        leader = cluster.await_healthy(HEALTHY_SECONDS_MAX)
        if system.family == PGHERD:
            agent = self.lab.exec(leader, ["pgherd", "--version"])[1].strip()
        else:
            version = json.loads(cluster.rest(leader, "/patroni")[1])["patroni"]["version"]
            agent = f"{system.family} {version}"
        postgres = cluster.query(leader, "SHOW server_version")[0][0].split()[0]
        debian = self.lab.exec(leader, ["cat", "/etc/debian_version"])[1].strip()
        return f"{agent}, PostgreSQL {postgres}, Debian {debian}"
