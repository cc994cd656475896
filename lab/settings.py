# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells one lab from another: its name, its subnet and the Debian release of its hosts."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from lab.errors import LabError

CODENAMES: Final = {"13": "trixie", "12": "bookworm"}


@dataclass(frozen=True)
class HostSpec:
    """One host: its hostname and the last number of its address."""

    name: str
    number: int


HOSTS: Final = (
    HostSpec("pg1", 11),
    HostSpec("pg2", 12),
    HostSpec("pg3", 13),
    HostSpec("ops1", 21),
)
VIP_NUMBER: Final = 100
HOST_NAMES: Final = tuple(host.name for host in HOSTS)


@dataclass(frozen=True)
class Settings:
    """One lab; two labs with different names and subnets live side by side.

    data_disk: whether the hosts keep PostgreSQL's files on a small disk of their own, which may
    be filled or broken without harm to the engine's machine.
    Raises LabError for a name Docker would refuse, a subnet that is no /24 or an unknown release.
    """

    name: str = "pgherd"
    subnet: str = "10.87.13.0/24"
    release: str = "13"
    data_disk: bool = False

    def __post_init__(self) -> None:
        """Refuse what would only fail later and less clearly."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.name):
            raise LabError(
                f"PGHERD_LAB_NAME (--name) is {self.name!r}: use lower case letters, digits and "
                "hyphens, a letter first."
            )
        if self.release not in CODENAMES:
            raise LabError(
                f"PGHERD_LAB_RELEASE (--release) is {self.release!r}: the lab knows Debian "
                f"{' and '.join(sorted(CODENAMES))}."
            )
        try:
            network = ipaddress.IPv4Network(self.subnet)
        except ValueError as error:
            raise self._bad_subnet() from error
        if network.prefixlen != 24 or not network.is_private:
            raise self._bad_subnet()

    def _bad_subnet(self) -> LabError:
        return LabError(
            f"PGHERD_LAB_SUBNET (--subnet) is {self.subnet!r}: give a private IPv4 network with "
            "24 bits, such as 10.87.14.0/24."
        )

    @classmethod
    def from_environment(
        cls, name: str | None = None, subnet: str | None = None, release: str | None = None
    ) -> Settings:
        """Return the settings given, else those of PGHERD_LAB_*, else the defaults."""
        return cls(
            name=name or os.environ.get("PGHERD_LAB_NAME") or cls.name,
            subnet=subnet or os.environ.get("PGHERD_LAB_SUBNET") or cls.subnet,
            release=release or os.environ.get("PGHERD_LAB_RELEASE") or cls.release,
            data_disk=os.environ.get("PGHERD_LAB_DATA_DISK", "") not in ("", "0"),
        )

    @property
    def codename(self) -> str:
        """Debian's name for the release."""
        return CODENAMES[self.release]

    @property
    def gateway(self) -> str:
        """The address of the engine's machine on the lab's network: where clients come from."""
        return str(ipaddress.IPv4Network(self.subnet)[1])

    @property
    def vip(self) -> str:
        """The address that moves: the lab's inventory gives it to the cluster."""
        return str(ipaddress.IPv4Network(self.subnet)[VIP_NUMBER])

    def address(self, host: str) -> str:
        """Return the fixed address of *host*."""
        return str(ipaddress.IPv4Network(self.subnet)[self.spec(host).number])

    def container(self, host: str) -> str:
        """Return the name of the container that is *host*."""
        return f"{self.name}-{self.spec(host).name}"

    def spec(self, host: str) -> HostSpec:
        """Return the host called *host*; raises LabError when the lab has none of that name."""
        for spec in HOSTS:
            if spec.name == host:
                return spec
        raise LabError(f"The lab has no host {host!r}: its hosts are {', '.join(HOST_NAMES)}.")

    def environment(self) -> dict[str, str]:
        """Return the variables that lead another program (Ansible's inventory) to this lab."""
        return {
            "PGHERD_LAB_NAME": self.name,
            "PGHERD_LAB_SUBNET": self.subnet,
            "PGHERD_LAB_RELEASE": self.release,
            "PGHERD_LAB_DATA_DISK": "1" if self.data_disk else "0",
        }
