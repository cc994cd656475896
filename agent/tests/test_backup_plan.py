# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do, and what is refused before anything is touched (issue 7)."""

from __future__ import annotations

from typing import Any

import pytest

from agent.tests.backup_builders import MIB, Wal, backup, later, names, repository
from pgherd_backup.errors import RefusedError
from pgherd_backup.plan import SEARCHED_SEGMENTS, Plan, plan, search
from pgherd_backup.target import Target, check
from pgherd_backup.wal import missing, parse_lsn, segment_name, split

ROOMY = 10_000 * MIB
TWO = repository(backup(), later(3, 7))
ARCHIVE = names(4, 9)


def planned(target: Target, *, archive: list[str] | None = None, **changes: Any) -> Plan:
    """Return the plan of *target* from TWO, whose archive has a commit a minute."""
    held = ARCHIVE if archive is None else archive
    given = {"free": ROOMY, **changes}
    return plan(given.pop("repository", TWO), target, held, Wal(held), **given)


def time(clock: str) -> Target:
    """Return a time of that day as a target."""
    return Target("time", f"2026-12-01 {clock}+00")


class TestTheBackupIsChosen:
    def test_the_newest_for_the_end_of_the_archive(self) -> None:
        found = planned(Target())
        assert found.backup == TWO.backups[1].label
        assert (found.first_wal, found.last_wal, found.wal) == (names(7, 7)[0], names(9, 9)[0], 3)

    def test_the_last_one_before_a_time(self) -> None:
        assert planned(time("12:02:30")).backup == TWO.backups[0].label
        assert planned(time("12:03:00.5")).backup == TWO.backups[1].label

    def test_one_that_ended_at_the_very_time_is_too_late(self) -> None:
        """A backup is consistent only at its end."""
        assert planned(time("12:03:00")).backup == TWO.backups[0].label

    def test_the_last_one_before_a_position(self) -> None:
        assert planned(Target("lsn", "0/6FFFFFF")).backup == TWO.backups[0].label
        assert planned(Target("lsn", "0/7000100")).backup == TWO.backups[1].label

    def test_the_one_that_is_named(self) -> None:
        label = TWO.backups[0].label
        assert planned(Target(backup=label)).backup == label

    def test_none_that_is_damaged(self) -> None:
        held = repository(backup(), later(3, 7, error=True))
        assert planned(Target(), repository=held).backup == held.backups[0].label

    def test_its_own_end_needs_its_own_wal_only(self) -> None:
        found = planned(Target("immediate"))
        assert (found.wal, found.last_wal) == (1, TWO.backups[1].last_wal)


class TestRefusedIs:
    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            (time("11:00:00"), "is before what was backed up"),
            (time("12:04:00"), "is after the archive's end"),
            (time("13:00:00"), "is after the archive's end"),
            (Target("lsn", "0/10"), "is before what was backed up"),
            (
                Target("lsn", "0/A000000"),
                "is after the archive's end, the segment 0000000000000009",
            ),
            (Target(backup="20250101-000000F"), "there is no backup 20250101-000000F: there are"),
            (Target("name", "nowhere"), "name nowhere is not in the archive from"),
            (Target("xid", "1"), "xid 1 is not in the archive"),
        ],
    )
    def test_what_cannot_be(self, target: Target, reason: str) -> None:
        with pytest.raises(RefusedError, match=reason):
            planned(target)

    def test_with_what_is_possible(self) -> None:
        with pytest.raises(RefusedError) as refusal:
            planned(time("13:00:00"))
        assert "possible is 2026-12-01 12:00:00+00:00 to 2026-12-01 12:04:00" in str(refusal.value)

    def test_a_time_before_the_backup_that_is_named(self) -> None:
        target = Target("time", "2026-12-01 12:01:00+00", backup=TWO.backups[1].label)
        with pytest.raises(RefusedError, match=r"for the backup .* ends later"):
            planned(target)

    def test_a_repository_without_a_backup(self) -> None:
        with pytest.raises(RefusedError, match="take one"):
            planned(Target(), repository=repository(backup(error=True)))

    def test_what_does_not_fit_with_the_figures(self) -> None:
        with pytest.raises(RefusedError, match="MiB must be free for the 100 MiB"):
            planned(Target(), free=300 * MIB)

    def test_not_what_fits_over_what_is_there(self) -> None:
        """A restore in place of what is not kept needs little more than what it replaces."""
        assert planned(Target(), free=400 * MIB, reused=100 * MIB).needs < 400 * MIB

    @pytest.mark.parametrize("lost", [4, 5])
    def test_a_backup_whose_own_wal_is_lost(self, lost: int) -> None:
        archive = [name for name in ARCHIVE if name != segment_name(1, lost)]
        with pytest.raises(RefusedError, match="is not consistent: choose another backup"):
            planned(Target(backup=TWO.backups[0].label), archive=archive)


