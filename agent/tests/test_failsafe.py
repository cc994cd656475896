# SPDX-License-Identifier: GPL-3.0-or-later
"""Failsafe mode: promises asked for, given and kept; a leader without etcd; candidates."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import (
    ME,
    NOW,
    cluster,
    config,
    member,
    peer,
    peers,
    primary,
    standby,
    sync_key,
    view,
)
from agent.tests.fakes import Clock, ScriptedPeers
from agent.tests.stage import BASE, PG2
from pgherd.failsafe import Failsafe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.tests.stage import Stage
    from pgherd.model import Cluster, Member

ON = {"failsafe_mode": True}
MEMBERS = {name: f"http://{name}:8008/patroni" for name in ("pg1", "pg2", "pg3")}
TTL, MARGIN = 5, 0.5


class SlowPeers(ScriptedPeers):
    """Peers whose answers take a second; remembers whom they were asked for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.was_asked = asyncio.Event()
        self.requests: list[tuple[dict[str, str], Mapping[str, Any]]] = []

    async def request_promises(
        self, members: Mapping[str, Member], body: Mapping[str, Any], within: float
    ) -> dict[str, int]:
        self.requests.append(({name: each.api_url for name, each in members.items()}, body))
        self.clock.now += 1
        self.was_asked.set()
        return await super().request_promises(members, body, within)


class World:
    """One member's failsafe mode, its agent having been started long ago."""

    def __init__(self) -> None:
        self.clock = Clock(NOW - TTL)
        self.peers = SlowPeers(self.clock)
        self.untils: list[float] = []
        self.failsafe = Failsafe(config(), self.peers, self.clock, self.untils.append)
        self.clock.now = NOW

    @property
    def promised(self) -> str | None:
        return self.failsafe.promised_to(self.clock.now)

    def asked_by(self, leader: str, known: Cluster | None = None, **changes: Any) -> int:
        """Return the status that *leader* gets for its request."""
        seen = view(cluster=known or led(), now=self.clock.now, **changes)
        return self.failsafe.promise(seen, leader)[0]


@pytest.fixture
def world() -> World:
    return World()


def led(leader: str | None = "pg2", **changes: Any) -> Cluster:
    """Return what etcd said last, in failsafe mode."""
    return cluster(leader, **{"config": ON, "failsafe": MEMBERS, **changes})


