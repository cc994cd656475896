# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check passes a healthy cluster, and says one sentence for what it is there to find."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.pgherd.cluster.plugins.module_utils._health import (
    CHECKS,
    Allowed,
    Seen,
    examine,
    skipped,
)

STANDBY = {"role": "quorum_standby", "state": "streaming", "timeline": 3, "lag": 0}
CLUSTER: dict[str, Any] = {
    "members": [
        {"name": "pg1", "role": "leader", "state": "running", "timeline": 3},
        {"name": "pg2", **STANDBY},
        {"name": "pg3", **STANDBY},
    ],
    "pgherd": {"synchronous_mode": "quorum", "acknowledgements": 1},
}
ARCHIVER = {"failing": False, "waiting": 1, "waiting_seconds": 300.0}
SLOT = {"active": True, "lost": False, "retained_bytes": 0}
PAGE = {"pgherd": {"guarded": True, "disk": "well", "slots": {"pg2": SLOT}, "archiver": ARCHIVER}}
ALLOWED = Allowed(("pg1", "pg2", "pg3"), lag_bytes_max=1000, slot_bytes_max=1000)


def seen(
    member: dict[str, Any] | None = None,
    *,
    page: dict[str, Any] | None = None,
    silent: str = "",
    left: float | str = 7.0,
    **cluster: Any,
) -> Seen:
    """Return the healthy cluster with *member* laid on the one of its name; *page* is pg1's."""
    body = {**copy.deepcopy(CLUSTER), **cluster}
    for known in body["members"]:
        if member and known["name"] == member["name"]:
            known.update(member)
    pages: dict[str, Any] = {name: {} for name in ("pg2", "pg3")}
    pages["pg1"] = {"pgherd": {**PAGE["pgherd"], **(page or {})}}
    if silent:
        pages[silent] = None
    return Seen(body, pages, {"the agent of pg1": left})


def two(**voter: Any) -> list[dict[str, Any]]:
    """Return the members with pg2 like that, and pg3 outside the voters."""
    return [
        CLUSTER["members"][0],
        {"name": "pg2", **STANDBY, **voter},
        {"name": "pg3", **STANDBY, "role": "replica"},
    ]


def said(check: str, what: Seen, allowed: Allowed = ALLOWED) -> str:
    """Return the sentences of one check, joined."""
    return "; ".join(CHECKS[check](what, allowed))


@pytest.mark.parametrize("check", CHECKS)
def test_a_healthy_cluster_passes(check: str) -> None:
    assert CHECKS[check](seen(), ALLOWED) == []


