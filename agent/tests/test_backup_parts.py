# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgBackRest, pg_waldump and the agents say, read; reports of drills, written."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.backup_builders import NOON, settings
from pgherd_backup import agents, drill_report, report_info
from pgherd_backup.cli import main
from pgherd_backup.errors import BackupError, RefusedError
from pgherd_backup.pgbackrest import moment, parse_info
from pgherd_backup.recovery import tidy
from pgherd_backup.restore import check_place, forget_kept, give_way, place
from pgherd_backup.run import should_act
from pgherd_backup.scratch import directory
from pgherd_backup.settings import Settings, load
from pgherd_backup.stanza import has_backup, statuses
from pgherd_backup.walscan import parse

if TYPE_CHECKING:
    from pathlib import Path


def info(code: int = 0, message: str = "ok") -> list[dict[str, Any]]:
    """Return what `pgbackrest info --output=json` prints of a stanza with one backup."""
    database = {"id": 1, "repo-key": 1}
    return [
        {
            "archive": [
                {"database": database, "id": "17-1", "min": "0" * 23 + "1", "max": "0" * 23 + "9"}
            ],
            "backup": [
                {
                    "archive": {"start": "000000010000000000000004", "stop": "0" * 23 + "5"},
                    "database": database,
                    "error": False,
                    "info": {"size": 100, "repository": {"delta": 20}},
                    "label": "20261201-115500F",
                    "lsn": {"start": "0/4000028", "stop": "0/5000100"},
                    "timestamp": {"start": NOON - 300, "stop": NOON},
                    "type": "full",
                }
            ],
            "name": "demo",
            "repo": [{"key": 1, "status": {"code": code, "message": message}}],
        }
    ]


class TestWhatPgBackRestSays:
    def test_is_read(self) -> None:
        [found] = parse_info(info())
        assert (found.number, found.problem, found.archive) == (1, "", "17-1")
        [held] = found.backups
        assert (held.label, held.stop_lsn, held.stored) == ("20261201-115500F", 0x5000100, 20)

    def test_of_a_stanza_without_a_backup_is_well(self) -> None:
        [found] = parse_info(info(2, "no valid backups"))
        assert found.problem == ""

    def test_of_another_trouble_is_told(self) -> None:
        [found] = parse_info(info(99, "unable to decrypt"))
        assert found.problem == "unable to decrypt"

    def test_of_what_it_cannot_decipher_is_told_in_readable_words(self) -> None:
        """It quotes what came out of the wrong pass."""
        [found] = parse_info(info(99, "[FormatError] unable to load\nFormatError: \x01\ufffd"))
        assert found.problem.startswith("[FormatError] unable to load: it cannot be deciphered")
        assert "\x01" not in found.problem

    def test_of_nothing_is_nothing(self) -> None:
        assert parse_info([]) == []
        assert statuses(info(3)) == {1: 3}
        assert not has_backup([])

    def test_of_a_damaged_backup_is_not_taken_for_one(self) -> None:
        told = info()
        assert has_backup(told)
        told[0]["backup"][0]["error"] = True
        assert not has_backup(told)


def test_moments_are_told_in_utc_to_what_they_are_known() -> None:
    assert moment(NOON) == "2026-12-01 12:00:00+00:00"
    assert moment(NOON + 0.25) == "2026-12-01 12:00:00.250000+00:00"


def test_wal_is_read_as_pg_waldump_of_15_and_17_prints_it() -> None:
    text = """\
rmgr: Heap        len (rec/tot):     59/    59, tx:        740, lsn: 0/0150B6B8, prev 0/0, desc: X
rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/0150B6F8, prev 0/0150B6C0, \
desc: COMMIT 2026-12-01 12:00:01.500000 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        741, lsn: 0/0150B7F8, prev 0/0150B6C0, \
desc: ABORT 2026-12-01 12:00:01 UTC
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/0150B8F8, prev 0/0150B6C0, \
desc: RESTORE_POINT before the upgrade
"""
    found = parse(text)
    assert found.last == NOON + 1.5
    assert found.transactions == {740, 741}
    assert found.points == {"before the upgrade"}
    assert parse("").last is None


