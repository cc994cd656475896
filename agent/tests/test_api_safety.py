# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API where safety depends on it: promises, synchronous standbys, a leader by promise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    lease,
    primary,
    stopped,
    sync_key,
    synchronous,
    view,
)
from agent.tests.served import Served, serving
from pgherd.access import comes_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# The tests ask from loopback, so that is where the leader pg2 lives.
FAILSAFE = {"pg1": "http://192.0.2.1:8008", "pg2": "http://127.0.0.1:8008/patroni",
            "pg3": "http://192.0.2.3:8008"}  # fmt: skip
PROMISING = cluster(config={"failsafe_mode": True}, failsafe=FAILSAFE)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as known:
        yield known


class TestAPromise:
    """POST /failsafe, by which a leader without etcd asks us to elect nobody else."""

    @pytest_asyncio.fixture
    async def asked(self, served: Served) -> Served:
        """Have the loop run for longer than the agent before could have promised."""
        served.rig.clock.now = NOW + 5
        served.show(replace(view(cluster=PROMISING), now=NOW + 5, lease=lease(9)))
        return served

    async def test_the_members_that_would_be_asked_are_told(self, asked: Served) -> None:
        assert await asked.json("/failsafe") == FAILSAFE

    async def test_it_is_given_with_the_position_we_have(self, asked: Served) -> None:
        """Patroni answers so too."""
        answer = await asked.ask_for_promise({"name": "pg2", "conn_url": "x", "api_url": "y"})
        assert answer == (200, "Accepted", str(0x3000))

    async def test_where_its_slots_are_is_taken_in(self, asked: Served) -> None:
        """As Patroni's leaders send it."""
        await asked.ask_for_promise({"name": "pg2", "slots": {"pg3": 0x2000}})
        assert asked.rig.loop.failsafe.told(NOW + 5) == {"pg3": 0x2000}

    async def test_whoever_asks_from_then_on_is_told(self, asked: Served) -> None:
        """A candidate must not learn of it only after our next round."""
        assert (await asked.json("/patroni"))["pgherd"]["promised_to"] is None
        await asked.ask_for_promise({"name": "pg2"})
        assert (await asked.json("/patroni"))["pgherd"]["promised_to"] == "pg2"
        asked.rig.clock.now += 5
        assert (await asked.json("/patroni"))["pgherd"]["promised_to"] is None

    @pytest.mark.parametrize("body", [{}, [], [1], "pg2", 5, None, {"Name": "pg2"}])
    async def test_what_is_no_request_is_refused(self, asked: Served, body: Any) -> None:
        status, _, lsn = await asked.ask_for_promise(body)
        assert (status, lsn) == (400, None)

    async def test_a_leader_is_streamed_from_and_a_candidate_is_not(self, asked: Served) -> None:
        failsafe = asked.rig.loop.failsafe
        url = "postgres://pg2:5433/postgres"
        await asked.ask_for_promise({"name": "pg2", "conn_url": url})
        leader = failsafe.promised_leader(NOW + 5)
        assert leader is not None
        assert leader.port == 5433
        await asked.ask_for_promise({"name": "pg2", "conn_url": url, "standing": "yes"})
        assert failsafe.promised_leader(NOW + 5) is None

    async def test_what_is_no_json_is_refused(self, asked: Served) -> None:
        assert await asked.status("/failsafe", "POST") == 400

    @pytest.mark.parametrize("name", ["pg3", "pg9", "", 5])
    async def test_only_the_leaders_own_host_is_listened_to(self, asked: Served, name: Any) -> None:
        """Else anybody could keep the others from electing a leader."""
        assert (await asked.ask_for_promise({"name": name}))[0] == 403
        assert asked.rig.loop.failsafe.promised_to(NOW + 5) is None

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"instance": primary()}, 500),
            ({"cluster": replace(PROMISING, leader=cluster("pg3").leader)}, 409),
            ({"cluster": replace(PROMISING, config=None)}, 502),
        ],
        ids=["we lead", "another leads", "mode off"],
    )
    async def test_there_are_reasons_not_to(
        self, asked: Served, changes: dict[str, Any], code: int
    ) -> None:
        asked.show(replace(asked.rig.loop.view, **changes))
        assert (await asked.ask_for_promise({"name": "pg2"}))[0] == code
        assert asked.rig.loop.failsafe.promised_to(NOW + 5) is None

    async def test_a_promise_to_another_is_kept(self, asked: Served) -> None:
        both = {**FAILSAFE, "pg3": "http://localhost:8008/patroni"}
        free = replace(PROMISING, leader=None, failsafe=both)
        asked.show(replace(asked.rig.loop.view, cluster=free))
        assert (await asked.ask_for_promise({"name": "pg2"}))[0] == 200
        assert (await asked.ask_for_promise({"name": "pg3"}))[:2] == (409, "promised to pg2")

    @pytest.mark.parametrize(
        ("remote", "host", "does"),
        [
            ("127.0.0.1", "127.0.0.1", True),
            ("127.0.0.1", "localhost", True),
            ("192.0.2.1", "127.0.0.1", False),
            (None, "127.0.0.1", False),
            ("127.0.0.1", None, False),
            ("127.0.0.1", "", False),
            ("127.0.0.1", "no.such.host.invalid", False),
        ],
    )
    async def test_an_address_is_one_of_a_hosts(
        self, remote: str | None, host: str | None, *, does: bool
    ) -> None:
        assert await comes_from(remote, host) is does

    async def test_other_pages_take_no_post(self, asked: Served) -> None:
        assert await asked.status("/patroni", "POST") == 501
        assert await asked.status("/failsafe", "PUT") == 501


