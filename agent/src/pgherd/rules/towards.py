# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules of running, starting and stopped members share: getting to another leader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.actions import Action, Follow, Rejoin

if TYPE_CHECKING:
    from pgherd.view import View


def points_elsewhere(view: View) -> bool:
    """Tell whether another member leads, at an address that is not the one we stream from."""
    leader = view.other_leader
    if leader is None or not leader.host:
        return False
    return view.instance.upstream != f"{leader.host}:{leader.port}"


def follow(view: View) -> tuple[Action, ...]:
    """Ask to stream from the other leader."""
    return (Follow(view.other_leader),) if view.other_leader else ()


def rejoin(view: View) -> tuple[Action, ...]:
    """Ask to get onto the other leader's history."""
    return (Rejoin(view.other_leader),) if view.other_leader else ()