class TestWhoActs:
    SEEN = agents.Seen("pg2", ("pg1",))

    def test_is_the_repository_host(self, tmp_path: Path) -> None:
        assert should_act(settings(tmp_path, member=""), self.SEEN)

    def test_is_else_whoever_leads_now(self, tmp_path: Path) -> None:
        assert not should_act(settings(tmp_path, member="pg1"), self.SEEN)
        assert should_act(settings(tmp_path, member="pg2"), self.SEEN)

    def test_is_read_of_the_cluster(self) -> None:
        members = [
            {"name": "pg1", "role": "replica", "state": "streaming"},
            {"name": "pg2", "role": "leader", "state": "running"},
            {"name": "pg3", "role": "replica", "state": "starting"},
        ]
        assert agents.parse({"members": members}) == self.SEEN
        assert agents.parse({}) == agents.Seen("", ())

    def test_is_not_known_when_nobody_answers(self, tmp_path: Path) -> None:
        with pytest.raises(BackupError, match="no agent answers"):
            agents.look(settings(tmp_path))


class TestThePlaceOfARestore:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        data = tmp_path / "data"
        (data / "pg_tblspc").mkdir(parents=True)
        (data / "PG_VERSION").write_text("17\n")
        return data

    def test_with_tablespaces_elsewhere_is_refused(self, data: Path) -> None:
        (data / "pg_tblspc" / "16400").symlink_to("/srv")
        with pytest.raises(RefusedError, match="has tablespaces elsewhere"):
            check_place(data, keep_old=True)

    def test_with_what_an_earlier_one_has_kept_is_refused(self, data: Path) -> None:
        data.with_name("data.before-restore").mkdir()
        with pytest.raises(RefusedError, match="restore_forget=true"):
            check_place(data, keep_old=True)
        check_place(data, keep_old=False)

    def test_of_one_that_was_interrupted_is_taken_again(self, data: Path) -> None:
        data.with_name("data.before-restore").mkdir()
        data.with_name("data.restore.json").write_text("{}")
        check_place(data, keep_old=True)

    def test_tells_what_was_left_and_forgets_it(self, data: Path, tmp_path: Path) -> None:
        given = settings(tmp_path)
        assert place(given) == {"under_way": False, "kept": "", "copies": []}
        assert forget_kept(given) == ""
        kept = data.with_name("data.before-restore")
        kept.mkdir()
        assert place(given)["kept"] == str(kept)
        assert forget_kept(given) == str(kept)
        assert not kept.exists()

    def test_is_not_forgotten_under_way(self, data: Path, tmp_path: Path) -> None:
        data.with_name("data.restore.json").write_text("{}")
        with pytest.raises(RefusedError, match="under way"):
            forget_kept(settings(tmp_path))

    def test_of_another_member_gives_way_once(self, data: Path, tmp_path: Path) -> None:
        given = settings(tmp_path)
        assert give_way(given)
        assert (tmp_path / "data.replaced" / "PG_VERSION").exists()
        assert not data.exists()
        assert not give_way(given)

    def test_of_a_server_that_runs_is_refused(self, data: Path, tmp_path: Path) -> None:
        (data / "postmaster.pid").write_text(f"{os.getpid()}\n")
        with pytest.raises(RefusedError, match="stop its agent first"):
            give_way(settings(tmp_path))

    def test_is_tidied_of_what_only_the_recovery_needed(self, data: Path) -> None:
        """A target that stayed would end the recovery of the member's next life as a standby."""
        auto = data / "postgresql.auto.conf"
        auto.write_text(
            "work_mem = '8MB'\nrestore_command = 'x'\nrecovery_target_time = 'y'\n"
            "recovery_target_action = 'promote'\narchive_mode = 'off'\n"
        )
        (data / "pgherd-restore-hba.conf").touch()
        tidy(data)
        assert auto.read_text() == "work_mem = '8MB'\n"
        assert not (data / "pgherd-restore-hba.conf").exists()


