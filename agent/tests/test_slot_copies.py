# SPDX-License-Identifier: GPL-3.0-or-later
"""When a standby's copy of a logical slot is ready, by what its leader tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.tests.builders import cluster, slot, standby, view
from agent.tests.fakes import Rig
from pgherd.slot_state import snapshot_name

if TYPE_CHECKING:
    from pathlib import Path

    from pgherd.slot_copies import SlotCopies

FEED: Final = {"type": "logical", "database": "app", "plugin": "pgoutput"}
RESTART: Final = 0x1000
COPY: Final = slot(RESTART, **FEED, confirmed=0x2000, catalog_xmin=700)


def told(protected: int | None = 690, needs: int = 700, started: str = "noon") -> dict[str, Any]:
    """Return what a leader tells: what it keeps for our slot, and what its own slot needs."""
    feed = {"database": "app", "plugin": "pgoutput", "catalog_xmin": needs, "restart": RESTART}
    return {"started": started, "protected": protected, "slots": {"feed": feed}}


@pytest.fixture
def copies(tmp_path: Path) -> SlotCopies:
    """Return what knows of a standby with a complete copy of a permanent slot."""
    postgres = Rig(tmp_path, standby()).postgres
    (postgres.data_dir / "pg_logical/snapshots").mkdir(parents=True)
    (postgres.data_dir / "PG_VERSION").write_text("15\n")
    (postgres.data_dir / snapshot_name(RESTART)).touch()
    postgres.copies.note(view(cluster=cluster(config={"slots": {"feed": FEED}})))
    return postgres.copies


def weigh(copies: SlotCopies, *answers: dict[str, Any], **changes: Any) -> bool:
    """Tell whether the copy is ready after the leader's *answers*."""
    instance = standby(slots={"feed": {**COPY, **changes}})
    for answer in answers:
        copies._weigh(instance, answer)
    return copies.ready == {"feed"}


def test_it_is_by_the_second_answer(copies: SlotCopies) -> None:
    """What the leader's slot needs counts from when the leader was seen to keep rows for us."""
    assert not weigh(copies, told())
    assert weigh(copies, told())


@pytest.mark.parametrize(
    ("protected", "needs", "is_ready"),
    [(700, 700, True), (690, 701, False), (701, 700, False), (2**32 - 5, 700, True)],
    ids=["just", "rows may be gone", "rows are not kept", "numbers wrap around"],
)
def test_the_rows_that_it_needs_have_to_be_there(
    copies: SlotCopies, *, protected: int, needs: int, is_ready: bool
) -> None:
    assert weigh(copies, told(protected, needs), told(protected, needs)) is is_ready


def test_the_leaders_slot_may_have_moved_on_since(copies: SlotCopies) -> None:
    assert not weigh(copies, told(690, 701), told(690, 701), told(690, 702))
    assert weigh(copies, told(690, 900), catalog_xmin=701)


@pytest.mark.parametrize(
    "changes",
    [
        {"confirmed": 0x3001},
        {"restart": RESTART + 8},
        {"plugin": "wal2json"},
        {"wal_status": "lost"},
        {"catalog_xmin": None},
    ],
    ids=["ahead", "what was running is not known", "another", "lost", "no rows"],
)
def test_nor_is_one_that_cannot_be_gone_on_with(
    copies: SlotCopies, changes: dict[str, Any]
) -> None:
    assert not weigh(copies, told(), told(), told(), **changes)


@pytest.mark.parametrize(
    "answer",
    [told(None), told(started="later"), {**told(), "slots": None}],
    ids=["nothing is kept", "the leader was restarted", "the leader has none"],
)
def test_it_has_to_become_so_anew(copies: SlotCopies, answer: dict[str, Any]) -> None:
    assert weigh(copies, told(), told())
    assert not weigh(copies, answer)
    assert weigh(copies, {**told(), "started": answer["started"]},
                 {**told(), "started": answer["started"]})  # fmt: skip


def test_where_nobody_would_be_promoted_it_is_not_looked_for(copies: SlotCopies) -> None:
    seen = view(cluster=cluster(config={"slots": {"feed": FEED}}))
    copies.note(replace(seen, tags=replace(seen.tags, nofailover=True)))
    assert not weigh(copies, told(), told())
