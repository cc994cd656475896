# SPDX-License-Identifier: GPL-3.0-or-later
"""What is configured at run time reaches a real PostgreSQL through a real agent."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agent.tests.live_agents import BASE, WITHIN, Agents, ended
from agent.tests.postgres_processes import Node, nodes
from agent.tests.test_hooks import script
from pgherd.config import build
from pgherd.config_requests import ORDER_HEADER, RESTART_HEADER, patch_config
from pgherd.etcd import Delete
from pgherd.method_schema import CALLBACKS
from pgherd.restarts import post_restart
from pgherd.rolling import KIND
from pgherd.rolls import post_rolling_restart
from pgherd.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import pytest

    from pgherd.view import View


def extended(node: Node, section: str, **keys: Any) -> None:
    """Extend *section* of the node's file."""
    node.raw[section] |= keys
    node.config = build(node.raw)


async def shown(node: Node, name: str) -> str:
    """Return a parameter in force."""
    [row] = await node.postgres.query(f"SELECT current_setting('{name}') AS value")
    return str(row["value"])


async def test_a_change_is_checked_applied_and_told() -> None:
    agents = Agents(ttl=30)
    async with nodes(1) as [one], ended(agents):
        agent = await agents.start(one)
        await agent.leads()
        before = agent.keeper.lease
        assert before is not None
        refused = await patch_config(
            agent.loop, {"postgresql": {"parameters": {"shared_bufers": "1GB", "fsync": "perhaps"}}}
        )
        assert (refused.status, len(refused.body.splitlines())) == (422, 2)
        answer = await patch_config(
            agent.loop,
            {
                "pgherd": {"lease_ttl": 9, "keepalive_interval": 2},
                "postgresql": {"parameters": {"max_connections": 150, "work_mem": "8MB"}},
            },
        )
        assert answer.headers == {RESTART_HEADER: "max_connections", ORDER_HEADER: "standbys first"}
        reason = {"max_connections": {"old_value": "100", "new_value": "150"}}
        await agent.comes_to(
            lambda view: dict(view.instance.pending_restart) == reason, "waits for a restart"
        )
        assert await shown(one, "work_mem") == "8MB"
        await agent.comes_to(
            lambda view: view.lease is not None and view.lease.id != before.id and view.holds_key,
            "has another lease",
        )
        assert agent.keeper.lease is not None
        assert agents.etcd.leases[agent.keeper.lease.id] == 9
        assert agents.etcd.keys[f"{BASE}leader"].lease == agent.keeper.lease.id
        assert not agent.loop.decisions > 4, "it led all the time"


async def test_what_waits_for_a_restart_is_known_before_anybody_is_judged_by_it() -> None:
    """Asked for right after the change, before anybody had the time to take it in."""
    agents = Agents(ttl=30)
    async with nodes(2) as [one, two], ended(agents):
        agent = await agents.start(one)
        await agent.leads()
        other = await agents.start(two)
        await other.follows(one)

        def changed(connections: int) -> Awaitable[Any]:
            body = {"postgresql": {"parameters": {"max_connections": connections}}}
            return patch_config(agent.loop, body)

        await changed(150)
        answer = await post_restart(agent.loop, {"restart_pending": True})
        assert (answer.status, answer.body) == (200, "restarted successfully")
        assert await shown(one, "max_connections") == "150"
        await changed(160)
        answer = await post_rolling_restart(agent.loop, {"pending": True})
        assert answer.status == 202

        def is_over(view: View) -> bool:
            ledger = view.cluster.ledger if view.cluster is not None else ()
            return any(each.kind == KIND and each.is_finished for each in ledger)

        await other.comes_to(is_over, "knows that the rolling restart is over")
        assert other.loop.view.cluster is not None
        [entry] = [each for each in other.loop.view.cluster.ledger if each.kind == KIND]
        assert (entry.state, entry.result) == ("done", "restarted pg2, pg1")
        assert [await shown(node, "max_connections") for node in (one, two)] == ["160"] * 2


