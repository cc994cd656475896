# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is to be restarted for the leader's logical slots; what members tell of that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agent.tests.builders import ME, NOW, cluster, config, member, view
from pgherd.decide import decide
from pgherd.handover import Handover
from pgherd.published import member_key
from pgherd.wishes import Restart

if TYPE_CHECKING:
    from pgherd.model import Member
    from pgherd.view import View

WANTING = {"slots_to_copy": ["feed"]}
OWN = member(ME, pgherd=WANTING)
SECOND = member("pg3", pgherd=WANTING)


def waiting(*members: Member, **changes: Any) -> View:
    """Return what pg1 sees, which lacks a slot of its leader."""
    known = cluster(members=members or [OWN])
    return replace(view(cluster=known, slots_to_copy=("feed",)), **changes)


def begins(seen: View) -> bool:
    return decide(seen).rule.name == "copy_slots"


def test_it_begins_when_all_others_run() -> None:
    assert begins(waiting())
    assert begins(waiting(OWN, SECOND)), "we are the first by name"


def test_another_one_is_first() -> None:
    """Not both at once: commits need them."""
    second = waiting(OWN, SECOND, me="pg3")
    assert not begins(second)
    assert begins(replace(second, cluster=cluster(members=[member(ME), SECOND])))


@pytest.mark.parametrize(
    "other",
    [member("pg3", state="stopped"), member("pg3", pgherd={"leaving": True})],
    ids=["away", "about to be away"],
)
def test_it_waits_for_one_that_is_away(other: Member) -> None:
    assert not begins(waiting(OWN, other))


@pytest.mark.parametrize(
    "changes",
    [
        {"slots_to_copy": ()},
        {"store_answers": False},
        {"handover": Handover("pg2", ME)},
        {"config": {"pause": True}},
        {"members": [member(ME)]},
    ],
    ids=["nothing to copy", "etcd is silent", "a switchover", "in pause", "not known to others"],
)
def test_nor_is_it_the_time(changes: dict[str, Any]) -> None:
    of_view = {key: changes[key] for key in ("slots_to_copy", "store_answers") if key in changes}
    of_cluster = {"members": [OWN], **changes}
    known = cluster(**{key: of_cluster[key] for key in of_cluster if key not in of_view})
    assert not begins(waiting(cluster=known, **of_view))


def test_a_restart_that_is_asked_for_does_it_too() -> None:
    assert decide(waiting(restart=Restart(NOW))).rule.name == "restart_standby"


def test_others_are_told() -> None:
    told = member_key(config(), waiting())["pgherd"]
    assert (told["slots_to_copy"], "leaving" in told) == (["feed"], False)
    told = member_key(config(), waiting(restart=Restart(NOW)))["pgherd"]
    assert told["leaving"] is True
