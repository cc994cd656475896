# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API over a real server: Patroni's codes, bodies and quirks, for constructed views."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from agent.tests.builders import (
    ME,
    NOW,
    SYSTEM_ID,
    THEIRS,
    cluster,
    lease,
    primary,
    standby,
    starting,
    stopped,
    unlocked,
    view,
)
from agent.tests.fakes import Rig
from agent.tests.served import Served, serving
from pgherd.api import Api
from pgherd.endpoints import Endpoints
from pgherd.errors import ListenError
from pgherd.etcd import Put
from pgherd.health_checks import parse_bytes
from pgherd.model import Instance
from pgherd.settings import Tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgherd.view import View

PRIMARY_PATHS = ("/", "/primary", "/master", "/read-write", "/leader")
LEADER = view(primary(), cluster=cluster(ME, optime=0x3000))
STANDBY = view(cluster=cluster(optime=0x3000))


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as known:
        yield known


class TestHealthOfALeader:
    """1.2."""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    @pytest.mark.parametrize("path", [*PRIMARY_PATHS, "//leader", "//", "/primary/anything"])
    async def test_every_leader_path_says_yes(self, served: Served, path: str, method: str) -> None:
        """Also `//leader`, as vip-manager asks, and `OPTIONS /`, as HAProxy does (6.2, 6.4)."""
        served.show(LEADER)
        assert await served.status(path, method) == 200

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("/read-only", 200),
            ("/read-only-sync", 200),
            ("/read-only-synchronous", 200),
            ("/read-only-quorum", 200),
            ("/health", 200),
            ("/replica", 503),
            ("/async", 503),
            ("/asynchronous", 503),
            ("/sync", 503),
            ("/synchronous", 503),
            ("/quorum", 503),
            ("/standby-leader", 503),
            ("/standby_leader", 503),
            ("/unknown", 503),
        ],
    )
    async def test_the_other_paths(self, served: Served, path: str, code: int) -> None:
        served.show(LEADER)
        assert await served.status(path) == code

    @pytest.mark.parametrize(
        "seen",
        [
            view(primary(), cluster=cluster(ME), lease=lease(0)),
            view(primary(), cluster=cluster(ME), lease=None),
            view(primary(), cluster=cluster(ME), lease=lease(number=THEIRS)),
            view(primary(), cluster=cluster("pg2")),
            unlocked(primary()),
            view(primary(), cluster=None),
            view(standby(), cluster=cluster(ME)),
            view(stopped("in production"), cluster=cluster(ME)),
            view(starting(in_recovery=None), cluster=cluster(ME)),
        ],
        ids=[
            "lease over", "no lease", "another lease", "another leader", "no leader",
            "etcd never answered", "still promoting", "crashed", "starting",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", PRIMARY_PATHS)
    async def test_no_leader_path_says_yes_unless_a_write_can_succeed(
        self, served: Served, path: str, seen: View
    ) -> None:
        """Section 7 number 8: Patroni says yes as soon as it holds the key."""
        served.show(seen)
        assert await served.status(path) == 503

    async def test_the_lease_is_judged_when_the_answer_is_given(self, served: Served) -> None:
        """The loop that made the view may hang."""
        served.show(LEADER)
        assert await served.status("/primary") == 200
        served.rig.clock.now = NOW + 4.5
        assert await served.status("/primary") == 503

    @pytest.mark.parametrize("query", ["?lag=1", "?tag_a=b", "?x=y"])
    async def test_leader_paths_ignore_parameters(self, served: Served, query: str) -> None:
        """1.3."""
        served.show(LEADER)
        assert await served.status(f"/primary{query}") == 200


class TestHealthOfAStandby:
    """1.2 and 1.3."""

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            *((path, 503) for path in PRIMARY_PATHS),
            ("/replica", 200),
            ("/read-only", 200),
            ("/async", 200),
            ("/asynchronous", 200),
            ("/health", 200),
            ("/sync", 503),
            ("/synchronous", 503),
            ("/quorum", 503),
            ("/read-only-sync", 503),
            ("/read-only-quorum", 503),
            ("/standby-leader", 503),
        ],
    )
    async def test_its_paths(self, served: Served, path: str, code: int) -> None:
        served.show(STANDBY)
        assert await served.status(path) == code

    @pytest.mark.parametrize("path", ["/replica", "/async"])
    async def test_one_that_is_being_promoted_is_no_replica(
        self, served: Served, path: str
    ) -> None:
        """1.2: /replica is for standbys that stay standbys."""
        served.show(view(standby(), cluster=cluster(ME)))
        assert await served.status(path) == 503

    @pytest.mark.parametrize("path", ["/replica", "/async", "/read-only"])
    @pytest.mark.parametrize(
        "seen",
        [view(stopped()), view(starting()), view(tags=Tags(noloadbalance=True)), view(Instance())],
        ids=["stopped", "starting", "noloadbalance", "no data"],
    )
    async def test_who_does_not_serve_readers_says_no(
        self, served: Served, path: str, seen: View
    ) -> None:
        served.show(seen)
        assert await served.status(path) == 503

    @pytest.mark.parametrize("instance", [stopped(), starting(), Instance()])
    async def test_health_is_a_running_instance(self, served: Served, instance: Instance) -> None:
        served.show(view(instance))
        assert await served.status("/health") == 503

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("lag=16", 200),
            ("lag=15", 503),
            ("lag=1kB", 200),
            ("lag=0", 503),
            ("lag=much", 200),
            ("lag=", 200),
            ("other=1", 200),
        ],
    )
    async def test_lag_is_counted_from_what_was_replayed(
        self, served: Served, query: str, code: int
    ) -> None:
        served.show(view(standby(replayed=0x2FF0), cluster=cluster(optime=0x3000)))
        assert await served.status(f"/replica?{query}") == code

    async def test_lag_knows_what_the_receiver_has_heard_of(self, served: Served) -> None:
        served.show(view(standby(latest_end=0x9000), cluster=cluster(optime=0x3000)))
        assert await served.status("/replica?lag=16") == 503

    @pytest.mark.parametrize("streams", [True, False])
    async def test_how_its_wal_comes_can_be_asked_for(self, served: Served, streams: bool) -> None:
        """1.3, after 4.1."""
        served.show(view(standby(receiver_status="streaming" if streams else None)))
        path = "/replica?replication_state="
        assert await served.status(f"{path}streaming") == (200 if streams else 503)
        assert await served.status(f"{path}in%20archive%20recovery") == (503 if streams else 200)
        assert await served.status(f"{path}else") == 503

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ("tag_rack=r1", 200),
            ("tag_rack=r2", 503),
            ("tag_ssd=true", 200),
            ("tag_ssd=True", 503),
            ("tag_size=7", 200),
            ("tag_none=x", 503),
            ("tag_rack=r1&tag_ssd=false", 503),
        ],
    )
    @pytest.mark.parametrize("path", ["/replica", "/read-only"])
    async def test_tags_have_to_match(
        self, served: Served, path: str, query: str, code: int
    ) -> None:
        served.show(view(tags=Tags(other={"rack": "r1", "ssd": True, "size": 7})))
        assert await served.status(f"{path}?{query}") == code