GAPPED = [name for name in ARCHIVE if name != segment_name(1, 6)]
FIRST = TWO.backups[0].label


class TestAGapInTheArchive:
    def test_is_said_and_ends_what_is_reached(self) -> None:
        found = planned(Target(backup=FIRST), archive=GAPPED)
        assert found.last_wal == segment_name(1, 5)
        [remark] = found.remarks
        assert segment_name(1, 6) in remark

    def test_refuses_a_moment_behind_it(self) -> None:
        target = Target("time", "2026-12-01 12:02:00+00", backup=FIRST)
        with pytest.raises(RefusedError, match="after the archive's end"):
            planned(target, archive=GAPPED)

    def test_does_not_matter_to_a_backup_after_it(self) -> None:
        assert planned(Target(), archive=GAPPED).remarks == ()


class TestNamesAndTransactions:
    def test_are_looked_up(self) -> None:
        wal = Wal(ARCHIVE, {"before-upgrade": ARCHIVE[2]})
        assert search(Target("name", "before-upgrade"), ARCHIVE, wal) == ()
        assert wal.read == ARCHIVE[:3]
        assert search(Target("xid", "705"), ARCHIVE, Wal(ARCHIVE)) == ()

    def test_of_too_much_wal_are_not_and_that_is_said(self) -> None:
        long = names(1, SEARCHED_SEGMENTS + 1)
        wal = Wal(long)
        [remark] = search(Target("name", "x"), long, wal)
        assert "were not searched" in remark
        assert wal.read == []


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            (Target("yesterday"), "is none of latest"),
            (Target("time"), "needs a value"),
            (Target("latest", "x"), "takes no value, and got 'x'"),
            (Target("time", "noon"), "is not understood"),
            (Target("time", "2026-12-01 12:00:00"), "has no zone"),
            (Target("xid", "12a"), "is no number"),
            (Target("lsn", "12"), "is no position"),
            (Target("lsn", "x/y"), "is no position"),
            (Target(backup="newest"), "is no label"),
            (Target(timeline="old"), "is neither latest, current nor a number"),
            (Target("name", "x", exclusive=True), "can be excluded"),
        ],
    )
    def test_that_make_no_sense_are_refused(self, target: Target, reason: str) -> None:
        with pytest.raises(RefusedError, match=reason):
            check(target)

    def test_are_told_in_pgbackrests_words_with_times_in_utc(self) -> None:
        target = Target("time", "2026-12-01 14:00:00+02", exclusive=True)
        assert target.options() == [
            "--type=time",
            "--target-action=promote",
            "--target-timeline=latest",
            "--target=2026-12-01 12:00:00.000000+00",
            "--target-exclusive",
        ]
        assert Target().options() == ["--target-timeline=latest"]
        assert Target("immediate").options() == ["--type=immediate", "--target-action=promote"]

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            (Target(), "the end of the archive"),
            (Target("immediate"), "the end of the backup"),
            (Target("xid", "7", exclusive=True), "just before xid 7"),
        ],
    )
    def test_are_told_in_words(self, target: Target, said: str) -> None:
        assert str(target) == said


class TestSegments:
    def test_have_names_and_numbers(self) -> None:
        assert segment_name(3, 0x101) == "000000030000000100000001"
        assert split("000000030000000100000001") == (3, 0x101)
        assert parse_lsn("1/A") == (1 << 32) + 10
        for name in ("000000030000", "nonsense"):
            with pytest.raises(ValueError, match="no name of a segment"):
                split(name)

    def test_none_is_missing_where_a_timeline_ends_within_one(self) -> None:
        """The next timeline begins in the same segment, whose old one is not archived."""
        assert missing([*names(4, 6), *names(6, 8, timeline=2)], names(4, 4)[0]) == []

    def test_none_is_missing_where_a_timeline_ends_with_one(self) -> None:
        assert missing([*names(4, 6), *names(7, 8, timeline=2)], names(4, 4)[0]) == []

    def test_the_end_of_a_timeline_that_was_lost_with_its_host_is(self) -> None:
        found = missing([*names(4, 5), *names(7, 8, timeline=2)], names(4, 4)[0])
        assert found == names(6, 6, timeline=2)

    def test_those_between_two_are(self) -> None:
        assert missing([*names(4, 4), *names(7, 7)], names(4, 4)[0]) == names(5, 6)

    def test_the_first_one_is(self) -> None:
        assert missing(names(5, 6), names(4, 4)[0]) == names(4, 4)

    def test_what_came_before_does_not_matter(self) -> None:
        """A restore goes back and leaves the later end of the old timeline behind."""
        old = names(1, 3)
        assert missing([*old, *names(6, 9, timeline=2)], names(6, 6, timeline=2)[0]) == []
