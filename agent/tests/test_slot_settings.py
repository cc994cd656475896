# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots as operators name them in the dynamic configuration."""

from __future__ import annotations

from typing import Any

import pytest

from agent.tests.builders import slot
from pgherd.settings import Settings
from pgherd.slot_settings import PermanentSlot, is_ignored, permanent_slots

LOGICAL = {"type": "logical", "database": "app", "plugin": "pgoutput"}


@pytest.mark.parametrize("value", ["1h", "3600", 3600])
def test_the_time_for_members_slots_may_have_a_unit(value: Any) -> None:
    assert Settings.parse({"member_slots_ttl": value}).member_slots_ttl == 3600


def test_it_is_not_below_nothing() -> None:
    assert Settings.parse({"member_slots_ttl": "-1s"}).member_slots_ttl == 0


class TestPermanentSlots:
    @pytest.mark.parametrize("value", [0, None, {}, {"type": "physical"}, "x"])
    def test_what_says_no_more_is_physical(self, value: Any) -> None:
        assert permanent_slots({"slots": {"archive": value}}) == (PermanentSlot("archive"),)

    @pytest.mark.parametrize("key", ["slots", "permanent_slots", "permanent_replication_slots"])
    @pytest.mark.parametrize("value", [LOGICAL, {"database": "app", "plugin": "pgoutput"}])
    def test_logical_ones_have_a_database_and_a_plugin(
        self, key: str, value: dict[str, str]
    ) -> None:
        [found] = permanent_slots({key: {"feed": value}})
        assert found == PermanentSlot("feed", "app", "pgoutput")
        assert found.is_logical

    @pytest.mark.parametrize(
        "slots",
        [
            {"feed": {"type": "logical", "database": "app"}},
            {"feed": {"type": "logical", "plugin": "pgoutput"}},
            {"feed": {"type": "odd"}},
            {"Feed-1": None},
            {7: None},
            {"": None},
            ["feed"],
            None,
        ],
    )
    def test_what_cannot_be_made_is_left_out(self, slots: Any) -> None:
        assert permanent_slots({"slots": slots}) == ()

    def test_some_are_for_one_kind_of_cluster(self) -> None:
        [found] = permanent_slots({"slots": {"a": {"cluster_type": "standby"}}})
        assert found.cluster_type == "standby"


class TestIgnoredSlots:
    FEED = slot(type="logical", database="app", plugin="pgoutput")

    @pytest.mark.parametrize(
        ("entry", "matches"),
        [
            ({"name": "feed"}, True),
            ({"name": "other"}, False),
            ({"type": "logical"}, True),
            ({"type": "physical"}, False),
            ({"database": "app", "plugin": "pgoutput"}, True),
            ({"database": "app", "plugin": "wal2json"}, False),
            ({"name": "feed", "type": "logical", "database": "app", "plugin": "pgoutput"}, True),
            ({"name": "feed", "database": "other"}, False),
            ({"name": None, "plugin": "pgoutput"}, True),
        ],
    )
    def test_an_entry_matches_in_all_that_it_names(
        self, entry: dict[str, Any], matches: bool
    ) -> None:
        assert is_ignored((entry,), "feed", self.FEED) is matches

    def test_one_entry_is_enough(self) -> None:
        ignored = Settings.parse({"ignore_slots": [{"name": "x"}, "odd", {"name": "feed"}]})
        assert is_ignored(ignored.ignore_slots, "feed", self.FEED)
        assert not is_ignored((), "feed", self.FEED)