class TestShape:
    @pytest.mark.parametrize("path", ["/", "/leader", "/replica", "/health", "/nothing"])
    @pytest.mark.parametrize("seen", [LEADER, STANDBY, view(stopped())])
    async def test_a_health_check_brings_the_same_body_for_yes_and_for_no(
        self, served: Served, path: str, seen: View
    ) -> None:
        """1.1."""
        served.show(seen)
        assert await served.json(path) == await served.json("/patroni")

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
    @pytest.mark.parametrize("path", ["/", "/replica"])
    async def test_head_and_options_bring_the_code_alone(
        self, served: Served, path: str, method: str
    ) -> None:
        served.show(STANDBY)
        status, _, text = await served.ask(path, method)
        assert (status, text) == (200 if path == "/replica" else 503, "")

    @pytest.mark.parametrize("path", ["/liveness", "/readiness", "/patroni", "/metrics"])
    async def test_head_of_a_page_is_answered_as_its_get(self, served: Served, path: str) -> None:
        """9 number 5: Patroni answers 503 by accident."""
        served.show(LEADER)
        status, _, text = await served.ask(path, "HEAD")
        assert (status, text) == (200, "")

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    @pytest.mark.parametrize("path", ["/", "/patroni", "/metrics"])
    async def test_nothing_can_be_changed(self, served: Served, path: str, method: str) -> None:
        served.show(LEADER)
        assert (await served.ask(path, method))[::2] == (501, "Unsupported method")

    async def test_patroni_asks_postgresql_itself(self, served: Served) -> None:
        """An election is decided on it: the loop's last look may be old."""
        served.show(view(standby(received=0x3000)))
        served.rig.postgres.instance = standby(received=0x4000)
        body = await served.json("/patroni")
        assert body["xlog"]["received_location"] == 0x4000

    async def test_patroni_is_always_answered_with_200(self, served: Served) -> None:
        served.show(view(stopped(), cluster=None, store_answers=False))
        assert await served.status("/patroni") == 200


