# SPDX-License-Identifier: GPL-3.0-or-later
"""Where clients of a cluster connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pgherd.cluster.plugins.filter.cluster_entry import cluster_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS = {
    "balancer_rw": 5000,
    "balancer_ro": 5001,
    "pooler_rw": 6432,
    "pooler_ro": 6433,
    "server": 5432,
}


class Templated(dict[str, str]):
    """A mapping as Ansible hands it to a filter: its values can be read only once."""

    def values(self) -> Iterator[str]:  # type: ignore[override]
        yield from super().values()


HOSTS = Templated(one="192.0.2.1", two="fd00::2")


def entry(**changes: Any) -> dict[str, Any]:
    """Return the entry of a whole path without addresses that move, unless *changes* say else."""
    whole = {"vip": "", "vip_ro": "", "balancers": HOSTS, "poolers": HOSTS, "servers": HOSTS}
    found: dict[str, Any] = cluster_entry({**whole, **changes}, PORTS)
    return found


def test_an_address_that_moves_leads_to_the_balancers() -> None:
    assert entry(vip="192.0.2.100") == {
        "rw": ["192.0.2.100:5000"],
        "ro": ["192.0.2.100:5001"],
        "multi_host": False,
        "direct": False,
    }


def test_readers_have_one_of_their_own() -> None:
    found = entry(vip="192.0.2.100", vip_ro="fd00::100")
    assert (found["rw"], found["ro"]) == (["192.0.2.100:5000"], ["[fd00::100]:5001"])


def test_or_they_alone_have_one() -> None:
    found = entry(vip_ro="192.0.2.100")
    assert (found["rw"], found["ro"]) == (
        ["192.0.2.1:5000", "[fd00::2]:5000"],
        ["192.0.2.100:5001"],
    )
    assert found["multi_host"]


def test_without_balancers_it_leads_to_the_pooler_of_its_host() -> None:
    found = entry(vip="192.0.2.100", balancers={})
    assert (found["rw"], found["ro"]) == (["192.0.2.100:6432"], ["192.0.2.100:6433"])


@pytest.mark.parametrize(
    ("absent", "ports", "direct"),
    [
        ({}, (5000, 5001), False),
        ({"poolers": {}}, (5000, 5001), False),
        ({"balancers": {}}, (6432, 6433), False),
        ({"balancers": {}, "poolers": {}}, (5432, 5432), True),
    ],
    ids=["whole", "no pooler", "no balancer", "neither"],
)
def test_without_an_address_that_moves_all_hosts_are_named(
    absent: dict[str, Any], ports: tuple[int, int], direct: bool
) -> None:
    rw, ro = ([f"192.0.2.1:{port}", f"[fd00::2]:{port}"] for port in ports)
    assert entry(**absent) == {"rw": rw, "ro": ro, "multi_host": True, "direct": direct}


def test_no_address_leads_to_the_primary_among_bare_servers() -> None:
    found = entry(vip="192.0.2.100", balancers={}, poolers={})
    assert found["direct"]
    assert found["rw"] == ["192.0.2.1:5432", "[fd00::2]:5432"]


def test_one_host_is_not_several() -> None:
    assert not entry(balancers={"one": "192.0.2.1"})["multi_host"]
