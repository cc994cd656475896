# SPDX-License-Identifier: GPL-3.0-or-later
"""All members and their etcd are lost; what is left is the repository and the secrets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from lab.cluster import MEMBERS
from lab.playbook import deploy, play

if TYPE_CHECKING:
    from molecule.backup.tests.conftest import Backups

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1200)]
BY_HAND = """
set -e
pass=$(sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/local.conf)
cat > /tmp/rescue.conf <<END
[global]
repo1-path=/var/lib/pgbackrest
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=$pass
[demo]
pg1-path=/var/lib/postgresql/rescue
END
chown postgres: /tmp/rescue.conf
bin=$(echo /usr/lib/postgresql/*/bin)
install -d -m 0700 -o postgres -g postgres /var/lib/postgresql/rescue
runuser -u postgres -- pgbackrest --config=/tmp/rescue.conf --stanza=demo --archive-mode=off \
    --log-level-console=error restore
runuser -u postgres -- $bin/pg_ctl -D /var/lib/postgresql/rescue -l /tmp/rescue.log -s -t 120 \
    -o "-c listen_addresses= -c unix_socket_directories=/tmp -c synchronous_standby_names=" start
until [ "$(runuser -u postgres -- psql -h /tmp -XAtc 'SELECT pg_is_in_recovery()')" = f ]; do
    sleep 0.2
done
runuser -u postgres -- psql -h /tmp -XAtc "SELECT 'rows: ' || count(*) FROM survivors"
runuser -u postgres -- $bin/pg_ctl -D /var/lib/postgresql/rescue -s -m fast stop
rm -rf /var/lib/postgresql/rescue /tmp/rescue.conf
"""


def _lose_everything(backups: Backups) -> None:
    """Have the members' hosts be new ones."""
    for host in MEMBERS:
        backups.lab.container(host).remove(force=True, v=True)
    backups.lab.up()


@pytest.fixture(scope="module")
def rows(backups: Backups) -> int:
    """Write rows, back some of them up, and have the others in the archive."""
    backups.write("DROP TABLE IF EXISTS survivors")
    backups.write("CREATE TABLE survivors AS SELECT g AS id FROM generate_series(1, 500) g")
    assert play("backup", backup_type="full").code == 0
    backups.write("INSERT INTO survivors SELECT g FROM generate_series(501, 1000) g")
    backups.await_archived()
    return 1000


def test_by_hand_with_nothing_but_repository_and_pass(backups: Backups, rows: int) -> None:
    assert f"rows: {rows}" in backups.shell("ops1", BY_HAND)


def test_a_lost_cluster_begins_with_its_backup_and_goes_on(backups: Backups, rows: int) -> None:
    _lose_everything(backups)
    began = time.monotonic()
    deploy({"pgbackrest_clone": {"cluster": "demo"}})
    assert backups.write("SELECT count(*) FROM survivors") == [(str(rows),)]
    assert time.monotonic() - began < 900
    backups.write("INSERT INTO survivors VALUES (2000)")
    backups.await_archived()
    taken = play("backup", backup_type="full")
    assert taken.code == 0, taken.output
    assert backups.info()["missing_wal_since_newest"] == []
    # The wish is forgotten, and then there is nothing to do any more.
    deploy()
    assert sum(deploy().changed.values()) == 0


def test_its_newest_backup_is_proven(backups: Backups, rows: int) -> None:
    assert rows
    backups.await_archived()
    drill = play("restore_drill")
    assert drill.code == 0, drill.output
