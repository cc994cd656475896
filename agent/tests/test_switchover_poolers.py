# SPDX-License-Identifier: GPL-3.0-or-later
"""Pausing the poolers around a switchover, and what becomes of long transactions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import member, peer, primary
from agent.tests.stage import Stage
from agent.tests.test_switchover import SHUTDOWN, ask, ledger
from pgherd.handover import Handover
from pgherd.handover_requests import delete_switchover, post_switchover
from pgherd.long_transactions import patience

if TYPE_CHECKING:
    from pathlib import Path

LONG = {"pid": 4711, "user": "report", "database": "app", "age": 12.3, "began": "10:00"}
DESCRIBED = "Switchover failed: transactions are under way: pid 4711 of report in app (12.3 s)"


@pytest.fixture
async def leading(tmp_path: Path) -> Stage:
    """Return a stage on which we lead; on the hosts of pg2 and pg3 there are poolers."""
    stage = await Stage(tmp_path).synchronous("pg2", "pg3")
    marked = {f"members__{name}": _with_pooler(name) for name in ("pg2", "pg3")}
    await stage.put(**marked)
    stage.rig.peers.answers = {"pg2": peer("pg2", position=SHUTDOWN + 120)}
    await stage.rounds()
    stage.rig.postgres.calls.clear()
    return stage


def _with_pooler(name: str) -> dict[str, Any]:
    return dict(member(name, pgherd={"pooler": True}).data)


async def hand_over(stage: Stage, **request: Any) -> None:
    await ask(stage, member="pg2", **request)
    assert await stage.round() == "hand_over"
    await stage.rig.settle()


def actions(stage: Stage) -> list[str]:
    """Return what the other members' poolers were told."""
    for members, body in stage.rig.peers.told:
        assert (members, body["operation"]) == ({"pg2", "pg3"}, "abc")
    return [body["action"] for _, body in stage.rig.peers.told]


