# SPDX-License-Identifier: GPL-3.0-or-later
"""Every time limit of a cluster from one word."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rto_timings
short_description: Every time limit of a cluster from one word
description:
  - Returns the timings of a profile with the overrides in.
  - Checks the inequalities that hold them together.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: overrides
options:
  _input:
    description: The profile, V(fast), V(normal) or V(wan).
    type: str
    required: true
  overrides:
    description: Timings that replace the profile's.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the timings
  ansible.builtin.debug:
    msg: "{{ 'normal' | pgherd.cluster.rto_timings({'lease_ttl_seconds': 4}) }}"
"""

RETURN = r"""
_value:
  description: The timings by name.
  type: dict
"""

import math
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = (
    "etcd_heartbeat_ms",
    "etcd_election_ms",
    "lease_ttl_seconds",
    "keepalive_seconds",
    "loop_seconds",
    "peer_timeout_seconds",
    "etcd_timeout_seconds",
    "hedge_delay_seconds",
    "hang_timeout_seconds",
    "wal_receiver_timeout_ms",
    "wal_sender_timeout_ms",
    "tcp_user_timeout_ms",
    "vrrp_advert_ms",
    "balancer_check_ms",
    "balancer_check_fast_ms",
    "balancer_check_timeout_ms",
    "balancer_check_fall",
    "balancer_tcp_timeout_ms",
)
PROFILES: dict[str, dict[str, float]] = {
    "fast": dict(
        zip(
            _NAMES,
            (50, 500, 2, 0.4, 1, 0.25, 0.5, 0.1, 4, 2000, 2000, 2000, 200, 500, 250, 200, 6, 1500),
            strict=True,
        )
    ),
    "normal": dict(
        zip(
            _NAMES,
            (100, 1000, 5, 1, 2, 0.5, 1, 0.2, 10, 5000, 5000, 5000, 300, 1000, 500, 250, 7, 3000),
            strict=True,
        )
    ),
    "wan": dict(
        zip(
            _NAMES,
            (
                500,
                5000,
                30,
                5,
                5,
                2,
                5,
                1,
                30,
                30000,
                30000,
                30000,
                1000,
                3000,
                1000,
                2000,
                4,
                15000,
            ),
            strict=True,
        )
    ),
}


def _balancer_ms(timings: dict[str, float]) -> float:
    """Return how long HAProxy may need to give up a host that hangs, in milliseconds."""
    return (
        timings["balancer_check_ms"]
        + timings["balancer_check_fall"] * timings["balancer_check_timeout_ms"]
        + (timings["balancer_check_fall"] - 1) * timings["balancer_check_fast_ms"]
    )


def _least_lease(timings: dict[str, float]) -> int:
    """Return the shortest lease etcd grants at its election timeout, in seconds."""
    return max(2, math.ceil(1.5 * timings["etcd_election_ms"] / 1000))


_BALANCER = (
    "balancer_check_ms + balancer_check_fall * balancer_check_timeout_ms"
    " + (balancer_check_fall - 1) * balancer_check_fast_ms < 1000 * lease_ttl_seconds + 1000"
)

# Each row: the inequality as a reader writes it, whether it holds, why it must.
INEQUALITIES: tuple[tuple[str, Callable[[dict[str, float]], bool], str], ...] = (
    (
        "10 * etcd_heartbeat_ms <= etcd_election_ms",
        lambda t: 10 * t["etcd_heartbeat_ms"] <= t["etcd_election_ms"],
        "a few lost heartbeats must not start an election in etcd",
    ),
    (
        "lease_ttl_seconds >= max(2, ceil(1.5 * etcd_election_ms / 1000))",
        lambda t: t["lease_ttl_seconds"] >= _least_lease(t),
        "etcd grants no shorter lease",
    ),
    (
        "4 * keepalive_seconds <= lease_ttl_seconds",
        lambda t: 4 * t["keepalive_seconds"] <= t["lease_ttl_seconds"],
        "the lease must outlive lost keepalives",
    ),
    (
        "etcd_timeout_seconds < lease_ttl_seconds - keepalive_seconds",
        lambda t: t["etcd_timeout_seconds"] < t["lease_ttl_seconds"] - t["keepalive_seconds"],
        "a keepalive that got no answer must be repeated before the lease ends",
    ),
    (
        "peer_timeout_seconds < lease_ttl_seconds",
        lambda t: t["peer_timeout_seconds"] < t["lease_ttl_seconds"],
        "a peer that does not answer must not outlast the winner's lease",
    ),
    (
        "10 <= vrrp_advert_ms <= 40950",
        lambda t: 10 <= t["vrrp_advert_ms"] <= 40950,
        "VRRP counts hundredths of a second, up to 4095",
    ),
    (
        _BALANCER,
        lambda t: _balancer_ms(t) < 1000 * t["lease_ttl_seconds"] + 1000,
        "HAProxy must have given up a host that hangs when there is a new leader",
    ),
)


def rto_timings(profile: str, overrides: dict[str, Any] | None = None) -> dict[str, float]:
    """Return the timings of *profile* with *overrides* in; units are in the names.

    Raises AnsibleFilterError for an unknown profile or name, a value that is no positive
    number, or the first inequality that fails.
    """
    if profile not in PROFILES:
        raise AnsibleFilterError(f"cluster_rto: {profile!r} is none of {', '.join(PROFILES)}")
    timings = dict(PROFILES[profile])
    for name, value in (overrides or {}).items():
        if name not in timings:
            hint = did_you_mean(name, timings)
            raise AnsibleFilterError(f"cluster_rto_overrides: there is no timing {name}{hint}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise AnsibleFilterError(
                f"cluster_rto_overrides.{name}: {value!r} is not a number above 0"
            )
        timings[name] = value
    for text, holds, why in INEQUALITIES:
        if not holds(timings):
            numbers = ", ".join(f"{name} {timings[name]:g}" for name in _NAMES if name in text)
            raise AnsibleFilterError(
                f"cluster_rto {profile} with cluster_rto_overrides breaks `{text}` "
                f"({numbers}): {why}"
            )
    return timings


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"rto_timings": rto_timings}