@pytest.mark.parametrize(
    ("check", "what", "sentence"),
    [
        ("leader", seen({"name": "pg1", "role": "replica"}), "nobody leads"),
        ("leader", seen({"name": "pg2", "role": "leader"}), "there are 2 leaders: pg1, pg2"),
        ("leader", seen({"name": "pg1", "state": "starting"}), "pg1 leads and is `starting`"),
        ("members", seen({"name": "pg2", "state": "running"}), "pg2 is `running`, not streaming"),
        ("members", seen(members=CLUSTER["members"][:2]), "pg3 is not in the cluster"),
        ("members", seen(silent="pg3"), "the agent of pg3 does not answer"),
        ("timeline", seen({"name": "pg3", "timeline": 2}), "pg3 is on timeline 2, the leader on 3"),
        ("lag", seen({"name": "pg2", "lag": 1001}), "pg2 is 1001 bytes behind, 1000 are allowed"),
        ("lag", seen({"name": "pg2", "lag": "unknown"}), "nobody knows how far pg2 is behind"),
        ("sync", seen(members=[CLUSTER["members"][0]]), "commits wait for no standby"),
        ("sync", seen(members=two(state="starting")), "wait for 1 standbys, and 0 of them stream"),
        ("quorum", seen({"name": "pg2", "state": "starting"}), "commits need 1, and pg3 acknowl"),
        ("quorum", seen(members=two(state="stopped")), "commits need 1, and nobody acknowledges"),
        ("pending_restart", seen({"name": "pg2", "pending_restart": True}), "pg2 waits for a re"),
        ("paused", seen(pause=True), "the cluster is paused"),
        ("guard", seen(page={"guarded": False}), "no guard watches the primary pg1"),
        ("disk", seen(page={"disk": "full"}), "the data disk of pg1 is full"),
        ("slots", seen(page={"slots": {"old": {**SLOT, "lost": True}}}), "slot old of pg1 is lost"),
        (
            "slots",
            seen(page={"slots": {"old": {"active": False, "retained_bytes": 1001}}}),
            "nobody reads slot old of pg1, which keeps 1001 bytes",
        ),
        ("certificates", seen(left=6.96), "the certificate of the agent of pg1 ends in 7.0 days"),
        (
            "certificates",
            seen(left="it is refused: expired"),
            "agent of pg1: it is refused: expired",
        ),
        (
            "archiving",
            seen(page={"archiver": {"failing": True, "failed": "00A", "failed_at": "noon"}}),
            "pg1 cannot archive WAL (00A at noon): look at archive_command",
        ),
        (
            "archiving",
            seen(page={"archiver": {**ARCHIVER, "waiting_seconds": 300.6}}),
            "WAL of pg1 waits for 301 s to be archived, 300 are allowed",
        ),
    ],
)
def test_what_is_not_well_is_said(check: str, what: Seen, sentence: str) -> None:
    assert sentence in said(check, what)
    # And by that one alone where it is a question of its own.
    assert len(CHECKS[check](what, ALLOWED)) == 1


def test_the_reasons_of_a_restart_are_told() -> None:
    change = {"old_value": "200", "new_value": "300"}
    member = {
        "name": "pg2",
        "pending_restart": True,
        "pending_restart_reason": {"max_connections": change},
    }
    assert said("pending_restart", seen(member)) == (
        "pg2 waits for a restart (max_connections 200 to 300)"
    )


def test_asynchronous_and_small_clusters_are_not_asked_for_acknowledgements() -> None:
    off = seen(pgherd={"synchronous_mode": "off"}, members=two(role="replica"))
    assert said("sync", off) == said("quorum", off) == ""
    small = seen(members=CLUSTER["members"][:2])
    assert said("quorum", small) == ""


def test_what_is_off_on_purpose_is_not_missed() -> None:
    assert said("guard", seen(page={"guarded": False}, pause=True)) == ""


def test_a_slot_that_is_read_or_keeps_little_is_well() -> None:
    busy = {"active": True, "lost": False, "retained_bytes": 5000}
    idle = {"active": False, "lost": False, "retained_bytes": 1000}
    assert said("slots", seen(page={"slots": {"busy": busy, "idle": idle}})) == ""


def test_a_member_that_reads_the_archive_is_well_only_if_tagged() -> None:
    member = {"name": "pg3", "state": "in archive recovery"}
    assert "not streaming" in said("members", seen(member))
    assert said("members", seen({**member, "tags": {"nostream": True}})) == ""


def test_a_cluster_without_a_leader_has_no_timeline_to_be_on() -> None:
    lost = seen({"name": "pg1", "role": "replica", "timeline": 2})
    assert said("timeline", lost) == ""


def test_only_what_is_asked_for_is_looked_at() -> None:
    found = examine(seen(pause=True), ALLOWED, ["leader", "paused"])
    assert list(found) == ["leader", "paused"]
    assert found["leader"] == []
    assert len(found["paused"]) == 1


def test_what_a_cluster_does_not_have_is_no_problem_and_said() -> None:
    bare = Seen(CLUSTER, {"pg1": None, "pg2": {}})
    assert said("certificates", bare) == said("archiving", bare) == ""
    names = ["leader", "certificates", "archiving"]
    assert skipped(bare, names) == {
        "certificates": "nothing that was asked speaks TLS",
        "archiving": "no member archives WAL (archive_mode is off, or an agent is silent)",
    }
    assert skipped(bare, ["leader", "archiving"]).keys() == {"archiving"}
    assert skipped(seen(), names) == {}
