# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig on which rounds of the loop are played, with shortcuts to what etcd holds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.tests.builders import SYSTEM_ID, member, primary, row, standby
from agent.tests.fakes import Rig
from pgherd.etcd import Put

if TYPE_CHECKING:
    from pathlib import Path

BASE = "/service/demo/"
PG2 = {
    "conn_url": "postgres://pg2:5432/postgres",
    "api_url": "http://pg2:8008/patroni",
    "state": "running",
    "role": "primary",
    "timeline": 1,
}


class Stage:
    """A rig, and shortcuts to what etcd holds."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        self.rig = Rig(directory, standby(), **sections)
        self.loop = self.rig.loop

    @property
    def calls(self) -> list[tuple[str, ...]]:
        """What was asked of PostgreSQL, but for looking at and writing its files."""
        return [call for call in self.rig.postgres.calls if call[0] != "configure"]

    def key(self, name: str) -> str | None:
        found = self.rig.etcd.keys.get(BASE + name)
        return found.value if found else None

    async def put(self, lease: int = 0, /, **values: Any) -> None:
        """Write keys by name; `__` stands for the slash, what is no text is written as JSON."""
        await self.rig.etcd.txn(
            [],
            [
                Put(
                    BASE + name.replace("__", "/"),
                    value if isinstance(value, str) else json.dumps(value),
                    lease,
                )
                for name, value in values.items()
            ],
        )

    async def initialized(self) -> Stage:
        """Have a cluster without a leader, and a lease of ours."""
        await self.put(initialize=SYSTEM_ID, config={"ttl": 30})
        await self.rig.keeper.renew()
        return self

    async def led_by_other(self) -> Stage:
        """Have pg2 lead; return the stage."""
        await self.initialized()
        lease = await self.rig.etcd.lease_grant(60)
        await self.put(lease, leader="pg2", members__pg2=PG2)
        return self

    async def led_by_us(self) -> Stage:
        """Have us lead, as a running primary."""
        await self.initialized()
        lease = self.rig.keeper.lease
        assert lease is not None
        assert await self.rig.store.take_leader(lease.id)
        self.rig.postgres.instance = primary()
        return self

    async def synchronous(self, *names: str, **settings: Any) -> Stage:
        """Have us lead in quorum mode, with the members *names* streaming from us."""
        await self.led_by_us()
        await self.put(config={"ttl": 30, "synchronous_mode": "quorum", **settings})
        await self.put(**{f"members__{name}": dict(member(name).data) for name in names})
        self.streamed_by(*names)
        return self

    def streamed_by(self, *names: str, flush: int = 0x3000, **changes: Any) -> None:
        """Have *names*, and nobody else, stream from us and have flushed up to *flush*."""
        rows = tuple(row(name, flush) for name in names)
        instance = self.rig.postgres.instance
        self.rig.postgres.instance = replace(instance, replication=rows, **changes)

    @property
    def sync(self) -> tuple[str, str | None, int] | None:
        """Leader, voters and quorum of the key `/sync`, None when it names nobody."""
        value = json.loads(self.key("sync") or "{}")
        if value.get("leader") is None:
            return None
        return value["leader"], value["sync_standby"], value["quorum"]

    async def rounds(self, count: int = 20) -> list[str]:
        """Go round until nothing changes any more; return the steps of sync and names taken.

        :raises AssertionError: it still changes after *count* rounds.
        """
        steps: list[str] = []
        for _ in range(count):
            before = self.sync, self.rig.postgres.instance.sync_names
            rule = await self.round()
            names = self.rig.postgres.instance.sync_names
            assert (self.sync != before[0]) + (names != before[1]) <= 1
            if self.sync != before[0]:
                steps.append(f"{self.sync[1]}: {self.sync[2]}" if self.sync else "no sync")
            elif names != before[1]:
                steps.append(names or "nobody")
            elif rule == "lead" and self.loop._is_steady():
                return steps
        raise AssertionError(f"{steps}, then {rule}")

    async def round(self) -> str:
        """Go round once; return the name of the rule that fired."""
        await self.loop.round()
        assert self.loop.decision is not None
        return self.loop.decision.rule.name
