# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for another leader as etcd holds them, their schedules, and the ledger of outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from pgherd.handover import Handover
from pgherd.ledger import KEPT, Entry, find, parse_ledger, with_entry
from pgherd.timestamps import ScheduleError, iso, parse_time


class TestTheKey:
    @pytest.mark.parametrize("raw", [{}, {"leader": "", "member": ""}, {"scheduled_at": "now"}])
    def test_one_that_names_nobody_asks_for_nothing(self, raw: dict[str, Any]) -> None:
        assert Handover.parse(raw, 7) is None

    def test_one_that_patroni_wrote_is_known_by_its_revision(self) -> None:
        found = Handover.parse({"leader": "pg1", "member": "pg2"}, 7)
        assert found == Handover("pg1", "pg2", id="7", revision=7)

    def test_one_with_a_leader_is_a_switchover(self) -> None:
        assert Handover("pg1", None).kind == "switchover"
        assert Handover(None, "pg2").kind == "failover"

    @pytest.mark.parametrize(
        ("request_", "winner", "text"),
        [
            (Handover("pg1", "pg2"), "pg2", 'Successfully switched over to "pg2"'),
            (Handover("pg1", None), "pg3", 'Successfully switched over to "pg3"'),
            (Handover("pg1", "pg2"), "pg3", 'Switched over to "pg3" instead of "pg2"'),
            (Handover(None, "pg2"), "pg2", 'Successfully failed over to "pg2"'),
            (Handover(None, "pg2"), "pg3", 'Failed over to "pg3" instead of "pg2"'),
        ],
    )
    def test_its_outcome_is_told_as_patroni_tells_it(
        self, request_: Handover, winner: str, text: str
    ) -> None:
        assert request_.outcome(winner) == text


class TestMoments:
    def test_any_zone_will_do(self) -> None:
        moments = ("2026-01-01T00:00:00+00:00", "2026-01-01T01:00+01:00", "2026-01-01T00:00:00Z")
        assert {parse_time(text) for text in moments} == {1767225600.0}
        assert iso(1767225600.0) == moments[0]

    @pytest.mark.parametrize(("text", "ambiguous"), [("2026-01-01T00:00", True), ("soon", False)])
    def test_one_that_cannot_be_told_is_refused(self, text: str, *, ambiguous: bool) -> None:
        with pytest.raises(ScheduleError) as refusal:
            parse_time(text)
        assert refusal.value.is_ambiguous is ambiguous


class TestTheLedger:
    def test_what_is_damaged_in_it_is_left_out(self) -> None:
        good = Entry("1", "switchover").published()
        damaged = [good, "nonsense", {"id": "2"}, {**good, "id": "3", "unknown": 1}]
        assert [entry.id for entry in parse_ledger(damaged)] == ["1", "3"]
        assert parse_ledger({"id": "1"}) == ()

    def test_an_entry_is_replaced_by_its_end(self) -> None:
        first, second = Entry("1", "switchover"), Entry("2", "failover")
        ended = first.ended("done", "all is well", "2026-01-01T00:00:00+00:00")
        ledger = with_entry((first, second), ended)
        assert ledger == (ended, second)
        assert find(ledger, "1") == ended
        assert ended.is_finished
        assert not second.is_finished
        assert find(ledger, "3") is None

    def test_the_oldest_are_forgotten(self) -> None:
        ledger: tuple[Entry, ...] = ()
        for number in range(KEPT + 2):
            ledger = with_entry(ledger, Entry(str(number), "switchover"))
        assert [entry.id for entry in ledger] == [str(number) for number in range(2, KEPT + 2)]

    def test_it_is_read_as_it_is_written(self) -> None:
        entry = Entry("1", "switchover", "failed", "pg1", "pg2", result="no", details={"a": 1})
        assert parse_ledger([entry.published()]) == (entry,)
