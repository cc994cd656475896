# SPDX-License-Identifier: GPL-3.0-or-later
"""Every time limit of a cluster from one word."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.filter.rto_timings import PROFILES, rto_timings


@pytest.mark.parametrize(
    ("profile", "lease", "heartbeat", "hedge", "hang"),
    [("fast", 2, 50, 0.1, 4), ("normal", 5, 100, 0.2, 10), ("wan", 30, 500, 1, 30)],
)
def test_profile_gives_its_timings(
    profile: str, lease: float, heartbeat: float, hedge: float, hang: float
) -> None:
    timings = rto_timings(profile)
    assert timings["lease_ttl_seconds"] == lease
    assert timings["etcd_heartbeat_ms"] == heartbeat
    assert timings["hedge_delay_seconds"] == hedge
    assert timings["hang_timeout_seconds"] == hang


def test_override_replaces_one_value_and_no_other() -> None:
    assert rto_timings("normal", {"lease_ttl_seconds": 6}) == {
        **PROFILES["normal"],
        "lease_ttl_seconds": 6,
    }


def test_profiles_are_not_changed_by_overrides() -> None:
    rto_timings("fast", {"lease_ttl_seconds": 9})
    assert rto_timings("fast")["lease_ttl_seconds"] == 2


@pytest.mark.parametrize(
    ("profile", "overrides", "message"),
    [
        ("quick", {}, "cluster_rto: 'quick' is none of fast, normal, wan"),
        ("normal", {"lease_ttl": 4}, "no timing lease_ttl (did you mean lease_ttl_seconds?)"),
        ("normal", {"lease_ttl_seconds": "4"}, "'4' is not a number above 0"),
        ("normal", {"lease_ttl_seconds": True}, "True is not a number above 0"),
        ("normal", {"loop_seconds": 0}, "0 is not a number above 0"),
        ("normal", {"etcd_heartbeat_ms": 200}, "`10 * etcd_heartbeat_ms <= etcd_election_ms`"),
        ("fast", {"lease_ttl_seconds": 1}, "`lease_ttl_seconds >= max(2, "),
        ("wan", {"lease_ttl_seconds": 7}, "etcd grants no shorter lease"),
        ("normal", {"keepalive_seconds": 2}, "`4 * keepalive_seconds <= lease_ttl_seconds`"),
        ("normal", {"etcd_timeout_seconds": 4}, "(lease_ttl_seconds 5, keepalive_seconds 1, etcd_"),
        ("normal", {"peer_timeout_seconds": 5}, "`peer_timeout_seconds < lease_ttl_seconds`"),
        ("normal", {"vrrp_advert_ms": 5}, "VRRP counts hundredths of a second, up to 4095"),
        ("normal", {"balancer_check_fall": 9}, "HAProxy must have given up a host that hangs"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    profile: str, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        rto_timings(profile, overrides)
    assert message in str(caught.value)
