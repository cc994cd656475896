# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup, writes, a failover, more writes, and back to a moment between two rows."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab.cluster import MEMBERS
from lab.playbook import Outcome, changes, deploy, play

if TYPE_CHECKING:
    from molecule.backup.tests.conftest import Backups

pytestmark = pytest.mark.timeout(600)


@dataclass
class Story:
    """What happened before the restore.

    between: a moment after row `kept` and before row `lost`.
    """

    taken: Outcome
    timeline: int
    between: str
    kept: int
    lost: int


def _rows(backups: Backups, first: int, last: int) -> None:
    backups.write(f"INSERT INTO proof SELECT g, 'x' FROM generate_series({first}, {last}) g")


def _write_after(backups: Backups, lost: str) -> bool:
    """Write on whoever leads now that *lost* is gone; tell whether somebody did."""
    leads = [m.name for m in backups.cluster.members() if m.leads and m.name != lost]
    sql = "INSERT INTO proof SELECT g, 'y' FROM generate_series(2001, 3000) g"
    return bool(leads) and backups.cluster.query(leads[0], sql, 60) is not None


@pytest.fixture(scope="module")
def story(backups: Backups) -> Story:
    """Back up, write, lose the primary, write, note the moment, and write once more."""
    # By hand, after an earlier run.
    assert play("restore", restore_forget=True).code == 0
    backups.write("DROP TABLE IF EXISTS proof")
    backups.write("CREATE TABLE proof (id bigint PRIMARY KEY, what text)")
    _rows(backups, 1, 1000)
    backups.await_archived()
    taken = play("backup", backup_type="full")
    _rows(backups, 1001, 2000)
    lost = backups.leader
    backups.lab.kill(lost)
    backups.until("A write after the loss", lambda: _write_after(backups, lost))
    backups.lab.start(lost)
    _rows(backups, 3001, 3001)
    time.sleep(0.05)  # commits of one moment have no order
    [[between]] = backups.write("SELECT clock_timestamp()")
    time.sleep(0.05)
    _rows(backups, 3002, 3002)
    timeline = next(m.timeline for m in backups.cluster.members() if m.leads) or 0
    return Story(taken, timeline, between, kept=3001, lost=3002)


def test_a_backup_is_taken_from_a_standby(backups: Backups, story: Story) -> None:
    assert story.taken.code == 0, story.taken.output
    assert "replay on the standby reached" in story.taken.output
    assert "Backup 2" in story.taken.output
    [backup] = [each for each in backups.info()["backups"] if each["type"] == "full"][-1:]
    assert not backup["error"]
    assert backup["size"] > 0


def test_no_segment_is_missing_after_a_failover(backups: Backups, story: Story) -> None:
    backups.await_archived()
    found = backups.info()
    assert found["missing_wal_since_newest"] == []
    newest = found["backups"][-1]
    assert int(found["last_wal"][:8], 16) == story.timeline
    assert int(newest["first_wal"][:8], 16) < story.timeline


