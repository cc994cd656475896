# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking peers over real HTTP: all at once, with one bound, whatever they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from agent.tests.builders import config, member, primary, standby, unlocked
from agent.tests.etcd_processes import free_ports
from pgherd.access_config import Ctl
from pgherd.decide import decide
from pgherd.peers import HttpPeers, parse_peer
from pgherd.published import patroni_body
from pgherd.settings import Tags
from pgherd.view import Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgherd.model import Instance

STANDBY = {
    "state": "running",
    "role": "replica",
    "timeline": 2,
    "xlog": {"received_location": 200, "replayed_location": 100, "paused": False},
}


class Town:
    """Members that answer by name with a text, or never."""

    def __init__(self) -> None:
        self.answers: dict[str, str | dict[str, Any]] = {}
        self.closing = asyncio.Event()
        self.promised: dict[str, Any] = {}
        self.url = ""
        self.lsn = ""

    async def answer(self, request: web.Request) -> web.Response:
        answer = self.answers.get(request.match_info["name"])
        if answer is None:
            await self.closing.wait()
        if isinstance(answer, dict):
            return web.json_response(answer)
        return web.Response(text=answer or "")

    async def promise(self, request: web.Request) -> web.Response:
        """Answer with the status that is told for the member, or never; remember what was said."""
        name = request.match_info["name"]
        self.promised[name] = await request.json()
        status = self.answers.get(name)
        if status is None:
            await self.closing.wait()
        headers = {"lsn": self.lsn} if self.lsn else {}
        return web.Response(status=int(str(status or 503)), text="x", headers=headers)


@pytest_asyncio.fixture
async def town() -> AsyncIterator[Town]:
    known = Town()
    app = web.Application()
    app.router.add_get("/{name}/patroni", known.answer)
    app.router.add_post("/{name}/failsafe", known.promise)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    known.url = f"http://{host}:{port}"
    yield known
    known.closing.set()
    await runner.cleanup()


async def ask(town: Town, *names: str, within: float = 20.0) -> dict[str, Peer]:
    """Ask the members *names* of *town*."""
    peers = HttpPeers(Ctl())
    members = {name: member(name, api_url=f"{town.url}/{name}/patroni") for name in names}
    try:
        return await peers.ask(members, within)
    finally:
        await peers.close()


async def test_every_member_that_answers_is_heard(town: Town) -> None:
    town.answers = {"pg2": STANDBY, "pg3": {**STANDBY, "timeline": 3}}
    answers = await ask(town, "pg2", "pg3")
    assert answers["pg2"] == Peer("pg2", "replica", 2, 200, can_lead=True)
    assert answers["pg3"].timeline == 3


async def test_one_that_hangs_costs_the_bound_and_no_answer_of_others(town: Town) -> None:
    """R9."""
    town.answers = {"pg2": STANDBY}
    assert set(await ask(town, "pg2", "pg3", within=0.5)) == {"pg2"}


async def test_one_that_is_gone_is_left_out(town: Town) -> None:
    [port] = free_ports(1)
    peers = HttpPeers(Ctl())
    gone = member("pg2", api_url=f"http://127.0.0.1:{port}/patroni")
    try:
        assert await peers.ask({"pg2": gone}, 20) == {}
    finally:
        await peers.close()


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "http://[::1/patroni"])
async def test_one_without_a_usable_address_is_left_out(town: Town, url: str) -> None:
    peers = HttpPeers(Ctl())
    try:
        assert await peers.ask({"pg2": member("pg2", api_url=url)}, 20) == {}
    finally:
        await peers.close()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<html>",
        "[]",
        "1",
        '{"state":"running","xlog":[1],"timeline":1}',
        '{"state":"running","xlog":{"location":"far"},"timeline":1}',
        '{"state":"running","timeline":"x"}',
        '{"state":"running","timeline":[]}',
        '{"state":"running","tags":[1],"pgherd":"x"}',
    ],
)
async def test_an_answer_that_makes_no_sense_is_none(town: Town, answer: str) -> None:
    """Something else may listen there; that must not end our election."""
    town.answers = {"pg2": answer, "pg3": STANDBY}
    assert set(await ask(town, "pg2", "pg3")) == {"pg3"}


async def promises(town: Town, *names: str, within: float = 20.0) -> dict[str, int]:
    """Ask the members *names* of *town* for their promise."""
    peers = HttpPeers(Ctl())
    members = {name: member(name, api_url=f"{town.url}/{name}/patroni") for name in names}
    try:
        return await peers.request_promises(members, {"name": "pg1"}, within)
    finally:
        await peers.close()


