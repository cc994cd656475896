# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts in the network, made in a host's own network namespace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Lab
    from lab.settings import Settings

# A chain of our own: Docker's name service lives in other chains of the same namespace.
CHAIN: Final = "LABCUT"
INCOMING: Final = ("INPUT", "!", "-i", "lo", "-j", CHAIN)
OUTGOING: Final = ("OUTPUT", "!", "-o", "lo", "-j", CHAIN)
ETCD_PORTS: Final = "2379,2380"
ETCD_MATCHES: Final = tuple(
    ["-p", "tcp", "-m", "multiport", side, ETCD_PORTS] for side in ("--dports", "--sports")
)


@dataclass(frozen=True)
class Cut:
    """What a cut drops.

    peers: only packets to and from these hosts; everybody's, clients' included, when empty.
    etcd: only etcd's traffic (True), all but etcd's (False), or all (None).
    way: only packets that come `in` or go `out`, or `both`.
    """

    peers: Sequence[str] = ()
    etcd: bool | None = None
    way: Literal["in", "out", "both"] = "both"

    def rules(self, settings: Settings, host: str) -> list[list[str]]:
        """Return the iptables commands (without the program's name) that cut *host* so."""
        addresses = [settings.address(peer) for peer in self.peers if peer != host]
        rules = [["-N", CHAIN]]
        if self.etcd is False:
            rules += [["-A", CHAIN, *match, "-j", "RETURN"] for match in ETCD_MATCHES]
        matches = ETCD_MATCHES if self.etcd else ([],)
        for end in [[way, address] for address in addresses for way in ("-s", "-d")] or [[]]:
            rules += [["-A", CHAIN, *end, *match, "-j", "DROP"] for match in matches]
        if self.way != "out":
            rules.append(["-I", *INCOMING])
        if self.way != "in":
            rules.append(["-I", *OUTGOING])
        return rules

    def __str__(self) -> str:
        """Say it in words."""
        whom = ", ".join(self.peers) or "everybody"
        what = {None: "", True: ", etcd only", False: ", all but etcd"}[self.etcd]
        way = {"both": "", "in": ", only what comes in", "out": ", only what goes out"}[self.way]
        return f"{whom}{what}{way}"


def cut(lab: Lab, host: str, how: Cut | None = None) -> None:
    """Drop packets of *host* until heal().

    Nobody is told: connections hang, as when a cable is pulled. Without *how* it is cut off from
    everybody. Raises LabError when the host is not running.
    """
    how = how or Cut()
    heal(lab, host, quiet=True)
    for rule in how.rules(lab.settings, host):
        lab.exec(host, ["iptables", "-w", *rule])
    others = tuple(peer for peer in how.peers if peer != host)
    lab.progress.line(host, f"cut off from {replace(how, peers=others)}")


def heal(lab: Lab, host: str, *, quiet: bool = False) -> None:
    """Undo every cut of *host*; a host that is not cut is left as it is."""
    code, _ = lab.exec(host, ["iptables", "-w", "-S", CHAIN], check=False)
    if code == 0:
        for jump in (INCOMING, OUTGOING):
            # A cut in one direction has one of the two only.
            lab.exec(host, ["iptables", "-w", "-D", *jump], check=False)
        lab.exec(host, ["iptables", "-w", "-F", CHAIN])
        lab.exec(host, ["iptables", "-w", "-X", CHAIN])
    if not quiet:
        lab.progress.line(host, "healed")
