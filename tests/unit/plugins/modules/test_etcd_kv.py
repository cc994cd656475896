# SPDX-License-Identifier: GPL-3.0-or-later
"""A key is written only where it differs, and only over what was read."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import KeyValue
from ansible_collections.pgherd.cluster.plugins.modules.etcd_kv import plan

FOUND = KeyValue("/a", "one", 3, 5)


@pytest.mark.parametrize(
    ("found", "value", "expected", "wanted"),
    [
        (None, "one", None, "put"),
        (FOUND, "one", None, "nothing"),
        (FOUND, "two", None, "put"),
        (FOUND, None, None, "delete"),
        (None, None, None, "nothing"),
        (FOUND, "two", 5, "put"),
        (FOUND, "two", 4, "refuse"),
        (None, "two", 0, "put"),
        (None, "two", 4, "refuse"),
    ],
)
def test_what_is_done(
    found: KeyValue | None, value: str | None, expected: int | None, wanted: str
) -> None:
    assert plan(found, value, expected) == wanted
