# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and locks in a real etcd."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import (
    EtcdStore,
    prefix_end,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._http import (
    HttpError,
    HttpNobody,
    HttpSilent,
)
from ansible_collections.pgherd.cluster.plugins.module_utils._lock import Holder
from ansible_collections.pgherd.cluster.plugins.modules.etcd_kv import apply
from ansible_collections.pgherd.cluster.plugins.modules.etcd_lock import converge
from ansible_collections.pgherd.cluster.plugins.modules.etcd_lock_info import look

from agent.tests import etcd_processes
from lab.wait import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.tests.etcd_processes import EtcdMember

MINE = Holder("root@ops", "ops", 7, "site", 1000.0, "ops 7 1")
OTHER = Holder("ann@desk", "desk", 9, "pause", 940.0, "desk 9 1")


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[EtcdMember]]:
    """Three etcd processes."""
    found = etcd_processes.start(tmp_path_factory.mktemp("etcd"))
    try:
        etcd_processes.run_until_healthy(found)
        yield found
    finally:
        etcd_processes.stop(found)


@pytest.fixture
def store(members: list[EtcdMember]) -> EtcdStore:
    return EtcdStore([member.endpoint for member in members], 5)


@pytest.fixture
def key() -> str:
    return f"/{uuid.uuid4().hex}"


def lock(
    store: EtcdStore, key: str, state: str, who: Holder, dead: str = "", check: bool = False
) -> str:
    params: dict[str, Any] = {"key": key, "state": state, "dead_token": dead, "ttl_seconds": 60}
    return str(converge(store, params, who, check)[0])


def test_keys_are_written_read_and_deleted(store: EtcdStore, key: str) -> None:
    assert store.get(key) is None
    assert apply(store, key, None, "put", "one")
    assert not apply(store, key, None, "put", "two")
    assert apply(store, f"{key}/below", None, "put", "three")
    assert [each.value for each in store.range(key)] == ["one", "three"]
    assert apply(store, key, store.get(key), "delete", "")
    assert store.get(key) is None


def test_a_lock_is_one_runs_at_a_time(store: EtcdStore, key: str) -> None:
    assert lock(store, key, "present", MINE) == "take"
    assert lock(store, key, "present", MINE) == "enter"
    assert lock(store, key, "present", OTHER) == "refuse"
    assert lock(store, key, "absent", OTHER) == "nothing"
    assert lock(store, key, "absent", MINE) == "leave"
    assert look(store, key, time.time())["lock"]["depth"] == 1
    assert lock(store, key, "absent", MINE) == "release"
    assert look(store, key, time.time()) == {"held": False, "text": ""}
    assert lock(store, key, "present", OTHER) == "take"


def test_a_run_that_takes_long_renews_its_lock(store: EtcdStore, key: str) -> None:
    lock(store, key, "present", MINE)
    until(lambda: look(store, key, 0)["left_seconds"] < 59, 10, "Time that passes")
    assert lock(store, key, "renewed", MINE) == "renew"
    assert look(store, key, 0)["left_seconds"] >= 59
    assert lock(store, key, "absent", MINE) == "release", "it was taken once"


def test_a_lock_that_ended_is_renewed_unless_somebody_else_has_it(
    store: EtcdStore, key: str
) -> None:
    lock(store, key, "present", MINE)
    found = store.get(key)
    assert found is not None
    store.lease_revoke(found.lease)
    assert lock(store, key, "renewed", MINE) == "take"
    lock(store, key, "broken", OTHER)
    lock(store, key, "present", OTHER)
    assert lock(store, key, "renewed", MINE) == "refuse"


def test_a_lock_ends_with_its_lease(store: EtcdStore, key: str) -> None:
    lock(store, key, "present", MINE)
    found = store.get(key)
    assert found is not None
    assert 0 < look(store, key, 1000.0)["left_seconds"] <= 60
    store.lease_revoke(found.lease)
    assert store.get(key) is None
    store.lease_revoke(found.lease)


def test_who_is_gone_is_replaced_and_leaves_no_lease(store: EtcdStore, key: str) -> None:
    lock(store, key, "present", OTHER)
    before = store.get(key)
    assert lock(store, key, "present", MINE, OTHER.token) == "replace"
    after = store.get(key)
    assert before is not None
    assert after is not None
    assert store.lease_ttl(before.lease) == 0
    assert store.lease_ttl(after.lease) > 0


def test_a_lock_is_broken_whoever_holds_it(store: EtcdStore, key: str) -> None:
    lock(store, key, "present", OTHER)
    assert lock(store, key, "broken", MINE) == "break"
    assert store.get(key) is None
    assert lock(store, key, "broken", MINE) == "nothing"


def test_a_check_run_changes_nothing(store: EtcdStore, key: str) -> None:
    assert lock(store, key, "present", MINE, check=True) == "take"
    assert store.get(key) is None
    lock(store, key, "present", OTHER)
    assert lock(store, key, "broken", MINE, check=True) == "break"
    assert store.get(key) is not None


def test_a_write_that_counted_though_its_answer_was_lost_is_no_second_one(
    store: EtcdStore, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.put_if
    monkeypatch.setattr(store, "put_if", lambda *words: real(*words) and real(*words))
    assert lock(store, key, "present", MINE) == "take"
    found = store.get(key)
    assert found is not None
    assert Holder.from_text(found.value) == replace(MINE, depth=1)
    assert store.lease_ttl(found.lease) > 0


def test_endpoints_that_do_not_answer_are_passed_over(members: list[EtcdMember], key: str) -> None:
    (nobody,) = etcd_processes.free_ports(1)
    gone = f"http://127.0.0.1:{nobody}"
    assert EtcdStore([gone, members[0].endpoint]).get(key) is None
    with pytest.raises(HttpNobody, match="no etcd endpoint answers"):
        EtcdStore([gone]).get(key)
    with members[0].frozen():
        # If that was the leader, the others need a moment to choose one.
        others = EtcdStore([member.endpoint for member in members[1:]], 5)
        until(lambda: others.get(key) is None, 30, "the others have a leader", passing=(HttpError,))
        assert EtcdStore([members[0].endpoint, members[1].endpoint], 2).get(key) is None
        with pytest.raises(HttpSilent):
            EtcdStore([members[0].endpoint], 0.5).get(key)


def test_a_user_is_not_needed_where_etcd_asks_for_none(members: list[EtcdMember], key: str) -> None:
    store = EtcdStore([members[0].endpoint], 5, username="ann", password="secret")
    assert store.get(key) is None


def test_the_end_of_a_prefix() -> None:
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff") == b"b"
    assert prefix_end(b"") == b"\0"
