# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore that is interrupted, and gone on with by the same command, over the old data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lab.playbook import play

if TYPE_CHECKING:
    from molecule.backup.tests.conftest import Backups

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]


def test_the_same_command_goes_on_with_an_interrupted_restore(backups: Backups) -> None:
    assert play("restore", restore_forget=True).code == 0
    backups.write("DROP TABLE IF EXISTS again")
    backups.write("CREATE TABLE again AS SELECT g AS id FROM generate_series(1, 200000) g")
    taken = play("backup", backup_type="full")
    assert taken.code == 0, taken.output
    backups.write("INSERT INTO again VALUES (200001)")
    leader = backups.leader
    data = backups.cluster.query(leader, "SHOW data_directory")[0][0]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(play, "restore", restore_confirm="demo", restore_keep_old=False)
        # The state is written before anything is replaced, and removed at the end.
        backups.until(
            "The restore has begun",
            lambda: (
                backups.lab.exec(leader, ["test", "-e", f"{data}.restore.json"], check=False)[0]
                == 0
            ),
        )
        backups.lab.exec(leader, ["systemctl", "kill", "--signal=KILL", "pgherd-job-restore"])
        interrupted = first.result()
    assert interrupted.code != 0
    place = backups.run(leader, "place", "--json")[1]
    assert '"under_way": true' in place
    again = play("restore", restore_confirm="demo", restore_keep_old=False)
    assert again.code == 0, again.output
    assert backups.write("SELECT count(*), max(id) FROM again") == [("200001", "200001")]
    assert '"under_way": false' in backups.run(leader, "place", "--json")[1]
    assert backups.lab.exec(leader, ["test", "-e", f"{data}.before-restore"], check=False)[0] == 1
