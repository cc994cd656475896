# SPDX-License-Identifier: GPL-3.0-or-later
"""What is broken is known by its name, and everything that stays broken can be undone."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._drill_faults import FAULTS, fault

# Those that systemd or the agent mends, and those that are no fault on a host.
MENDED = {"switchover", "postgres_crash", "agent_crash", "host_stop"}


def test_every_fault_that_stays_has_an_undoing() -> None:
    assert {name for name, one in FAULTS.items() if not one.undo} == MENDED


@pytest.mark.parametrize("name", FAULTS)
def test_the_lines_are_a_shells(name: str) -> None:
    for lines in (fault(name).make, fault(name).undo):
        subprocess.run(["/bin/sh", "-n", "-c", lines], check=True)


def test_an_unknown_name_is_refused_with_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match=r"`host_stp` \(did you mean host_stop\?\).*disk_full"):
        fault("host_stp")
