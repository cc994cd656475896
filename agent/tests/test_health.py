# SPDX-License-Identifier: GPL-3.0-or-later
"""Both probes of one instance, beside the loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from agent.tests.builders import config
from pgherd.clock import boottime
from pgherd.disk import PROBE_FILE
from pgherd.health import Health
from pgherd.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

WITHIN = 20.0


async def test_disk_and_instance_are_looked_at_until_it_is_cancelled(tmp_path: Path) -> None:
    """Nobody listens here, which is an answer."""
    known = config(tmp_path)
    data = known.postgres.data_dir
    (data / "pg_wal").mkdir(parents=True)
    (data / "PG_VERSION").write_text("15")
    health = Health(known, f"host={tmp_path} port=1", boottime)
    running = asyncio.create_task(health.run())

    async def has_looked() -> bool:
        return (data / PROBE_FILE).exists()

    await until(has_looked, every=0.02, within=WITHIN)
    assert health.disk() == ""
    assert health.silent_seconds() < known.timing.hang_timeout
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_a_new_limit_counts_at_once(tmp_path: Path) -> None:
    """Else a shorter one would be over before the next look."""
    health = Health(config(tmp_path, pgherd={"hang_timeout": 30}), "", boottime)
    health.reconfigure(config(tmp_path, pgherd={"hang_timeout": 4}))
    assert (health._disk._pace.limit, health._hang._pace.limit) == (4, 4)


async def test_a_sick_disk_is_told(tmp_path: Path) -> None:
    known = config(tmp_path, pgherd={"hang_timeout": 1})
    data = known.postgres.data_dir
    (data / "pg_wal").mkdir(parents=True)
    (data / "PG_VERSION").write_text("15")
    # What should be a file cannot be written.
    os.mkfifo(data / PROBE_FILE)
    health = Health(known, f"host={tmp_path} port=1", boottime)
    running = asyncio.create_task(health.run())

    async def is_sick() -> bool:
        return "did not end" in health.disk()

    await until(is_sick, every=0.02, within=WITHIN)
    running.cancel()
    await asyncio.wait({running})
    # The thread that hangs ends, too.
    reader = os.open(data / PROBE_FILE, os.O_RDONLY | os.O_NONBLOCK)
    os.close(reader)