class TestPages:
    async def test_the_cluster_is_read_from_etcd_anew(self, served: Served) -> None:
        served.show(STANDBY)
        key = '{"conn_url":"postgres://192.0.2.9:5432/postgres","state":"running","timeline":4}'
        lease = await served.rig.etcd.lease_grant(5)
        await served.rig.etcd.txn(
            [],
            [
                Put("/service/demo/leader", "pg9", lease),
                Put("/service/demo/members/pg9", key, lease),
            ],
        )
        body = await served.json("/cluster")
        assert body["scope"] == "demo"
        [row] = body["members"]
        assert (row["name"], row["role"], row["host"]) == ("pg9", "leader", "192.0.2.9")

    async def test_the_cluster_s_page_says_where_applications_connect(self, served: Served) -> None:
        served.show(STANDBY)
        loop = served.rig.loop
        places = Endpoints(("192.0.2.100:5000",), ("192.0.2.100:5001",))
        loop.reconfigure(replace(loop.config, endpoints=places))
        body = await served.json("/cluster")
        assert body["pgherd"]["endpoints"] == places.published()

    async def test_without_etcd_there_is_no_cluster_to_show(self, served: Served) -> None:
        served.show(STANDBY)
        served.rig.etcd.is_down = True
        status, _, text = await served.ask("/cluster")
        assert status == 503
        assert text.startswith("etcd does not answer: ")

    async def test_the_history_is_a_list_of_rows(self, served: Served) -> None:
        row = (1, 25, "no recovery target specified", "2026-01-01T00:00:00+00:00", "pg2")
        served.show(view(cluster=cluster(history=(row,))))
        assert await served.json("/history") == [list(row)]
        served.show(view(cluster=None))
        assert await served.json("/history") == []

    async def test_the_configuration_is_given_as_it_is_stored(self, served: Served) -> None:
        """6.1: check_patroni hashes it, so the order of its keys is kept."""
        stored = {"ttl": 30, "a": 1, "postgresql": {"parameters": None}}
        served.show(view(cluster=cluster(config={"ttl": 20})))
        assert await served.rig.store.write_config(stored, None)
        _, _, text = await served.ask("/config")
        assert text == '{"ttl":30,"a":1,"postgresql":{"parameters":null}}'

    async def test_while_etcd_is_silent_it_is_the_one_in_force(self, served: Served) -> None:
        served.show(view(cluster=cluster(config={"ttl": 20})))
        served.rig.etcd.is_down = True
        assert await served.json("/config") == {"ttl": 20}

    @pytest.mark.parametrize("known", [None, cluster(config=None)])
    async def test_without_a_configuration_there_is_502(self, served: Served, known: Any) -> None:
        served.show(view(cluster=known))
        assert await served.status("/config") == 502

    async def test_failsafe_mode_is_off(self, served: Served) -> None:
        assert await served.status("/failsafe") == 502

    @pytest.mark.parametrize(("age", "code"), [(0, 200), (6.9, 200), (7, 503), (100, 503)])
    async def test_the_agent_is_alive_while_its_loop_goes_round(
        self, served: Served, age: float, code: int
    ) -> None:
        """Limit: the lease's ttl and one interval, 5 s and 2 s here."""
        served.show(STANDBY)
        served.rig.clock.now = NOW + age
        assert await served.status("/liveness") == code

    @pytest.mark.parametrize(
        ("seen", "query", "code"),
        [
            (LEADER, "", 200),
            (STANDBY, "", 200),
            (view(standby(receiver_status=None)), "", 503),
            (view(stopped()), "", 503),
            (view(standby(replayed=0), cluster=cluster(optime=1048576)), "", 200),
            (view(standby(replayed=0), cluster=cluster(optime=1048577)), "", 503),
            (view(standby(replayed=0), cluster=cluster(optime=1048577)), "?lag=2MB", 200),
            (view(standby(replayed=0), cluster=cluster(optime=0x3000)), "?lag=1", 503),
            (view(standby(replayed=0), cluster=cluster(optime=0x3000)), "?lag=1&mode=write", 200),
            (view(standby(replayed=0), cluster=cluster(optime=0x3000)), "?lag=1&mode=apply", 503),
        ],
    )
    async def test_ready_is_the_leader_and_a_standby_that_keeps_up(
        self, served: Served, seen: View, query: str, code: int
    ) -> None:
        """1.2, 1.3."""
        served.show(seen)
        assert await served.status(f"/readiness{query}") == code

    async def test_metrics_are_plain_text(self, served: Served) -> None:
        served.show(LEADER)
        status, kind, text = await served.ask("/metrics")
        assert (status, kind) == (200, "text/plain")
        assert 'patroni_primary{name="pg1",scope="demo"} 1.0' in text

    async def test_the_body_names_the_system_and_the_member(self, served: Served) -> None:
        served.show(LEADER)
        body = await served.json("/patroni")
        assert body["database_system_identifier"] == SYSTEM_ID
        assert body["patroni"]["name"] == ME


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("16kB", 16384),
        ("10MB", 10 * 2**20),
        ("1 gb", 2**30),
        ("2TB", 2 * 2**40),
        ("5B", 5),
        ("", None),
        ("x", None),
        ("-1", None),
        ("1PB", None),
    ],
)
def test_sizes_are_read_as_patroni_reads_them(text: str, size: int | None) -> None:
    assert parse_bytes(text) == size


async def test_an_address_in_use_is_named(served: Served, tmp_path: Path) -> None:
    address = served.rig.config.connect_address
    again = Rig(tmp_path, Instance(), restapi={"listen": address, "connect_address": address})
    api = Api(again.loop)
    with pytest.raises(ListenError, match=address):
        api.start()
    api.stop()