class TestSynchronousStandbys:
    """1.2: who is one is what `/sync` says, in the mode the cluster is in."""

    @pytest.mark.parametrize(
        ("mode", "voters", "paths"),
        [
            ("on", "pg1,pg3", {"/sync", "/synchronous", "/read-only-sync", "/replica"}),
            ("quorum", "pg1,pg3", {"/quorum", "/read-only-quorum", "/replica"}),
            ("quorum", "pg3", {"/async", "/asynchronous", "/replica"}),
            ("on", "pg3", {"/async", "/asynchronous", "/replica"}),
        ],
    )
    async def test_each_path_says_yes_to_its_kind(
        self, served: Served, mode: str, voters: str, paths: set[str]
    ) -> None:
        known = synchronous("pg2", sync_key("pg2", voters, 0), synchronous_mode=mode)
        served.show(view(cluster=known))
        every = {"/sync", "/synchronous", "/read-only-sync", "/quorum", "/read-only-quorum",
                 "/async", "/asynchronous", "/replica"}  # fmt: skip
        said = {path for path in every if await served.status(path) == 200}
        assert said == paths

    async def test_one_that_does_not_run_is_none(self, served: Served) -> None:
        known = synchronous("pg2", sync_key("pg2", "pg1", 0), synchronous_mode="on")
        served.show(view(stopped(), cluster=known))
        assert await served.status("/sync") == 503


class TestALeaderByPromise:
    LEADS = view(
        primary(),
        cluster=cluster(ME, config={"failsafe_mode": True}, failsafe=FAILSAFE),
        store_answers=False,
        lease=lease(-1),
        failsafe_until=NOW + 1,
    )

    async def test_it_is_the_leader_until_the_promises_end(self, served: Served) -> None:
        served.show(self.LEADS)
        assert await served.status("/primary") == 200
        assert (await served.json("/patroni"))["failsafe_mode_is_active"] is True
        served.rig.clock.now = NOW + 1
        assert await served.status("/primary") == 503

    async def test_once_another_leads_it_is_none(self, served: Served) -> None:
        served.show(replace(self.LEADS, cluster=PROMISING))
        assert await served.status("/primary") == 503
