# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a cluster so that it holds what the inventory says."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.modules.dynamic_config import laid_on, patch_of

from pgherd.merge_patch import merge_patch

CURRENT = {"ttl": 30, "postgresql": {"parameters": {"work_mem": "4MB"}, "use_slots": True}}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({}, CURRENT),
        ({"ttl": 20}, {**CURRENT, "ttl": 20}),
        ({"ttl": None, "pause": None}, {"postgresql": CURRENT["postgresql"]}),
        (
            {"postgresql": {"parameters": {"work_mem": None, "jit": False}}},
            {"ttl": 30, "postgresql": {"parameters": {"jit": False}, "use_slots": True}},
        ),
        ({"ttl": {"a": 1}}, {**CURRENT, "ttl": {"a": 1}}),
    ],
)
def test_a_mapping_is_laid_on_as_the_agent_does_it(
    patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert laid_on(CURRENT, patch) == merge_patch(CURRENT, patch) == result


@pytest.mark.parametrize(
    ("held", "config", "patch"),
    [
        ({}, {"ttl": 20}, {"ttl": 20}),
        ({"pgherd": {"lease_ttl": 9}}, {}, {"pgherd": {"lease_ttl": 5}}),
        (
            {"pgherd": {"lease_ttl": 9}},
            {"ttl": 20, "pgherd": {"loop_interval": 1}},
            {"pgherd": {"lease_ttl": 5, "loop_interval": 1}, "ttl": 20},
        ),
        # Whoever takes it out wants the files to count again.
        ({"pgherd": {"lease_ttl": 9}}, {"pgherd": None}, {"pgherd": None}),
    ],
)
def test_of_the_timings_those_are_brought_up_to_date_that_the_cluster_holds(
    held: dict[str, Any], config: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert patch_of(held, config, {"lease_ttl": 5, "hedge_delay": 0.2}) == patch
