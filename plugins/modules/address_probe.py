#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a network whether somebody has an address."""

from __future__ import annotations

DOCUMENTATION = r"""
module: address_probe
short_description: Ask a network whether somebody has an address
description:
  - Sends ARP probes (RFC 5227), which change nobody's tables, and waits for who answers.
  - Changes nothing. IPv6 addresses are not asked for.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  places:
    description: The addresses, each with the interface that leads to its network.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: The address.
        type: str
        required: true
      interface:
        description: The interface.
        type: str
        required: true
  wait_seconds:
    description: How long to wait for answers, for all addresses together.
    type: float
    default: 1
attributes:
  check_mode:
    description: Asks only, so a check run is a run.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Ask whether an address is free
  pgherd.cluster.address_probe:
    places:
      - address: 192.0.2.100
        interface: eth0
"""

RETURN = r"""
answers:
  description: Hardware addresses of those who answered, by address; empty when all are free.
  returned: always
  type: dict
  sample: {"192.0.2.100": "02:42:0a:57:0d:64"}
"""

import select
import socket
import struct
import time

from ansible.module_utils.basic import AnsibleModule

ETHERTYPE_ARP = 0x0806
REQUEST = 1
REPLY = 2
# Hardware (Ethernet) and protocol (IPv4) with the lengths of their addresses, and the operation.
HEAD = struct.Struct("!HHBBH")
PACKET = struct.Struct("!6s6sH8s6s4s6s4s")
BROADCAST = b"\xff" * 6
PROBES = 3


def probe(hardware: bytes, address: bytes) -> bytes:
    """Return the frame that asks who has *address*; its sender says no address of its own."""
    head = HEAD.pack(1, 0x0800, 6, 4, REQUEST)
    return PACKET.pack(
        BROADCAST, hardware, ETHERTYPE_ARP, head, hardware, bytes(4), bytes(6), address
    )


def speaker(frame: bytes, hardware: bytes) -> tuple[bytes, bytes] | None:
    """Return address and hardware address of who says in an ARP *frame* to have it.

    None for what is no ARP, what *hardware* (ourselves) sent, and probes.
    """
    if len(frame) < PACKET.size:
        return None
    _to, _from, kind, _head, sender, address, _whom, _wanted = PACKET.unpack(frame[: PACKET.size])
    if kind != ETHERTYPE_ARP or sender == hardware or address == bytes(4):
        return None
    return address, sender


def ask(interface: str, addresses: list[str], wait_seconds: float) -> dict[str, str]:
    """Return the hardware address of who has each of *addresses*; raises OSError."""
    wanted = {socket.inet_aton(address): address for address in addresses}
    found: dict[str, str] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as link:
        link.bind((interface, ETHERTYPE_ARP))
        hardware = link.getsockname()[4]
        for _probe in range(PROBES):
            for address in wanted:
                link.send(probe(hardware, address))
            end = time.monotonic() + wait_seconds / PROBES
            while len(found) < len(wanted) and (left := end - time.monotonic()) > 0:
                if select.select([link], [], [], left)[0]:
                    said = speaker(link.recv(2048), hardware)
                    if said and said[0] in wanted:
                        found[wanted[said[0]]] = said[1].hex(":")
            if len(found) == len(wanted):
                break
    return found


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "places": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"address": text, "interface": text},
            },
            "wait_seconds": {"type": "float", "default": 1},
        },
        supports_check_mode=True,
    )
    by_interface: dict[str, list[str]] = {}
    for place in module.params["places"]:
        if ":" not in place["address"]:
            by_interface.setdefault(place["interface"], []).append(place["address"])
    try:
        answers = [
            ask(interface, addresses, module.params["wait_seconds"])
            for interface, addresses in by_interface.items()
        ]
    except OSError as error:
        module.fail_json(msg=f"cannot ask for {by_interface}: {error}")
    module.exit_json(changed=False, answers={k: v for each in answers for k, v in each.items()})


if __name__ == "__main__":
    main()