class TestALeaderAsks:
    @pytest.mark.parametrize(
        ("members", "accepted", "leads"),
        [
            (("pg1", "pg2", "pg3"), {"pg2"}, True),
            (("pg1", "pg2", "pg3"), set(), False),
            (("pg1", "pg2"), set(), False),
            (("pg1", "pg2"), {"pg2"}, True),
            (("pg1", "pg2", "pg3", "pg4"), {"pg2"}, False),
            (("pg1", "pg2", "pg3", "pg4"), {"pg2", "pg4"}, True),
            (("pg1",), set(), True),
            (("pg2", "pg3"), {"pg2"}, True),
            (("pg2", "pg3"), set(), False),
            ((), set(), False),
        ],
    )
    async def test_a_majority_of_the_members_counting_itself_is_enough(
        self, world: World, members: tuple[str, ...], accepted: set[str], *, leads: bool
    ) -> None:
        world.peers.promises = accepted
        urls = {name: f"http://{name}:8008" for name in members}
        await world.failsafe.ask(led(ME, failsafe=urls))
        assert (world.failsafe.until > 0) is leads

    async def test_the_promises_are_counted_from_before_they_were_asked_for(
        self, world: World
    ) -> None:
        world.peers.promises = {"pg2"}
        await world.failsafe.ask(led(ME))
        assert world.clock.now == NOW + 1
        assert world.failsafe.until == NOW + TTL - MARGIN
        assert world.untils == [world.failsafe.until]

    async def test_it_asks_the_others_where_etcd_last_said_they_are(self, world: World) -> None:
        await world.failsafe.ask(led(ME))
        [(asked, body)] = world.peers.requests
        assert asked == {name: MEMBERS[name] for name in ("pg2", "pg3")}
        assert body["name"] == ME
        assert "standing" not in body

    async def test_what_it_wrote_last_counts_as_well_as_what_etcd_told(self, world: World) -> None:
        """Of a write without an answer it is not known whether the others go by it."""
        five = {f"pg{index}": f"http://pg{index}:8008" for index in range(1, 6)}
        world.failsafe.attend(led(ME), five)
        world.peers.promises = {"pg2"}
        await world.failsafe.ask(led(ME))
        assert world.failsafe.until == 0
        world.peers.promises = {"pg4", "pg5"}
        await world.failsafe.ask(led(ME))
        assert world.failsafe.until == 0
        world.peers.promises = {"pg2", "pg4"}
        await world.failsafe.ask(led(ME))
        assert world.failsafe.until > 0

    async def test_a_refusal_leaves_the_promises_there_are(self, world: World) -> None:
        world.peers.promises = {"pg3"}
        await world.failsafe.ask(led(ME))
        world.peers.promises = set()
        await world.failsafe.ask(led(ME))
        assert world.untils == [world.failsafe.until] == [NOW + TTL - MARGIN]

    async def test_it_renews_the_promises_until_there_is_no_need(self, world: World) -> None:
        """Beside the loop, whose rounds take long while etcd is silent."""
        running = asyncio.create_task(world.failsafe.run())
        world.failsafe.attend(led(ME))
        for _ in range(2):
            await self.is_asked(world)
        world.failsafe.attend(None)
        count = len(world.peers.requests)
        world.failsafe.attend(led(ME))
        await self.is_asked(world)
        assert count >= 2
        assert len(world.peers.requests) > count
        running.cancel()

    async def is_asked(self, world: World) -> None:
        """Wait until the peers are asked, by the task beside the loop."""
        async with asyncio.timeout(20):
            await world.peers.was_asked.wait()
        world.peers.was_asked.clear()

    @pytest.mark.parametrize(
        "known",
        [None, led("pg2"), led(None), led(ME, config={})],
        ids=["etcd answers", "another leads", "nobody leads", "mode off"],
    )
    async def test_only_a_leader_in_failsafe_mode_asks(
        self, world: World, known: Cluster | None
    ) -> None:
        running = asyncio.create_task(world.failsafe.run())
        world.failsafe.attend(led(ME))
        world.failsafe.attend(known)
        for _ in range(5):
            await asyncio.sleep(0)
        assert world.peers.requests == []
        running.cancel()


