# SPDX-License-Identifier: GPL-3.0-or-later
"""How long clients are waited for."""

from __future__ import annotations

from typing import Any

from ansible_collections.pgherd.cluster.plugins.modules.client_queries_info import await_none

WORK: list[dict[str, Any]] = [{"pid": 7, "state": "active"}]


def test_clients_are_waited_for_until_they_are_done() -> None:
    seen = iter([WORK, []])
    assert await_none(lambda: next(seen), 60) == []


def test_after_the_bound_what_is_left_is_told() -> None:
    assert await_none(lambda: WORK, 0) == WORK


def test_without_a_server_nobody_is_waited_for() -> None:
    assert await_none(lambda: None, 60) is None
