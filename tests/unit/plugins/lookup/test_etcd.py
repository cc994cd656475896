# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lookup reads from a real etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.pgherd.cluster.plugins.lookup.etcd import read
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import EtcdStore

from agent.tests import etcd_processes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdStore]:
    """A store with two keys, one below the other."""
    members = etcd_processes.start(tmp_path_factory.mktemp("etcd"))
    try:
        etcd_processes.run_until_healthy(members)
        found = EtcdStore([member.endpoint for member in members], 5)
        assert found.put_if("/a", "one", 0)
        assert found.put_if("/a/below", "three", 0)
        yield found
    finally:
        etcd_processes.stop(members)


def test_a_key_is_read_and_all_below_it(store: EtcdStore) -> None:
    assert read(store, "/a", False, "fail") == "one"
    assert read(store, "/a", True, "fail") == {"/a": "one", "/a/below": "three"}
    assert read(store, "/b", False, "empty") == ""
    with pytest.raises(KeyError, match="has no key"):
        read(store, "/b", False, "fail")
