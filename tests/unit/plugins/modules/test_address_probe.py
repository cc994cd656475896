# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over the wire when a network is asked for an address."""

from __future__ import annotations

import socket

from ansible_collections.pgherd.cluster.plugins.modules.address_probe import probe, speaker

OURS = bytes.fromhex("0242c0000201")
THEIRS = bytes.fromhex("0242c0000264")
ADDRESS = socket.inet_aton("192.0.2.100")


def test_a_probe_asks_all_and_says_no_address_of_its_own() -> None:
    assert probe(OURS, ADDRESS).hex(" ") == (
        "ff ff ff ff ff ff 02 42 c0 00 02 01 08 06 00 01 08 00 06 04 00 01 "
        "02 42 c0 00 02 01 00 00 00 00 00 00 00 00 00 00 c0 00 02 64"
    )


def test_who_answers_is_told_and_who_asks_is_not() -> None:
    answer = OURS + THEIRS + bytes.fromhex("0806 0001 0800 0604 0002") + THEIRS + ADDRESS
    answer += OURS + bytes(4)
    assert speaker(answer + bytes(18), OURS) == (ADDRESS, THEIRS)
    assert speaker(answer, THEIRS) is None
    assert speaker(probe(THEIRS, ADDRESS), OURS) is None
    assert speaker(b"short", OURS) is None
    assert speaker(answer.replace(bytes.fromhex("0806"), bytes.fromhex("0800"), 1), OURS) is None