class TestAPromise:
    def test_it_is_given_for_a_lease_and_renewed(self, world: World) -> None:
        assert world.asked_by("pg2") == 200
        assert world.promised == "pg2"
        world.clock.now += TTL - 0.1
        assert world.promised == "pg2"
        assert world.asked_by("pg2") == 200
        world.clock.now += TTL - 0.1
        assert world.promised == "pg2"
        world.clock.now += 0.2
        assert world.promised is None

    def test_it_lasts_longer_than_the_leader_counts_on_it(self, world: World) -> None:
        """The leader counts from before it asked, the member from when it answers."""
        assert world.asked_by("pg2") == 200
        assert world.failsafe.promised_to(NOW + TTL - MARGIN) == "pg2"

    def test_there_is_one_at_a_time(self, world: World) -> None:
        assert world.asked_by("pg2", led(None)) == 200
        assert world.asked_by("pg3", led(None)) == 409
        world.clock.now += TTL
        assert world.asked_by("pg3", led(None)) == 200

    def test_a_leader_gives_none(self, world: World) -> None:
        assert world.asked_by("pg2", instance=primary()) == 500
        assert world.asked_by("pg2", led(ME)) == 500
        assert world.promised is None

    def test_a_stranger_gets_none(self, world: World) -> None:
        assert world.asked_by("pg9") == 403

    def test_with_the_mode_off_nobody_gets_one(self, world: World) -> None:
        assert world.asked_by("pg2", cluster()) == 502

    def test_before_etcd_has_answered_nobody_gets_one(self, world: World) -> None:
        seen = view(cluster=None)
        assert world.failsafe.promise(seen, "pg2")[0] == 502

    def test_who_hears_etcd_name_another_leader_gives_none(self, world: World) -> None:
        assert world.asked_by("pg3") == 409
        assert world.promised is None

    def test_what_etcd_said_long_ago_about_another_leader_counts_for_nothing(
        self, world: World
    ) -> None:
        assert world.asked_by("pg3", store_answers=False) == 200

    def test_after_a_restart_somebody_may_have_one(self, world: World) -> None:
        """What the agent before has promised is not known."""
        restarted = Failsafe(config(), world.peers, world.clock)
        assert restarted.promised_to(NOW) == "somebody"
        assert restarted.promised_to(NOW + TTL) is None

    def test_after_a_restart_a_stranger_gets_none(self, world: World) -> None:
        """The agent before may have promised the leader that a candidate wants to succeed."""
        restarted = Failsafe(config(), world.peers, world.clock)
        seen = view(cluster=led(None))
        assert restarted.promise(seen, "pg3")[0] == 409
        world.clock.now += TTL
        assert restarted.promise(seen, "pg3")[0] == 200

    def test_after_a_restart_whom_sync_names_gets_one(self, world: World) -> None:
        restarted = Failsafe(config(), world.peers, world.clock)
        seen = view(cluster=led(None, sync=sync_key("pg3")))
        assert restarted.promise(seen, "pg3")[0] == 200

    def test_where_the_leader_is_to_be_streamed_from_is_remembered(self, world: World) -> None:
        seen = view(cluster=led())
        world.failsafe.promise(seen, "pg2", "postgres://pg2:5432/postgres")
        leader = world.failsafe.promised_leader(NOW)
        assert leader is not None
        assert (leader.name, leader.host, leader.port) == ("pg2", "pg2", 5432)
        assert world.failsafe.promised_leader(NOW + TTL) is None

    def test_a_candidate_is_not_streamed_from(self, world: World) -> None:
        world.asked_by("pg2")
        assert (world.promised, world.failsafe.promised_leader(NOW)) == ("pg2", None)

    def test_after_a_restart_whoever_leads_gets_one(self, world: World) -> None:
        restarted = Failsafe(config(), world.peers, world.clock)
        assert restarted.promise(view(cluster=led()), "pg2")[0] == 200
        assert restarted.promised_to(NOW) == "pg2"

    def test_another_lease_ttl_is_for_the_next_promise(self, world: World) -> None:
        longer = replace(config(), timing=replace(config().timing, lease_ttl=9))
        world.failsafe.reconfigure(longer)
        world.asked_by("pg2")
        assert world.failsafe.promised_to(NOW + 8.9) == "pg2"


class TestACandidate:
    """That nobody has promised anything is not enough: somebody may do so a moment later."""

    @pytest.mark.parametrize(("accepted", "stands"), [({"pg3"}, True), (set(), False)])
    async def test_it_needs_the_promises_of_a_majority(
        self, world: World, accepted: set[str], *, stands: bool
    ) -> None:
        world.peers.promises = accepted
        assert await world.failsafe.stand(led(None)) is stands
        [(_, body)] = world.peers.requests
        assert body["standing"] == "yes"

    async def test_it_promises_itself_first_so_a_late_leader_is_refused(self, world: World) -> None:
        await world.failsafe.stand(led(None))
        assert world.asked_by("pg2", led(None)) == 409

    async def test_one_that_has_promised_another_asks_nobody(self, world: World) -> None:
        world.peers.promises = {"pg2", "pg3"}
        world.asked_by("pg2", led(None))
        assert not await world.failsafe.stand(led(None))
        assert world.peers.requests == []
        assert world.promised == "pg2"

    async def test_before_a_leader_has_written_the_members_down_there_is_nobody_to_ask(
        self, world: World
    ) -> None:
        """Nor does a leader lead by promise then."""
        assert await world.failsafe.stand(led(None, failsafe={}))

    async def test_one_just_restarted_waits(self, world: World) -> None:
        world.peers.promises = {"pg2", "pg3"}
        restarted = Failsafe(config(), world.peers, world.clock)
        assert not await restarted.stand(led(None))
        world.clock.now += TTL
        assert await restarted.stand(led(None))

    async def test_a_promise_to_itself_is_not_in_its_way(self, world: World) -> None:
        world.peers.promises = {"pg2"}
        assert await world.failsafe.stand(led(None))
        assert await world.failsafe.stand(led(None))