class TestPromises:
    async def test_only_those_who_accept_have_promised(self, town: Town) -> None:
        town.answers = {"pg2": "200", "pg3": "409", "pg4": "502", "pg5": "500"}
        assert await promises(town, "pg2", "pg3", "pg4", "pg5") == {"pg2": 0}
        assert town.promised["pg2"] == {"name": "pg1"}

    @pytest.mark.parametrize(("lsn", "position"), [("4711", 4711), ("far", 0), ("", 0)])
    async def test_they_tell_where_they_are(self, town: Town, lsn: str, position: int) -> None:
        town.answers, town.lsn = {"pg2": "200"}, lsn
        assert await promises(town, "pg2") == {"pg2": position}

    async def test_one_that_hangs_costs_the_bound_and_no_promise_of_others(
        self, town: Town
    ) -> None:
        town.answers = {"pg2": "200"}
        assert await promises(town, "pg2", "pg3", within=0.5) == {"pg2": 0}

    @pytest.mark.parametrize("url", ["", "nonsense", "http://", "http://127.0.0.1:1/patroni"])
    async def test_one_that_cannot_be_asked_has_promised_nothing(
        self, town: Town, url: str
    ) -> None:
        town.answers = {"pg2": "200"}
        peers = HttpPeers(Ctl())
        members = {"pg2": member("pg2", api_url=f"{town.url}/pg2/patroni"),
                   "pg3": member("pg3", api_url=url)}  # fmt: skip
        try:
            assert await peers.request_promises(members, {"name": "pg1"}, 20) == {"pg2": 0}
        finally:
            await peers.close()


class TestReading:
    @pytest.mark.parametrize("can_lead", [True, False])
    def test_what_our_own_agents_publish_is_understood(self, can_lead: bool) -> None:
        instance = standby(timeline=2, received=0x5000, replayed=0x4000)
        tags = {"failover_priority": 3}
        seen = unlocked(instance, store_answers=can_lead, tags=Tags.parse(tags))
        body = patroni_body(config(tags=tags), seen, instance, decide(seen), 0)
        assert parse_peer("pg1", body) == Peer(
            "pg1", "replica", 2, 0x5000, can_lead, priority=3, receives=True
        )

    @pytest.mark.parametrize(
        "instance",
        [
            standby(upstream=None, receiver_status=None),
            standby(upstream="pg2:5432", receiver_status=None),
            standby(upstream=None, receiver_status="waiting"),
        ],
    )
    def test_whether_its_position_is_final_is_understood(self, instance: Instance) -> None:
        seen = unlocked(instance)
        peer = parse_peer("pg1", patroni_body(config(), seen, instance, decide(seen), 0))
        is_final = instance.upstream is None and instance.receiver_status is None
        assert (peer.receives, peer.votes) == (not is_final, is_final)

    def test_of_a_patroni_member_that_streams_it_is_not(self) -> None:
        assert parse_peer("pg2", {**STANDBY, "replication_state": "streaming"}).receives
        assert not parse_peer("pg2", STANDBY).receives

    def test_what_it_has_promised_is_understood(self) -> None:
        seen = unlocked(promised_to="pg3")
        body = patroni_body(config(), seen, seen.instance, decide(seen), 0)
        assert parse_peer("pg1", body).promised_to == "pg3"
        assert parse_peer("pg2", STANDBY).promised_to is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"held_back_until": 2000.0},
            {"watchdog_missing": True},
            {"instance": standby(disk="full")},
        ],
    )
    def test_one_of_ours_that_is_held_back_or_unfit_is_not_counted_on(
        self, changes: dict[str, Any]
    ) -> None:
        seen = unlocked(**changes)
        body = patroni_body(config(), seen, seen.instance, decide(seen), 0)
        assert not parse_peer("pg1", body).can_lead

    def test_a_primary_of_ours_is_understood(self) -> None:
        seen = unlocked(primary(location=0x6000))
        peer = parse_peer("pg1", patroni_body(config(), seen, seen.instance, decide(seen), 0))
        assert (peer.is_primary, peer.position) == (True, 0x6000)

    def test_of_a_patroni_member_a_running_instance_has_to_do(self) -> None:
        assert parse_peer("pg2", STANDBY).can_lead

    @pytest.mark.parametrize(
        "changes",
        [
            {"tags": {"nofailover": True}},
            {"tags": {"failover_priority": 0}},
            {"state": "starting"},
            {"pgherd": {"can_lead": False}},
        ],
    )
    def test_who_cannot_lead_is_not_counted_on(self, changes: dict[str, Any]) -> None:
        """R9."""
        assert not parse_peer("pg2", {**STANDBY, **changes}).can_lead

    def test_a_stopped_primary_is_no_live_primary(self) -> None:
        """R9: "Primary is still alive" is said of one that runs."""
        assert not parse_peer("pg2", {"state": "stopped", "role": "primary"}).is_primary

    @pytest.mark.parametrize(
        ("xlog", "position"),
        [
            ({"location": 7}, 7),
            ({"received_location": 7, "replayed_location": 9}, 9),
            ({"received_location": 0, "replayed_location": None}, 0),
            (None, 0),
        ],
    )
    def test_its_position_is_the_furthest_it_told(self, xlog: Any, position: int) -> None:
        assert parse_peer("pg2", {**STANDBY, "xlog": xlog}).position == position
