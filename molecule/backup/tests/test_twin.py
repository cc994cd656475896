# SPDX-License-Identifier: GPL-3.0-or-later
"""New hosts become another cluster, of another name, with this one's data.

The last of the stories: the cluster that they are about is gone then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab.cluster import INVENTORY, MEMBERS, Cluster
from lab.playbook import deploy, play

if TYPE_CHECKING:
    from molecule.backup.tests.conftest import Backups

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1200)]
NAME = "twin"


def test_another_cluster_begins_with_a_backup_of_this_one(backups: Backups) -> None:
    backups.write("DROP TABLE IF EXISTS twins")
    backups.write("CREATE TABLE twins AS SELECT g AS id FROM generate_series(1, 700) g")
    taken = play("backup", backup_type="full")
    assert taken.code == 0, taken.output
    backups.write("INSERT INTO twins VALUES (701)")
    backups.await_archived()
    for host in MEMBERS:
        backups.lab.container(host).remove(force=True, v=True)
    backups.lab.up()
    secrets = INVENTORY / ".secrets"
    shared = (secrets / "demo" / "pgbackrest-cipher").read_text(encoding="utf-8").strip()
    variables = {
        "cluster_name": NAME,
        "pgbackrest_cipher_pass": shared,
        "pgbackrest_clone": {"cluster": "demo", "type": "immediate"},
    }
    deploy(variables)
    password = (secrets / NAME / "postgresql-superuser").read_text(encoding="utf-8").strip()
    twin = Cluster(backups.lab.settings, password=password)
    leader = twin.await_healthy(180)
    # As it was at the end of the backup; the twin archives for itself.
    assert twin.query(leader, "SELECT count(*) FROM twins") == [("700",)]
    assert sum(deploy(variables).changed.values()) == 0
    taken = play("backup", backup_type="full", cluster_name=NAME, pgbackrest_cipher_pass=shared)
    assert taken.code == 0, taken.output
    told = json.loads(backups.run("ops1", "info", "--json")[1])
    assert told["stanza"] == NAME
    assert [each["type"] for each in told["repositories"][0]["backups"]] == ["full"]
    assert told["repositories"][0]["missing_wal_since_newest"] == []
