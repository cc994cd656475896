# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules of running, starting and stopped members share: getting to whom they should follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.actions import Action, Follow, Rejoin
from pgherd.model import Remote

if TYPE_CHECKING:
    from pgherd.view import View


def points_elsewhere(view: View) -> bool:
    """Tell whether there is somebody to stream from, at another address than the one we use."""
    upstream, instance = view.upstream, view.instance
    if isinstance(upstream, Remote):
        wanted = (upstream.address, upstream.slot if upstream.host else "")
        return (instance.upstream or "", instance.upstream_slot) != wanted
    if upstream is None or not upstream.host:
        return False
    return instance.upstream != upstream.address


def follow(view: View) -> tuple[Action, ...]:
    """Ask to stream from whom we should."""
    return (Follow(view.upstream),) if view.upstream else ()


def rejoin(view: View) -> tuple[Action, ...]:
    """Ask to get onto the history that is the right one."""
    return (Rejoin(view.origin),) if view.origin else ()
