# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories that are damaged, full, away or not ours: said, waited for, and caught up with."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from lab.playbook import deploy, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule.backup.tests.conftest import Backups

pytestmark = pytest.mark.timeout(600)
KEEPER, REPOSITORY = "ops1", "/var/lib/pgbackrest"
FLIP = """
import pathlib, sys
path = max(pathlib.Path(sys.argv[1]).rglob("bundle/*"), key=lambda p: p.stat().st_size)
data = bytearray(path.read_bytes())
data[len(data) // 2] ^= 1
path.write_bytes(data)
print(path)
"""


@pytest.fixture(scope="module", autouse=True)
def backed_up(backups: Backups) -> None:
    """Have a backup, and all of it in the archive."""
    if not backups.info()["backups"]:
        outcome = play("backup", backup_type="full")
        assert outcome.code == 0, outcome.output
    backups.await_archived()


def _newest(backups: Backups) -> str:
    return str(backups.info()["backups"][-1]["label"])


def test_a_drill_proves_the_newest_backup(backups: Backups) -> None:
    backups.await_archived()
    outcome = play("restore_drill")
    assert outcome.code == 0, outcome.output
    assert "Restore drill of demo: passed" in outcome.output
    for check in ("backup", "restore", "canary", "indexes", "checksums"):
        assert f"  {check}" in outcome.output
    metrics = backups.shell(KEEPER, "cat /var/lib/prometheus/node-exporter/*.prom")
    assert 'pgherd_restore_drill_success{cluster="demo"} 1' in metrics
    assert backups.shell(KEEPER, "ls /var/lib/pgherd-scratch") == ""


def test_one_flipped_byte_makes_the_drill_fail(backups: Backups) -> None:
    place = f"{REPOSITORY}/backup/demo"
    label = _newest(backups).partition("_")[0]  # what it depends on has most of the bytes
    flip = ["python3", "-c", FLIP, f"{place}/{label}"]
    backups.lab.exec(KEEPER, flip)
    try:
        outcome = play("restore_drill")
    finally:
        backups.lab.exec(KEEPER, flip)  # back again: the largest file is the same one
    assert outcome.code != 0
    assert "restore: failed" in outcome.output
    assert "restore drill: failed (restore)" in " ".join(outcome.output.split())
    metrics = backups.shell(KEEPER, "cat /var/lib/prometheus/node-exporter/*.prom")
    assert 'pgherd_restore_drill_success{cluster="demo"} 0' in metrics
    assert backups.shell(KEEPER, "ls /var/lib/pgherd-scratch") == ""
    assert play("restore_drill").code == 0


@contextlib.contextmanager
def _full(backups: Backups) -> Iterator[None]:
    """Put the repository on a disk of its own that is full."""
    script = f"""set -e
        cp -a {REPOSITORY} /var/tmp/kept
        size=$(du -sm {REPOSITORY} | cut -f1)
        mount -t tmpfs -o size=$((size + 8))m,mode=0750 tmpfs {REPOSITORY}
        chown postgres: {REPOSITORY}
        cp -a /var/tmp/kept/. {REPOSITORY}
        head -c 64M /dev/zero > {REPOSITORY}/filler || true"""
    backups.shell(KEEPER, script)
    try:
        yield
        backups.shell(KEEPER, f"mount -o remount,size=512m {REPOSITORY}; rm {REPOSITORY}/filler")
        backups.await_archived()
    finally:
        backups.shell(
            KEEPER,
            f"""set -e
            rm -rf /var/tmp/kept; cp -a {REPOSITORY} /var/tmp/kept; umount {REPOSITORY}
            rm -rf {REPOSITORY}/*; cp -a /var/tmp/kept/. {REPOSITORY}; rm -rf /var/tmp/kept""",
        )


@contextlib.contextmanager
def _away(backups: Backups) -> Iterator[None]:
    """Take the repository host away."""
    backups.lab.pause(KEEPER)
    try:
        yield
    finally:
        backups.lab.unpause(KEEPER)
    backups.await_archived()


@pytest.mark.parametrize("trouble", [_full, _away], ids=["full", "away"])
def test_archiving_waits_says_so_and_catches_up(trouble: Any, backups: Backups) -> None:
    backups.write("CREATE TABLE IF NOT EXISTS troubled (id int)")
    with trouble(backups):
        for number in range(4):
            # Writes go on, whatever the archive does.
            backups.write(f"INSERT INTO troubled VALUES ({number})")
            backups.write("SELECT pg_switch_wal()")
        backups.until("Health tells of the archive", lambda: _is_told(backups))
    found = backups.info()
    assert found["missing_wal_since_newest"] == []
    backups.until("Health is well again", lambda: not _is_told(backups))


@pytest.mark.thorough
def test_wal_is_dropped_before_the_disk_fills_up_and_the_gap_is_told(backups: Backups) -> None:
    """With a bound of 32 MiB; the next backup makes the gap history."""
    deploy({"pgbackrest_config": {"archive-push-queue-max": "32MiB"}})
    backups.write("CREATE TABLE IF NOT EXISTS troubled (id int)")
    backups.lab.pause(KEEPER)
    try:
        for number in range(8):
            backups.write(f"INSERT INTO troubled VALUES ({number})")
            backups.write("SELECT pg_switch_wal()")
        sql = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        backups.until("WAL is dropped", lambda: int(backups.write(sql)[0][0]) <= 3)
    finally:
        backups.lab.unpause(KEEPER)
    backups.await_archived()
    assert backups.info()["missing_wal_since_newest"] != []
    told = play("status")
    assert "segments of WAL since the newest backup" in " ".join(told.output.split())
    assert play("backup", backup_type="diff").code == 0
    assert backups.info()["missing_wal_since_newest"] == []
    deploy()


def _is_told(backups: Backups) -> bool:
    """Tell whether the check of health finds that the archive is behind."""
    page = json.loads(backups.cluster.rest(backups.leader, "/patroni")[1])
    archiver = page["pgherd"].get("archiver") or {}
    return bool(archiver.get("failing")) or float(archiver.get("waiting_seconds") or 0) > 10


def test_another_cipher_pass_is_refused_with_a_reason(backups: Backups) -> None:
    script = "PGBACKREST_REPO1_CIPHER_PASS=wrong pgherd-backup plan --beside x"
    code, said = backups.lab.exec(KEEPER, ["sh", "-c", script], check=False)
    assert code == 3
    assert "refused" in said
    assert "cipher" in said


def test_another_stanza_is_refused_with_a_reason(backups: Backups) -> None:
    script = """
        sed 's/"stanza": "demo"/"stanza": "other"/' /etc/pgherd/backup.json > /tmp/other.json
        chmod 644 /tmp/other.json; pgherd-backup --settings /tmp/other.json plan --beside x"""
    code, said = backups.lab.exec(KEEPER, ["sh", "-c", script], check=False)
    assert code == 3
    assert "stanza other" in said


def test_too_little_space_is_refused_with_the_figures(backups: Backups) -> None:
    script = """mkdir -p /mnt/small; mount -t tmpfs -o size=16m tmpfs /mnt/small
        sed 's#/var/lib/pgherd-scratch#/mnt/small#' /etc/pgherd/backup.json > /tmp/small.json
        chmod 644 /tmp/small.json; pgherd-backup --settings /tmp/small.json plan --beside x
        code=$?; umount /mnt/small; exit $code"""
    code, said = backups.lab.exec(KEEPER, ["sh", "-c", script], check=False)
    assert code == 3
    assert "MiB must be free" in said