class TestThePause:
    async def test_the_poolers_are_paused_and_left_to_the_next_leader(self, leading: Stage) -> None:
        await hand_over(leading)
        assert actions(leading) == ["pause"]
        assert leading.key("leader") is None

    async def test_members_without_a_pooler_are_not_asked(self, leading: Stage) -> None:
        """A Patroni, say."""
        await leading.put(members__pg3=dict(member("pg3").data))
        await leading.round()
        await hand_over(leading)
        assert [members for members, _ in leading.rig.peers.told] == [{"pg2"}]

    async def test_a_host_that_does_not_answer_is_left_out(self, leading: Stage) -> None:
        leading.rig.peers.refusals = {"pg3": "no answer within 1.5 s"}
        await hand_over(leading)
        assert actions(leading) == ["pause"]
        assert leading.key("leader") is None

    async def test_a_switchover_that_is_called_off_before_the_stop_resumes_them(
        self, leading: Stage
    ) -> None:
        leading.rig.peers.refusals = {"pg3": "transactions are under way"}
        leading.rig.postgres.transactions = [[], *[[LONG]] * 100]
        await hand_over(leading, transactions="call-off", transaction_timeout=0.01)
        assert actions(leading) == ["pause", "resume"]
        assert ("shut_down",) not in leading.calls
        assert await leading.round() == "refuse_handover"
        assert (ledger(leading)["abc"]["state"], ledger(leading)["abc"]["result"]) == (
            "failed",
            DESCRIBED,
        )
        assert leading.key("leader") == "pg1"

    async def test_one_that_fails_after_the_stop_leaves_them_until_there_is_a_leader(
        self, leading: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pgherd.switchover.CATCH_UP_SECONDS", 0.1)
        leading.rig.peers.answers = {"pg2": peer("pg2", position=SHUTDOWN)}
        await hand_over(leading)
        assert actions(leading) == ["pause"]
        leading.rig.postgres.instance = primary()
        leading.streamed_by("pg2", "pg3", sync_names='ANY 1 ("pg2","pg3")')
        assert await leading.round() == "refuse_handover"


class TestLongTransactions:
    async def test_they_are_waited_for_while_clients_go_on(self, leading: Stage) -> None:
        leading.rig.postgres.transactions = [[LONG], [LONG], []]
        await hand_over(leading, transactions="call-off")
        assert actions(leading) == ["pause"]
        assert leading.key("leader") is None

    async def test_by_default_they_are_ended_at_last_and_counted(self, leading: Stage) -> None:
        leading.rig.postgres.transactions = [[LONG]] * 100
        await hand_over(leading, transaction_timeout=0.01)
        assert leading.key("leader") is None
        assert ledger(leading)["abc"]["details"] == {"transactions_ended": 1}
        # They are ended before the pause, which would wait for them.
        assert leading.calls[-2:] == [("query",), ("shut_down",)]

    async def test_those_that_begin_while_the_poolers_are_paused_are_counted_too(
        self, leading: Stage
    ) -> None:
        leading.rig.peers.refusals = {"pg2": "transactions are under way"}
        leading.rig.postgres.transactions = [[], [LONG, LONG]]
        await hand_over(leading)
        assert ledger(leading)["abc"]["details"] == {"transactions_ended": 2}
        assert leading.key("leader") is None

    async def test_one_that_begins_meanwhile_is_waited_for_again(self, leading: Stage) -> None:
        leading.rig.peers.refusals = {"pg2": "transactions are under way"}
        leading.rig.postgres.transactions = [[], [LONG], [LONG], []]
        await hand_over(leading, transactions="wait")
        assert actions(leading) == ["pause", "resume", "pause"]
        assert leading.key("leader") is None

    async def test_waiting_ends_when_nobody_wants_it_any_more(self, leading: Stage) -> None:
        leading.rig.postgres.transactions = [[LONG]] * 10000
        await ask(leading, member="pg2", transactions="wait")
        await leading.round()
        await delete_switchover(leading.loop, {})
        leading.loop.view = await leading.loop.observe()
        await leading.rig.settle()
        assert actions(leading) == []
        assert ("shut_down",) not in leading.calls

    def test_how_long_they_are_waited_for(self) -> None:
        def seconds(word: str, given: float | None, *, has_poolers: bool) -> float:
            request = Handover("pg1", None, transactions=word, patience=given)
            return patience(request, has_poolers=has_poolers)

        assert seconds("cancel", None, has_poolers=True) == 10
        # Without poolers clients see errors anyway.
        assert seconds("cancel", None, has_poolers=False) == 0
        assert seconds("call-off", None, has_poolers=False) == 10
        assert seconds("wait", None, has_poolers=False) == 600
        assert seconds("wait", 3, has_poolers=True) == 3


class TestTheRequest:
    async def test_it_is_kept_with_the_key(self, leading: Stage) -> None:
        body = {"leader": "pg1", "scheduled_at": "2036-01-01T00:00Z"}
        wanted = {"transactions": "wait", "transaction_timeout": 0}
        assert (await post_switchover(leading.loop, {**body, **wanted})).status == 202
        key = json.loads(leading.key("failover") or "")
        assert (key["transactions"], key["transaction_timeout"]) == ("wait", 0)
        request = Handover.parse(key, 1)
        assert request is not None
        assert (request.transactions, request.patience) == ("wait", 0)

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            ({"transactions": "kill"}, "transactions must be one of cancel, wait, call-off"),
            ({"transaction_timeout": -1}, "transaction_timeout must be seconds, at most 600"),
            ({"transaction_timeout": "5"}, "transaction_timeout must be seconds, at most 600"),
        ],
    )
    async def test_what_cannot_be_meant_is_refused(
        self, leading: Stage, wrong: dict[str, Any], text: str
    ) -> None:
        answer = await post_switchover(leading.loop, {"leader": "pg1", **wrong})
        assert (answer.status, answer.body) == (400, text)
        assert leading.key("failover") is None

    def test_what_another_tool_wrote_is_taken_for_the_default(self) -> None:
        request = Handover.parse({"leader": "pg1", "transactions": 5}, 1)
        assert request is not None
        assert (request.transactions, request.patience) == ("cancel", None)