@pytest.mark.parametrize("name", ["", "../x", "Big", "a" * 33, "-x"])
def test_copies_have_names_that_are_no_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be the name of a copy"):
        directory(settings(tmp_path), name)


def report(**changes: Any) -> dict[str, Any]:
    """Return the report of a drill that passed."""
    check = {"name": "restore", "verdict": "passed", "text": "in <1> s", "seconds": 1.0}
    known = {
        "stanza": "demo",
        "verdict": "passed",
        "started": "2026-12-01 12:00:00+00:00",
        "finished": "2026-12-01 12:00:09+00:00",
        "finished_at": NOON + 9.0,
        "seconds": 9.0,
        "backup": "20261201-115500F",
        "lost_seconds": 12.5,
        "size": 100,
        "restore_seconds": 3.0,
        "checks": [check],
    }
    return {**known, **changes}


class TestTheReportOfADrill:
    def test_is_a_page_that_needs_nothing_else(self) -> None:
        page = drill_report.page(report())
        assert "in &lt;1&gt; s" in page
        assert "http" not in page
        assert "12.5 s" in page

    def test_is_prometheus_text(self) -> None:
        text = drill_report.metrics(report())
        assert 'pgherd_restore_drill_success{cluster="demo"} 1\n' in text
        assert 'pgherd_restore_drill_lost_seconds{cluster="demo"} 12.5\n' in text

    def test_of_one_that_failed_has_no_figures_that_are_not_known(self) -> None:
        failed = report(verdict="failed", lost_seconds=None, restore_seconds=None, backup="")
        text = drill_report.metrics(failed)
        assert 'success{cluster="demo"} 0' in text
        assert "lost_seconds" not in text
        assert "not known" in drill_report.page(failed)

    def test_is_kept_and_the_newest_is_found(self, tmp_path: Path) -> None:
        given = settings(tmp_path)
        assert report_info.last_drill(given) is None
        places = drill_report.write(given, report())
        assert json.loads((tmp_path / "20261201T120000.json").read_text()) == report()
        assert places["html"].endswith("20261201T120000.html")
        assert report_info.last_drill(given) == report()
        assert (tmp_path / "drill.prom").exists()

    def test_makes_room_for_later_ones(self, tmp_path: Path) -> None:
        given = settings(tmp_path)
        for minute in range(drill_report.KEPT + 3):
            drill_report.write(
                given, report(started=f"2026-12-01 {minute // 60:02d}:{minute % 60:02d}:00")
            )
        assert len(list(tmp_path.glob("2*.json"))) == drill_report.KEPT


def test_what_repositories_hold_is_a_table() -> None:
    told = {
        "stanza": "demo",
        "repositories": [
            {
                "number": 1,
                "problem": "",
                "last_wal": "0" * 24,
                "missing_wal_since_newest": ["x"],
                "backups": [
                    {
                        "label": "20261201-115500F",
                        "type": "full",
                        "error": True,
                        "finished": moment(NOON),
                        "size": 3 * 2**30,
                        "stored": 100,
                    }
                ],
            }
        ],
        "drill": {"verdict": "passed", "finished": moment(NOON)},
    }
    text = report_info.table(told)
    assert "20261201-115500F  full DAMAGED  2026-12-01 12:00:00  3.0 GiB   100 B" in text
    assert "1 segments missing" in text
    assert "Last restore drill: passed" in text


class TestTheCommand:
    def test_says_what_is_wrong_with_its_settings(self, tmp_path: Path) -> None:
        with pytest.raises(BackupError, match=r"run pgherd\.cluster\.site"):
            load(tmp_path / "absent.json")
        (tmp_path / "bad.json").write_text("{}")
        with pytest.raises(BackupError, match="is not what the role pgbackrest writes"):
            load(tmp_path / "bad.json")

    def test_reads_them(self, tmp_path: Path) -> None:
        path, given = tmp_path / "backup.json", settings(tmp_path)
        path.write_text(json.dumps(given.__dict__))
        assert load(path) == given
        assert isinstance(load(path), Settings)

    def test_knows_its_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["plan", "--type=tomorrow"])
        assert ended.value.code == 2
        assert "invalid choice" in capsys.readouterr().err
