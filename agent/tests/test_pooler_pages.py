# SPDX-License-Identifier: GPL-3.0-or-later
"""`/pooler` of the REST API: what balancers and other agents are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from agent.tests.builders import cluster, config, member, primary, standby, view
from agent.tests.served import Served, serving
from agent.tests.test_api_access import ACCOUNT, GOOD
from pgherd.access_config import build_ctl
from pgherd.model import Member
from pgherd.peers import HttpPeers
from pgherd.pooler_config import PoolerConfig, PoolerSocket
from pgherd.pooler_target import PoolerState, Target
from pgherd.published import member_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PG2 = Target("pg2", "pg2", 5432)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Serve a host with poolers that nobody has started."""
    async with serving(tmp_path, authentication=ACCOUNT) as known:
        poolers = PoolerConfig(
            PoolerSocket(tmp_path, 6432, tmp_path / "rw.ini"), PoolerSocket(tmp_path, 6433)
        )
        loop = known.rig.loop
        loop.pooling.reconfigure(replace(loop.config, pooler=poolers))
        known.show(view())
        yield known


def points(served: Served, **state: Any) -> None:
    """Have the pooler for writes answer and point at the leader, but for *state*."""
    now = served.rig.clock.now
    good = PoolerState(is_up=True, target=PG2, leader=PG2, since=now, heard_at=now)
    served.rig.loop.pooling.state = replace(good, **state)


class TestWrites:
    async def test_yes_while_it_points_at_the_leader(self, served: Served) -> None:
        points(served)
        for method in ("GET", "HEAD", "OPTIONS"):
            assert await served.status("/pooler/rw", method) == 200
        body = await served.json("/pooler/rw")
        assert (body["state"], body["target"], body["address"]) == ("up", "pg2", "pg2:5432")
        assert (body["leader"], body["paused"], body["problem"]) == ("pg2", False, None)

    async def test_no_while_it_does_not_answer(self, served: Served) -> None:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert await served.status("/pooler/rw", method) == 503
        assert (await served.json("/pooler/rw"))["problem"] == "PgBouncer does not answer"

    async def test_also_while_nobody_leads(self, served: Served) -> None:
        points(served)
        served.show(view(cluster=cluster(None)))
        served.rig.loop.pooling.look(served.rig.loop.view)
        assert await served.status("/pooler/rw") == 200


class TestReads:
    @pytest.mark.parametrize(
        ("instance", "path", "status"),
        [
            (standby(), "/pooler/ro", 200),
            (standby(), "/pooler/ro?lag=1MB", 200),
            (standby(latest_end=2**30), "/pooler/ro?lag=1MB", 503),
            (primary(), "/pooler/ro", 503),
        ],
    )
    async def test_as_the_replica_is(
        self,
        served: Served,
        monkeypatch: pytest.MonkeyPatch,
        instance: Any,
        path: str,
        status: int,
    ) -> None:
        monkeypatch.setattr("pgherd.pooling.Pooling.ro_is_up", True)
        served.show(view(instance))
        assert await served.status(path) == status

    async def test_no_while_it_does_not_answer(self, served: Served) -> None:
        assert (await served.json("/pooler/ro"))["problem"] == "PgBouncer does not answer"


class TestElsewhere:
    @pytest.mark.parametrize("path", ["/pooler/rw", "/pooler/ro", "/pooler", "/pooler/x"])
    async def test_without_a_pooler_there_is_no_such_page(self, tmp_path: Path, path: str) -> None:
        async with serving(tmp_path) as bare:
            bare.show(view())
            assert await bare.status(path) == 404

    async def test_nor_can_it_be_paused(self, tmp_path: Path) -> None:
        async with serving(tmp_path, authentication=ACCOUNT) as bare:
            bare.show(view())
            body = {"action": "pause", "operation": "abc"}
            assert (await bare.change("/pooler", body, Authorization=GOOD))[0] == 404


class TestPausing:
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"action": "pause"}, "`operation` must say what the pooler is paused for"),
            ({"action": "stop", "operation": "a"}, "`action` must be pause or resume"),
            (
                {"action": "pause", "operation": "a", "within": "5"},
                "`within` must be a number of seconds up to 60",
            ),
        ],
    )
    async def test_what_cannot_be_meant(
        self, served: Served, body: dict[str, Any], text: str
    ) -> None:
        assert await served.change("/pooler", body, Authorization=GOOD) == (400, text)

    async def test_only_with_the_password(self, served: Served) -> None:
        assert (await served.change("/pooler", {"action": "pause", "operation": "a"}))[0] == 401

    async def test_what_went_wrong_is_told(self, served: Served) -> None:
        body = {"action": "pause", "operation": "a"}
        status, text = await served.change("/pooler", body, Authorization=GOOD)
        assert status == 503
        assert text.startswith("PgBouncer cannot be reached at ")


class TestAskingOthers:
    async def test_agents_show_their_password_and_hear_what_went_wrong(
        self, served: Served, tmp_path: Path
    ) -> None:
        peers = HttpPeers(build_ctl({"authentication": ACCOUNT}, {}))
        there = Member("pg2", {"api_url": f"{served._url}/patroni"})
        gone = member("pg3", api_url="http://127.0.0.1:1/patroni")
        body = {"action": "pause", "operation": "abc", "within": 1}
        told = await peers.tell_poolers({"pg2": there, "pg3": gone}, body, 5)
        assert told["pg2"].startswith("PgBouncer cannot be reached at ")
        assert told["pg3"] != ""
        ended = {"action": "resume", "operation": "abc"}
        assert await peers.tell_poolers({"pg2": there}, ended, 5) == {"pg2": ""}
        await peers.close()


def test_who_has_one_publishes_that(tmp_path: Path) -> None:
    poolers = PoolerConfig(PoolerSocket(tmp_path, 6432, tmp_path / "rw.ini"))
    known = config(tmp_path)
    assert "pooler" not in member_key(known, view()).get("pgherd", {})
    assert member_key(replace(known, pooler=poolers), view())["pgherd"]["pooler"] is True