REFUSALS = {
    "before the oldest backup": (
        {"restore_type": "time", "restore_target": "2020-01-01 00:00:00+00"},
        "is before what was backed up",
    ),
    "after the archive's end": (
        {"restore_type": "time", "restore_target": "2100-01-01 00:00:00+00"},
        "is after the archive's end",
    ),
    "a position after it": (
        {"restore_type": "lsn", "restore_target": "FF/0"},
        "is after the archive's end",
    ),
    "an unknown backup": ({"restore_set": "20200101-000000F"}, "there is no backup"),
    "an unknown name": (
        {"restore_type": "name", "restore_target": "nobody-made-it"},
        "is not in the archive",
    ),
    "a time without its zone": (
        {"restore_type": "time", "restore_target": "2026-12-01 00:00:00"},
        "has no zone",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_impossible_is_refused_and_nothing_stops(
    name: str, backups: Backups, story: Story
) -> None:
    assert story.timeline > 0
    variables, reason = REFUSALS[name]
    before = backups.started()
    outcome = play("restore", restore_confirm="demo", restore_flush_seconds=0, **variables)
    text = " ".join(outcome.output.split())
    assert outcome.code != 0
    assert reason in text
    assert "Nothing was changed" in text
    assert sum(outcome.changed.values()) == 0
    assert backups.started() == before


def test_a_plan_is_shown_and_nothing_is_done(backups: Backups, story: Story) -> None:
    before = backups.started()
    outcome = play("restore", restore_plan=True, restore_type="time", restore_target=story.between)
    assert outcome.code == 0, outcome.output
    for word in ("backup ", "WAL ", "space ", "time ", "possible "):
        assert f"  {word}" in outcome.output
    assert backups.started() == before


def test_without_a_word_of_confirmation_nothing_is_done(backups: Backups, story: Story) -> None:
    before = backups.started()
    outcome = play("restore", restore_type="time", restore_target=story.between)
    assert outcome.code != 0
    assert "restore_confirm" in outcome.output
    assert backups.started() == before


@pytest.fixture(scope="module")
def restored(backups: Backups, story: Story) -> Outcome:
    """Restore to the moment between the two rows."""
    began = time.monotonic()
    outcome = play(
        "restore", restore_confirm="demo", restore_type="time", restore_target=story.between
    )
    sys.stdout.write(f"\nrestored in place in {time.monotonic() - began:.1f} s\n")
    assert outcome.code == 0, outcome.output
    return outcome


def test_exactly_the_right_rows_are_there(
    backups: Backups, story: Story, restored: Outcome
) -> None:
    assert "is restored to time" in restored.output
    [[number, highest]] = backups.write("SELECT count(*), max(id) FROM proof")
    assert (int(number), int(highest)) == (story.kept, story.kept)


def test_all_replicas_stream_on_one_new_timeline(
    backups: Backups, story: Story, restored: Outcome
) -> None:
    assert restored.code == 0
    leader = backups.leader
    members = backups.cluster.members()
    assert {member.name for member in members} == set(MEMBERS)
    assert {member.timeline for member in members} == {story.timeline + 1}
    backups.write("INSERT INTO proof VALUES (4000, 'after the restore')")
    for host in set(MEMBERS) - {leader}:
        backups.until(
            f"{host} has the rows of {leader}",
            lambda host=host: (  # type: ignore[misc]
                backups.cluster.query(host, "SELECT count(*) FROM proof")[0][0]
                == str(story.kept + 1)
            ),
        )


def test_replicas_took_their_data_from_the_backup(backups: Backups, restored: Outcome) -> None:
    assert restored.code == 0
    leader = backups.leader
    for host in set(MEMBERS) - {leader}:
        said = backups.shell(host, "journalctl -u pgherd --no-pager | tail -400")
        assert "replica method pgbackrest has succeeded" in said, said


def test_what_was_replaced_is_kept_until_it_is_forgotten(
    backups: Backups, restored: Outcome
) -> None:
    assert ".before-restore" in restored.output
    refused = play("restore", restore_confirm="demo")
    assert refused.code != 0
    assert "still holds what an earlier restore replaced" in " ".join(refused.output.split())
    assert changes(play("restore", restore_forget=True)) == 1
    assert changes(play("restore", restore_forget=True)) == 0


def test_the_archive_goes_on_after_the_restore(backups: Backups, restored: Outcome) -> None:
    assert restored.code == 0
    backups.await_archived()
    assert backups.info()["missing_wal_since_newest"] == []
    outcome = play("backup", backup_type="diff")
    assert outcome.code == 0, outcome.output


def test_a_table_is_fetched_from_a_copy_beside_the_cluster(
    backups: Backups, restored: Outcome
) -> None:
    assert restored.code == 0
    backups.write("DROP TABLE proof")
    made = play("restore", restore_beside="rescue", restore_type="immediate")
    assert made.code == 0, made.output
    dumped = backups.shell(
        "ops1",
        "runuser -u postgres -- pg_dump -h /var/lib/pgherd-scratch/rescue/socket -t proof postgres"
        " | grep -c 'after the restore'",
    )
    assert dumped == "1"
    assert changes(play("restore", restore_beside="rescue", restore_drop=True)) == 2
    assert changes(play("restore", restore_beside="rescue", restore_drop=True)) == 0


def test_the_second_run_changes_nothing(restored: Outcome) -> None:
    assert restored.code == 0
    assert sum(deploy().changed.values()) == 0
