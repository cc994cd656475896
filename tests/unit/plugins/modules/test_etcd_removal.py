# SPDX-License-Identifier: GPL-3.0-or-later
"""When a member of etcd may be taken out."""

from __future__ import annotations

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd import Member
from ansible_collections.pgherd.cluster.plugins.modules.etcd_removal import find, refusal


def member(number: int, learner: bool = False, name: str | None = None) -> Member:
    """Return the member of that number."""
    named = f"pg{number}" if name is None else name
    return Member(str(number), named, (f"http://pg{number}:2380",), (), learner)


THREE = [member(1), member(2), member(3)]


@pytest.mark.parametrize(
    ("name", "url", "found"),
    [("pg2", "", "2"), ("", "http://pg3:2380", "3"), ("pg9", "http://pg9:2380", None)],
)
def test_a_member_is_found_by_its_name_or_its_address(
    name: str, url: str, found: str | None
) -> None:
    each = find(THREE, name, url)
    assert (each.id if each else None) == found


@pytest.mark.parametrize(
    ("members", "going", "healthy", "reason"),
    [
        (THREE, 3, "123", ""),
        (THREE, 3, "12", ""),
        (THREE, 3, "13", "only 1 are healthy and 2 are needed: mend pg2 first"),
        ([member(1), member(2)], 2, "12", ""),
        ([member(1), member(2)], 2, "1", ""),
        ([member(1), member(2, name="")], 1, "1", "mend http://pg2:2380 first"),
        ([member(1)], 1, "1", "it is the last member of etcd"),
        ([member(1), member(2, learner=True)], 1, "12", "it is the last member of etcd"),
        ([*THREE, member(4, learner=True)], 4, "1", ""),
        ([*THREE, member(4), member(5)], 5, "123", ""),
        ([*THREE, member(4), member(5)], 5, "12", "of the 4 members of etcd that would be left"),
    ],
)
def test_no_member_goes_whose_vote_is_needed(
    members: list[Member], going: int, healthy: str, reason: str
) -> None:
    said = refusal(members, members[going - 1], set(healthy))
    assert reason in said
    assert bool(said) is bool(reason)