async def test_a_cluster_that_gives_primaries_no_time_to_start_is_born(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agents = Agents(ttl=30, primary_start_timeout=0)
    async with nodes(1) as [one], ended(agents):
        agent = await agents.start(one)
        await agent.leads()
    assert "bootstrap" not in caplog.text


async def test_what_somebody_stored_unchecked_keeps_no_server_from_starting() -> None:
    agents = Agents(ttl=30)
    async with nodes(1) as [one], ended(agents):
        agent = await agents.start(one)
        await agent.leads()
        parameters = {"no_such_parameter": 1, "work_mem": "many", "maintenance_work_mem": "9MB"}
        await agents.configure(postgresql={"parameters": parameters}, mystery=True)
        agent.wake.set()
        await agent.comes_to(lambda view: len(view.config_problems) == 3, "tells of three problems")
        started = agent.loop.view.instance.started_at
        await one.postgres.stop_now()
        await agent.comes_to(
            lambda view: view.instance.is_primary and view.instance.started_at != started,
            "is a primary again",
        )
        assert await shown(one, "maintenance_work_mem") == "9MB"
        assert await shown(one, "work_mem") == "4MB"


async def test_a_configuration_that_was_deleted_comes_back_as_it_was() -> None:
    agents = Agents(ttl=30, maximum_lag_on_failover="3MB")
    async with nodes(1) as [one], ended(agents):
        agent = await agents.start(one)
        await agent.leads()
        await agents.configure(ttl=40)
        agent.wake.set()
        await agent.comes_to(
            lambda view: view.cluster is not None and (view.cluster.config or {}).get("ttl") == 40,
            "knows the new one",
        )
        await agent.loop.round()
        await agents.etcd.txn([], [Delete(f"{BASE}config")])
        agent.wake.set()

        async def is_back() -> bool:
            return f"{BASE}config" in agents.etcd.keys

        await until(is_back, every=0.05, within=WITHIN)
        stored = json.loads(agents.etcd.keys[f"{BASE}config"].value)
        assert (stored["ttl"], stored["maximum_lag_on_failover"]) == (40, "3MB")


async def test_a_cluster_begins_with_the_operators_command_and_tells_callbacks() -> None:
    agents = Agents(ttl=30)
    async with nodes(1) as [one], ended(agents):
        place = one.config.postgres.data_dir.parent
        programs = one.config.postgres.bin_dir
        made = script(place, f'{programs}/initdb -N -U postgres -D "${{2#--datadir=}}"')
        (place / "told").mkdir()
        note = script(place / "told", f'echo "$1 $2 $3" >> {place}/events')
        (place / "init").mkdir()
        init = script(place / "init", f'{programs}/psql -X "$1" -c "CREATE TABLE public.made ()"')
        extended(one, "bootstrap", method="own", own={"command": made}, post_init=init)
        extended(one, "postgresql", callbacks=dict.fromkeys(CALLBACKS, note))
        agent = await agents.start(one)
        states: set[str] = set()

        def leads(view: Any) -> bool:
            states.add(str(view.phase))
            return bool(view.instance.is_primary and view.holds_key)

        await agent.comes_to(leads, "leads")
        assert "running custom bootstrap script" in states
        assert await one.postgres.query("SELECT FROM public.made") == []
        assert agent.loop.view.phase == ""
        started = agent.loop.view.instance.started_at
        await one.postgres.stop_now()
        await agent.comes_to(
            lambda view: view.instance.is_primary and view.instance.started_at != started,
            "is a primary again",
        )
        agent.loop.stopping = True
        agent.wake.set()
        async with asyncio.timeout(WITHIN):
            await agent.loop.finished.wait()
            await agent.task
        events = (place / "events").read_text().splitlines()
        told = [event for event in events if not event.startswith("on_reload")]
        assert told == [
            "on_start primary demo",
            "on_stop primary demo",
            "on_start primary demo",
            "on_stop primary demo",
        ]
