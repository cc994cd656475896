# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what is not so yet is asked for."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._operation import Plan
from ansible_collections.pgherd.cluster.plugins.modules.maintenance import plan


@pytest.mark.parametrize(
    ("is_paused", "state", "wanted"),
    [
        (False, "paused", Plan(body={"pause": True})),
        (True, "running", Plan(body={"pause": None})),
        (True, "paused", Plan()),
        (False, "running", Plan()),
    ],
)
def test_what_is_asked_for(is_paused: bool, state: str, wanted: Plan) -> None:
    assert plan(is_paused, state) == wanted
