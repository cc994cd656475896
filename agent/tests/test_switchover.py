# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing the lead over, and being asked to: rounds of a real loop, and the REST API's answers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import member, peer, primary, standby
from agent.tests.stage import BASE, Stage
from pgherd.answers import Answer
from pgherd.errors import NotAnsweringError, StoreUnavailableError
from pgherd.handover_requests import (
    delete_switchover,
    get_operations,
    post_failover,
    post_switchover,
)
from pgherd.timestamps import iso

if TYPE_CHECKING:
    from pathlib import Path

SHUTDOWN = 0x3000
AFTER = peer("pg2", position=SHUTDOWN + 120)


@pytest.fixture
async def leading(tmp_path: Path) -> Stage:
    """Return a stage on which we lead, pg2 and pg3 acknowledge, and pg2 has our last WAL."""
    stage = await Stage(tmp_path).synchronous("pg2", "pg3")
    stage.rig.peers.answers = {"pg2": AFTER}
    await stage.rounds()
    stage.rig.postgres.calls.clear()
    return stage


async def ask(stage: Stage, **request: Any) -> None:
    await stage.put(failover={"leader": "pg1", "id": "abc", **request})


def ledger(stage: Stage) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in json.loads(stage.key("operations") or "[]")}


class TestHandingOver:
    async def test_the_primary_stops_in_good_order_and_leaves_the_lead_to_the_heir(
        self, leading: Stage
    ) -> None:
        await ask(leading, member="pg2")
        assert await leading.round() == "hand_over"
        await leading.rig.settle()
        assert leading.calls[-2:] == [("checkpoint",), ("shut_down",)]
        assert leading.key("leader") is None
        status = json.loads(leading.key("status") or "")
        assert status["heir"] == {"name": "pg2", "position": SHUTDOWN}
        assert (status["optime"], status["released"]) == (SHUTDOWN, "pg1")
        # Of whom the electorate knows that it has every commit; one vote more is asked of others.
        assert leading.sync == ("pg2", "pg1,pg3", 1)
        assert ledger(leading)["abc"]["state"] == "running"
        # What was asked for stands until the next leader has led.
        assert leading.key("failover") is not None

    async def test_the_heir_s_timeline_gets_a_number_of_its_own(self, leading: Stage) -> None:
        before = json.loads(leading.key("sync") or "")["timeline"]
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert json.loads(leading.key("sync") or "")["timeline"] > before

    async def test_it_lets_others_go_first_afterwards(self, leading: Stage) -> None:
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        leading.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        assert await leading.round() == "leave_it_to_heir"
        leading.rig.clock.now += 3
        await leading.rig.keeper.renew()
        assert await leading.round() == "cannot_lead"

    async def test_an_heir_that_lacks_the_last_wal_is_nobody_s(
        self, leading: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pgherd.switchover.CATCH_UP_SECONDS", 0.1)
        leading.rig.peers.answers = {"pg2": peer("pg2", position=SHUTDOWN)}
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert leading.key("leader") == "pg1"
        assert "heir" not in (leading.key("status") or "")
        leading.rig.postgres.instance = primary()
        leading.streamed_by("pg2", "pg3", sync_names='ANY 1 ("pg2","pg3")')
        assert await leading.round() == "refuse_handover"
        entry = ledger(leading)["abc"]
        assert entry["state"] == "failed"
        assert "pg2 has not received the last WAL" in entry["result"]
        assert leading.key("failover") is None

    async def test_a_primary_that_does_not_shut_down_is_stopped_at_once(
        self, leading: Stage
    ) -> None:
        leading.rig.postgres.fails["shut_down"] = NotAnsweringError("it did not shut down")
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert leading.calls[-1] == ("stop_now",)
        assert leading.key("leader") == "pg1"

    async def test_one_that_cannot_even_write_a_checkpoint_goes_on(self, leading: Stage) -> None:
        leading.rig.postgres.fails["checkpoint"] = NotAnsweringError("no answer")
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert ("shut_down",) not in leading.calls
        assert await leading.round() == "refuse_handover"
        assert leading.key("leader") == "pg1"

    async def test_it_is_called_off_in_time(
        self, leading: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Deleted while the checkpoint is being written."""

        async def write(within: float) -> None:
            await delete_switchover(leading.loop, {})
            leading.loop.view = await leading.loop.observe()

        monkeypatch.setattr(leading.rig.postgres, "checkpoint", write)
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert ("shut_down",) not in leading.calls
        assert ledger(leading)["abc"]["state"] == "cancelled"

    async def test_nothing_is_given_away_when_the_key_is_lost_meanwhile(
        self, leading: Stage
    ) -> None:
        await ask(leading, member="pg2")
        await leading.round()
        lease = await leading.rig.etcd.lease_grant(60)
        await leading.put(lease, leader="pg3")
        await leading.rig.settle()
        assert leading.key("leader") == "pg3"
        assert leading.sync == ("pg1", "pg2,pg3", 1)

    async def test_what_is_not_known_to_be_given_away_is_not_used(
        self, leading: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def give(*wanted: object) -> bool:
            raise StoreUnavailableError("the answer was lost")

        monkeypatch.setattr(leading.rig.store, "hand_over", give)
        await ask(leading, member="pg2")
        await leading.round()
        await leading.rig.settle()
        assert leading.rig.keeper.lease is None


class TestTheHeir:
    async def test_it_takes_the_key_and_is_no_heir_any_more(self, tmp_path: Path) -> None:
        stage = await Stage(tmp_path).initialized()
        status = {"optime": 5, "heir": {"name": "pg1", "position": 0x2FFF}}
        await stage.put(status=status, failover={"leader": "pg2", "member": "pg1", "id": "abc"})
        assert await stage.round() == "inherit"
        assert stage.key("leader") == "pg1"
        assert json.loads(stage.key("status") or "") == {"optime": 5}
        assert await stage.round() == "promote"
        await stage.rig.settle()
        stage.rig.postgres.instance = primary(timeline=2)
        assert await stage.round() == "finish_handover"
        entry = ledger(stage)["abc"]
        assert (entry["state"], entry["result"]) == (
            "done",
            'Successfully switched over to "pg1"',
        )
        assert stage.key("failover") is None


async def answer(stage: Stage, asking: Any) -> Answer:
    """Play rounds until the answer is there."""
    task = asyncio.ensure_future(asking)
    for _ in range(200):
        if task.done():
            break
        await stage.round()
        await asyncio.sleep(0)
    found = await task
    assert isinstance(found, Answer)
    return found


async def begun(stage: Stage) -> asyncio.Future[Answer]:
    """Ask for a switchover to whoever is best; return once the request is written."""
    asking = asyncio.ensure_future(post_switchover(stage.loop, {"leader": "pg1"}))
    async for keys in stage.rig.store.changes(stage.rig.etcd.revision):
        if "failover" in keys:
            break
    return asking


REFUSED: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
    ({}, {"candidate": "pg2"}, 400, "Switchover could be performed only from a specific leader"),
    ({}, {"leader": "pg1", "candidate": "pg1"}, 400, "Switchover target and source are the same"),
    ({}, {"leader": "pg3"}, 412, "leader name does not match"),
    ({}, {"leader": "pg1", "member": "pg9"}, 412, "candidate does not exists"),
    (
        {},
        {"leader": "pg1", "scheduled_at": "2036-01-01T00:00"},
        400,
        "Timezone information is mandatory for the scheduled switchover",
    ),
    (
        {},
        {"leader": "pg1", "scheduled_at": "soon"},
        422,
        "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
    ),
    (
        {},
        {"leader": "pg1", "scheduled_at": "2016-01-01T00:00Z"},
        422,
        "Cannot schedule switchover in the past",
    ),
    (
        {"pause": True},
        {"leader": "pg1"},
        400,
        "Switchover is possible only to a specific candidate in a paused state",
    ),
    (
        {"pause": True},
        {"leader": "pg1", "candidate": "pg2", "scheduled_at": "2036-01-01T00:00Z"},
        400,
        "Can't schedule switchover in the paused state",
    ),
]


class TestTheAnswers:
    @pytest.mark.parametrize(("settings", "body", "status", "text"), REFUSED)
    async def test_what_cannot_be_is_refused_in_patroni_s_words(
        self, tmp_path: Path, settings: dict[str, Any], body: dict[str, Any], status: int, text: str
    ) -> None:
        stage = await Stage(tmp_path).synchronous("pg2", "pg3", **settings)
        before = stage.key("failover")
        assert await answer(stage, post_switchover(stage.loop, body)) == Answer(status, text)
        assert stage.key("failover") == before
        assert stage.key("operations") is None

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({}, "Failover could be performed only to a specific candidate"),
            (
                {"candidate": "pg2", "scheduled_at": "2036-01-01T00:00Z"},
                "Failover can't be scheduled",
            ),
        ],
    )
    async def test_so_is_a_failover(self, leading: Stage, body: dict[str, Any], text: str) -> None:
        assert await answer(leading, post_failover(leading.loop, body)) == Answer(400, text)

    async def test_a_candidate_that_does_not_acknowledge_is_refused(self, tmp_path: Path) -> None:
        """R15."""
        stage = await Stage(tmp_path).synchronous("pg2")
        await stage.put(members__pg3=dict(member("pg3").data))
        await stage.rounds()
        found = await answer(
            stage, post_switchover(stage.loop, {"leader": "pg1", "candidate": "pg3"})
        )
        assert found == Answer(412, "candidate name does not match with sync_standby")

    async def test_a_lonely_leader_has_nobody_to_switch_to(self, tmp_path: Path) -> None:
        stage = await Stage(tmp_path).led_by_us()
        await stage.rounds()
        found = await answer(stage, post_switchover(stage.loop, {"leader": "pg1"}))
        assert found.status == 412
        assert found.body.startswith("switchover is not possible: cluster does not have members")

    async def test_what_only_the_leader_sees_is_told_as_well(self, leading: Stage) -> None:
        leading.streamed_by("pg2", "pg3", flush=0, location=0x200000)
        body = {"leader": "pg1", "candidate": "pg2"}
        found = await answer(leading, post_switchover(leading.loop, body))
        assert found.status == 412
        assert "pg2 is 2097152 bytes behind" in found.body
        number = found.headers["X-Pgherd-Operation"]
        assert ledger(leading)[number]["state"] == "refused"

    async def test_one_that_succeeds_is_answered_when_the_heir_leads(self, leading: Stage) -> None:
        asking = await begun(leading)
        await leading.round()
        await leading.rig.settle()
        assert not asking.done()
        [number] = ledger(leading)
        # What pg2 does then.
        lease = await leading.rig.etcd.lease_grant(60)
        ended = {"state": "done", "result": 'Successfully switched over to "pg2"'}
        entry = {**ledger(leading)[number], **ended}
        await leading.put(lease, leader="pg2")
        await leading.rig.etcd.txn([], [])
        leading.rig.etcd.keys.pop(f"{BASE}failover")
        await leading.put(operations=[entry])
        leading.rig.postgres.instance = standby()
        found = await answer(leading, asking)
        assert (found.status, found.body) == (200, 'Successfully switched over to "pg2"')
        assert found.headers == {"X-Pgherd-Operation": number}

    async def test_what_patroni_ends_is_told_by_who_leads(self, leading: Stage) -> None:
        """A mixed cluster: a Patroni clears the request and knows no ledger."""
        asking = await begun(leading)
        leading.loop.view = await leading.loop.observe()
        leading.rig.etcd.keys.pop(f"{BASE}failover")
        await leading.put(await leading.rig.etcd.lease_grant(60), leader="pg3")
        leading.rig.postgres.instance = standby()
        found = await answer(leading, asking)
        assert (found.status, found.body) == (200, 'Successfully switched over to "pg3"')
        assert ledger(leading)[found.headers["X-Pgherd-Operation"]]["state"] == "done"

    async def test_a_scheduled_one_waits_and_can_be_deleted(self, leading: Stage) -> None:
        body = {"leader": "pg1", "scheduled_at": iso(time.time() + 3600)}
        found = await answer(leading, post_switchover(leading.loop, body))
        assert (found.status, found.body) == (202, "Switchover scheduled")
        number = found.headers["X-Pgherd-Operation"]
        assert await leading.round() == "lead"
        told = await get_operations(leading.loop, number)
        assert (told.status, told.body["state"]) == (200, "scheduled")
        deleted = await delete_switchover(leading.loop, {})
        assert deleted == Answer(200, "scheduled switchover deleted")
        assert ledger(leading)[number]["state"] == "cancelled"
        again = await delete_switchover(leading.loop, {})
        assert again == Answer(404, "no switchover is scheduled")

    async def test_without_etcd_it_says_so(self, leading: Stage) -> None:
        leading.rig.etcd.is_down = True
        found = await post_switchover(leading.loop, {"leader": "pg1"})
        assert found.status == 503
        assert found.body.startswith("failed to write failover key into DCS")
        assert (await get_operations(leading.loop, "")).status == 503
        assert (await delete_switchover(leading.loop, {})).status == 503

    async def test_an_operation_that_nobody_remembers_is_not_found(self, leading: Stage) -> None:
        assert (await get_operations(leading.loop, "123")).status == 404
        assert (await get_operations(leading.loop, "")).body == []
