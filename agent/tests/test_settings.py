# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask for in synchronous replication and failsafe mode, however they spell it."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.settings import Settings, Tags, whole


class TestSynchronousMode:
    @pytest.mark.parametrize(
        ("value", "mode"),
        [
            ("off", "off"),
            ("on", "on"),
            ("quorum", "quorum"),
            ("Quorum", "quorum"),
            (True, "on"),
            (False, "off"),
            ("true", "on"),
            ("yes", "on"),
            (1, "on"),
            (0, "off"),
            (None, "off"),
            ("multisync", "off"),
            ([], "off"),
        ],
    )
    def test_yaml_and_json_know_on_and_off_as_booleans_too(self, value: Any, mode: str) -> None:
        assert Settings.parse({"synchronous_mode": value}).synchronous_mode == mode

    def test_what_is_given_is_taken(self) -> None:
        given = Settings.parse(
            {
                "synchronous_mode_strict": True,
                "synchronous_node_count": 2,
                "maximum_lag_on_syncnode": 1048576,
                "failsafe_mode": True,
            }
        )
        assert (given.synchronous_mode_strict, given.synchronous_node_count) == (True, 2)
        assert (given.maximum_lag_on_syncnode, given.failsafe_mode) == (1048576, True)

    def test_amounts_may_be_text_and_have_a_unit(self) -> None:
        """What Patroni takes: 3.1."""
        given = Settings.parse(
            {
                "synchronous_node_count": "2",
                "maximum_lag_on_failover": "2MB",
                "member_slots_ttl": "30min",
                "master_start_timeout": "1min",
            }
        )
        assert (given.synchronous_node_count, given.maximum_lag_on_failover) == (2, 2 << 20)
        assert (given.member_slots_ttl, given.primary_start_timeout) == (1800, 60)

    def test_a_start_that_is_waited_for_is_bounded_as_somebody_says(self) -> None:
        assert Settings.parse({"primary_start_timeout": 0}).start_seconds == 300
        assert Settings.parse({"primary_start_timeout": 60}).start_seconds == 60
        raw = {"primary_start_timeout": 60, "postgresql": {"pg_ctl_timeout": "2min"}}
        assert Settings.parse(raw).start_seconds == 120
        assert Settings.parse(raw, {"pg_ctl_timeout": 7.5}).start_seconds == 7.5

    def test_the_file_of_a_member_wins_for_that_member(self) -> None:
        """3.2."""
        raw = {"postgresql": {"use_slots": True, "use_pg_rewind": True}}
        given = Settings.parse(raw, {"use_slots": False})
        assert (given.use_slots, given.use_pg_rewind) == (False, True)

    @pytest.mark.parametrize(
        "raw",
        [
            {},
            {"synchronous_mode_strict": "yes", "failsafe_mode": 1},
            {"synchronous_node_count": "two", "maximum_lag_on_syncnode": None},
            {"synchronous_node_count": float("inf"), "maximum_lag_on_failover": float("nan")},
            {"member_slots_ttl": "30MB", "maximum_lag_on_failover": "1e999"},
            {"synchronous_node_count": True, "maximum_lag_on_syncnode": "far"},
            {"synchronous_node_count": 0},
            {"synchronous_node_count": -3},
        ],
    )
    def test_what_makes_no_sense_counts_as_not_given(self, raw: dict[str, Any]) -> None:
        assert Settings.parse(raw) == Settings()


class TestTags:
    @pytest.mark.parametrize(
        ("raw", "nosync", "priority"),
        [
            ({}, False, 1),
            ({"nosync": True}, True, 1),
            ({"sync_priority": 3}, False, 3),
            ({"sync_priority": 0}, True, 0),
            ({"sync_priority": 0, "nosync": False}, False, 0),
            ({"sync_priority": "high"}, False, 1),
            ({"sync_priority": "2"}, False, 2),
        ],
    )
    def test_those_of_acknowledgement_are_read(
        self, raw: dict[str, Any], *, nosync: bool, priority: int
    ) -> None:
        tags = Tags.parse(raw)
        assert (tags.nosync, tags.sync_priority) == (nosync, priority)
        assert tags.other == {}

    @pytest.mark.parametrize(
        "raw", [{"nosync": True}, {"sync_priority": 3}, {"sync_priority": 0}, {"zone": "a"}]
    )
    def test_published_they_read_as_themselves(self, raw: dict[str, Any]) -> None:
        assert Tags.parse(Tags.parse(raw).published()) == Tags.parse(raw)

    def test_usual_ones_are_left_out(self) -> None:
        assert Tags().published() == {}


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3), ("3", 3), (None, None), ("x", None), ([], None), ({}, None)]
)
def test_what_is_no_number_is_none(value: Any, number: int | None) -> None:
    assert whole(value) == number
