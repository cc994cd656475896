# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the collection's roles, read from their argument specs."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.lookup.role_options import ROLES, role_options


def test_all_roles_are_read() -> None:
    found = role_options(ROLES, [])
    assert {"cluster_name", "etcd_config", "postgresql_parameters", "agent_tags"} <= set(found)


def test_one_role_is_read() -> None:
    assert all(name.startswith("etcd_") for name in role_options(ROLES, ["etcd"]))


def test_another_entry_point_is_read() -> None:
    assert "switchover_candidate" in role_options(ROLES, ["agent"], "operate")


def test_a_template_is_no_default_for_plays_without_the_role() -> None:
    found = role_options(ROLES, [])
    assert found["cluster_rto"]["default"] == "normal"
    assert found["haproxy_sync_check"]["choices"] == ["/sync", "/quorum"]
    assert [name for name, spec in found.items() if "{{" in str(spec.get("default"))] == []


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        role_options(ROLES, ["no_such_role"])