async def silent_round(stage: Stage) -> str:
    """Go round once while etcd is silent, the promises being renewed; return the rule."""
    rule = await stage.round()
    cluster = stage.loop.view.cluster
    assert cluster is not None
    assert stage.loop.failsafe._attended.is_set()
    await stage.loop.failsafe.ask(cluster)
    return rule


class TestRounds:
    """A leader whose etcd falls silent goes on with its majority, and not without."""

    @pytest.fixture
    async def leading(self, stage: Stage) -> Stage:
        """Have us lead in failsafe mode, the members being known."""
        await stage.led_by_us()
        members = {f"members__{name}": dict(member(name).data) for name in ("pg2", "pg3")}
        await stage.put(config={"ttl": 30, **ON}, **members)
        assert await stage.round() == "lead"
        assert await stage.round() == "lead"
        return stage

    async def test_the_leader_writes_down_who_is_a_member(self, leading: Stage) -> None:
        assert set(json.loads(leading.key("failsafe") or "")) == {"pg1", "pg2", "pg3"}

    async def test_while_it_is_promised_it_is_not_demoted(self, leading: Stage) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.peers.promises = {"pg3"}
        for seconds in (3.0, 6.0, 9.0, 12.0):
            leading.rig.clock.now = NOW + seconds
            rule = await silent_round(leading)
            assert rule == ("lead" if seconds < 4.5 else "lead_by_promise")
        assert ("stop_now",) not in leading.calls

    async def test_the_guard_waits_as_long(self, leading: Stage) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.peers.promises = {"pg3"}
        leading.rig.clock.now = NOW + 3
        await silent_round(leading)
        assert leading.rig.guard.deadline == NOW + 3 + TTL - MARGIN + MARGIN / 2

    async def test_without_a_majority_it_is_demoted_at_the_end_of_its_lease(
        self, leading: Stage
    ) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.clock.now = NOW + 4
        assert await leading.round() == "lead"
        leading.rig.clock.now = NOW + 4.5
        assert await leading.round() == "demote_without_key"
        assert ("stop_now",) in leading.calls

    async def test_promises_that_end_end_the_lead(self, leading: Stage) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.peers.promises = {"pg3"}
        leading.rig.clock.now = NOW + 4
        await silent_round(leading)
        leading.rig.peers.promises = set()
        leading.rig.clock.now = NOW + 8
        assert await silent_round(leading) == "lead_by_promise"
        leading.rig.clock.now = NOW + 8.5
        assert await leading.round() == "demote_without_key"

    async def test_when_etcd_is_back_the_key_is_retaken_at_once(self, leading: Stage) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.peers.promises = {"pg3"}
        leading.rig.clock.now = NOW + 4
        assert await silent_round(leading) == "lead"
        leading.rig.clock.now = NOW + 6
        assert await silent_round(leading) == "lead_by_promise"
        leading.rig.clock.now = NOW + 6.1
        leading.rig.etcd.is_down = False
        lease = leading.rig.keeper.lease
        assert lease is not None
        await leading.rig.etcd.lease_revoke(lease.id)
        await leading.rig.keeper.renew()
        await leading.rig.keeper.renew()
        assert await leading.round() == "retake_key"
        assert leading.key("leader") == ME
        assert await leading.round() == "lead"
        assert ("stop_now",) not in leading.calls

        # From then on it is the lease again that the guard goes by.
        leading.rig.clock.now = NOW + 9
        await leading.rig.keeper.renew()
        assert leading.rig.guard.deadline == NOW + 9 + TTL - MARGIN + MARGIN / 2

    async def test_another_leader_ends_the_lead_whatever_was_promised(self, leading: Stage) -> None:
        await leading.round()
        leading.rig.etcd.is_down = True
        leading.rig.peers.promises = {"pg3"}
        leading.rig.clock.now = NOW + 4
        assert await silent_round(leading) == "lead"
        leading.rig.clock.now = NOW + 6
        assert await silent_round(leading) == "lead_by_promise"
        leading.rig.clock.now = NOW + 6.1
        leading.rig.etcd.is_down = False
        await leading.put(leader="pg2", members__pg2=PG2)
        assert await leading.round() == "demote_without_key"

    async def test_a_candidate_without_promises_does_not_take_the_key(self, stage: Stage) -> None:
        await stage.initialized()
        stage.rig.clock.now = NOW + TTL
        await stage.rig.keeper.renew()
        await stage.put(config={"ttl": 30, **ON}, failsafe=MEMBERS)
        stage.rig.peers.answers = peers(peer("pg3"))
        assert await stage.round() == "take_key"
        assert stage.key("leader") is None
        stage.rig.peers.promises = {"pg3"}
        assert await stage.round() == "take_key"
        assert stage.key("leader") == ME

    async def test_a_member_that_has_promised_does_not_stand(self, stage: Stage) -> None:
        await stage.led_by_other()
        await stage.put(config={"ttl": 30, **ON}, failsafe=MEMBERS)
        stage.rig.clock.now = NOW + TTL
        await stage.rig.keeper.renew()
        await stage.round()
        assert stage.loop.failsafe.promise(stage.loop.view, "pg2")[0] == 200
        await stage.rig.etcd.lease_revoke(stage.rig.etcd.keys[f"{BASE}leader"].lease)
        stage.rig.peers.answers = peers(peer("pg3"))
        stage.rig.peers.promises = {"pg3"}
        assert await stage.round() == "promised"
        stage.rig.clock.now += TTL
        await stage.rig.keeper.renew()
        assert await stage.round() == "take_key"

    async def test_a_member_that_has_promised_streams_on(self, stage: Stage) -> None:
        """The leader goes on, and its commits need somebody who acknowledges them."""
        await stage.led_by_other()
        settings = {"ttl": 30, "synchronous_mode": "quorum", **ON}
        sync = {"leader": "pg2", "sync_standby": "pg1,pg3", "quorum": 1}
        await stage.put(config=settings, failsafe=MEMBERS, sync=sync)
        await stage.round()
        failsafe = stage.loop.failsafe
        url = "postgres://pg2:5432/postgres"
        assert failsafe.promise(stage.loop.view, "pg2", url)[0] == 200
        await stage.rig.etcd.lease_revoke(stage.rig.etcd.keys[f"{BASE}leader"].lease)
        stage.rig.postgres.calls.clear()
        assert await stage.round() == "keep_promise"
        assert stage.calls == []
        stage.rig.postgres.instance = standby(upstream=None, receiver_status=None)
        assert await stage.round() == "keep_promise"
        assert stage.calls == [("follow", "pg2")]
        stage.rig.clock.now += TTL
        await stage.rig.keeper.renew()
        stage.rig.postgres.instance = standby()
        assert await stage.round() == "stop_receiving"

    async def test_a_standby_asks_for_no_promises(self, stage: Stage) -> None:
        await stage.led_by_us()
        await stage.put(config={"ttl": 30, **ON}, failsafe=MEMBERS)
        stage.rig.postgres.instance = standby()
        await stage.round()
        await stage.rig.settle()
        stage.rig.etcd.is_down = True
        stage.rig.peers.promises = {"pg2", "pg3"}
        await stage.round()
        assert stage.loop.failsafe.until == 0
        await stage.rig.settle()
