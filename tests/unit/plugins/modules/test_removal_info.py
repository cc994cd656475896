# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a member has to stay."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._health import Seen
from ansible_collections.pgherd.cluster.plugins.modules.removal_info import (
    Asked,
    problems,
    too_few,
    without,
)

STANDBY = {"role": "quorum_standby", "state": "streaming", "timeline": 3, "lag": 0}
LEADER = {"name": "pg1", "role": "leader", "state": "running", "timeline": 3}
QUORUM = {"synchronous_mode": "quorum"}
PG2 = Asked("pg2", ("pg1", "pg3"))
PG3 = Asked("pg3", ("pg1", "pg2"))


def seen(*members: dict[str, Any], **cluster: Any) -> Seen:
    """Return a cluster of pg1, which leads, and *members*."""
    body = {"members": [LEADER, *members], **cluster}
    return Seen(body, {str(member["name"]): {} for member in body["members"]})


def standby(number: int, **more: Any) -> dict[str, Any]:
    """Return a standby that streams."""
    return {"name": f"pg{number}", **STANDBY, **more}


WHOLE = seen(standby(2), standby(3))


def test_a_whole_cluster_of_three_spares_any_one() -> None:
    assert problems(WHOLE, QUORUM, PG3) == []
    assert problems(WHOLE, QUORUM, Asked("pg1", ("pg2", "pg3"))) == []


@pytest.mark.parametrize(
    ("what", "asked", "sentence"),
    [
        (seen(), Asked("pg1", ()), "pg1 is the last member"),
        (WHOLE, Asked("pg3", ("pg1", "pg2"), stoppable=False), "Ansible does not reach its host"),
        (seen(standby(2, state="starting"), standby(3)), PG3, "pg2 is `starting`"),
        (seen(standby(2, timeline=2), standby(3)), PG3, "pg2 is on timeline 2"),
        (seen(standby(3)), PG3, "pg2 is not in the cluster"),
        (seen(standby(2), standby(3), pause=True), PG3, "the cluster is paused"),
        (seen(standby(3)), Asked("pg3", ("pg1",)), "without pg3 0 would be left"),
    ],
)
def test_it_stays_while_others_need_it(what: Seen, asked: Asked, sentence: str) -> None:
    assert sentence in "; ".join(problems(what, QUORUM, asked))


def test_how_it_is_itself_does_not_matter() -> None:
    sick = seen(standby(2), standby(3, state="stopped", timeline=1))
    assert problems(sick, QUORUM, PG3) == []


def test_who_leads_is_not_overlooked() -> None:
    sick = Seen({"members": [{**LEADER, "state": "starting"}, standby(2), standby(3)]})
    asked = Asked("pg1", ("pg2", "pg3"))
    assert problems(sick, QUORUM, asked) == ["pg1 leads and is `starting`"]
    assert list(without(WHOLE, "pg1").members) == ["pg1", "pg2", "pg3"]


def test_one_that_is_gone_may_go_while_others_are_gone() -> None:
    lost = Asked("pg3", ("pg1", "pg2", "pg4", "pg5"), stoppable=False)
    assert problems(seen(standby(2), standby(4)), QUORUM, lost) == []


@pytest.mark.parametrize(
    ("what", "config", "asked", "left"),
    [
        (seen(standby(2)), {"synchronous_mode": "off"}, PG2, None),
        (seen(standby(2)), {"synchronous_mode": False}, PG2, None),
        (seen(standby(2)), {}, PG2, None),
        (seen(standby(2)), {"synchronous_mode": True}, PG2, 0),
        (WHOLE, QUORUM, PG2, None),
        (WHOLE, {**QUORUM, "synchronous_node_count": 2}, PG2, 1),
        (WHOLE, {**QUORUM, "synchronous_node_count": 2}, Asked("pg1", ("pg2", "pg3")), 1),
        (seen(standby(2), standby(3, tags={"nosync": True})), QUORUM, PG2, 0),
        (seen(standby(2)), QUORUM, Asked("pg1", ("pg2",)), 0),
    ],
)
def test_commits_keep_the_standbys_they_wait_for(
    what: Seen, config: dict[str, Any], asked: Asked, left: int | None
) -> None:
    said = too_few(what, config, asked)
    assert said == "" if left is None else f"{left} would be left: add a host first" in said
