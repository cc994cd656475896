# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts in the network, made in a host's own network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lab.settings import HOSTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.hosts import Lab

# A chain of our own: Docker's name service lives in other chains of the same namespace.
CHAIN: Final = "LABCUT"
ETCD_PORTS: Final = "2379,2380"


def cut(lab: Lab, host: str, *, peers: Sequence[str] = (), etcd_only: bool = False) -> None:
    """Drop the packets between *host* and the rest, both ways, until heal().

    Nobody is told: connections hang, as when a cable is pulled.

    lab, host: whom to cut off.
    peers: cut off only from these hosts; from everybody, clients included, when empty.
    etcd_only: drop only etcd's traffic (its own members' included).
    Raises LabError when the host is not running.
    """
    heal(lab, host, quiet=True)
    peers = tuple(peer for peer in peers if peer != host)
    rules: list[list[str]] = []
    ends = [[way, lab.settings.address(peer)] for peer in peers for way in ("-s", "-d")]
    for end in ends or [[]]:
        if etcd_only:
            for side in ("--dports", "--sports"):
                ports = ["-p", "tcp", "-m", "multiport", side, ETCD_PORTS]
                rules.append([*end, *ports, "-j", "DROP"])
        else:
            rules.append([*end, "-j", "DROP"])
    script = [["-N", CHAIN]]
    script += [["-A", CHAIN, *rule] for rule in rules]
    script += [["-I", "INPUT", "!", "-i", "lo", "-j", CHAIN]]
    script += [["-I", "OUTPUT", "!", "-o", "lo", "-j", CHAIN]]
    for rule in script:
        lab.exec(host, ["iptables", "-w", *rule])
    lab.progress.line(host, f"cut off from {', '.join(peers) or 'everybody'}")


def cut_from_peers(lab: Lab, host: str) -> None:
    """Cut *host* off from every other host of the lab; clients outside still reach it."""
    cut(lab, host, peers=[spec.name for spec in HOSTS])


def heal(lab: Lab, host: str, *, quiet: bool = False) -> None:
    """Undo every cut of *host*; a host that is not cut is left as it is."""
    code, _ = lab.exec(host, ["iptables", "-w", "-S", CHAIN], check=False)
    if code == 0:
        lab.exec(host, ["iptables", "-w", "-D", "INPUT", "!", "-i", "lo", "-j", CHAIN])
        lab.exec(host, ["iptables", "-w", "-D", "OUTPUT", "!", "-o", "lo", "-j", CHAIN])
        lab.exec(host, ["iptables", "-w", "-F", CHAIN])
        lab.exec(host, ["iptables", "-w", "-X", CHAIN])
    if not quiet:
        lab.progress.line(host, "healed")
