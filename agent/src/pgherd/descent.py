# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose WAL a member has: known from whom it streamed, else found out by comparing.

PostgreSQL compares numbers of timelines and positions only. Two members that were both promoted to
timeline 2 look alike to it, and one would stream over the other's history (Patroni's issue 1251).
So every member remembers the *term* (create revision of the leader key) whose leader's WAL it had
last, a leader its own and the one before. If our last term is one of the leader's, our histories
are the same up to where we parted, and where that was PostgreSQL does see, if the leader has gone
on to a higher timeline or will do so when it is promoted. Of every other leader the WAL itself is
compared before it is followed. A standby in between counts for the leader while it streams in the
leader's term (see `pgherd.relays`). In a standby cluster all is compared with the remote primary.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pgherd.errors import PostgresError
from pgherd.model import Remote
from pgherd.rejoin import is_diverged

if TYPE_CHECKING:
    from pgherd.model import Instance, LeaderKey, Member
    from pgherd.postgres import Postgres
    from pgherd.view import View

log = logging.getLogger(__name__)

# A standby that has not found its way to the leader's timeline by then does not on its own.
STUCK_SECONDS: Final = 10.0
# How often the primary of another cluster is compared with while it does not send us WAL, seconds.
LOOK_SECONDS: Final = 3.0


class Descent:
    """What one member knows of its own WAL.

    :ivar terms: the last terms whose leader's WAL we had, the newest first; empty when not known.
    """

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._judged: tuple[int, int | None] | None = None
        self._stuck: tuple[int, float] | None = None
        self._restarted = 0
        self._next_look = 0.0
        self.terms: tuple[int, ...] = ()

    def note(self, view: View) -> None:
        """Take in whose WAL *view* shows us to have."""
        if view.leader is None or not view.store_answers:
            return
        term, instance = view.leader.create_revision, view.instance
        leads = instance.is_primary and view.holds_key
        if (leads or _streams_from_cluster(view)) and term not in self.terms[:1]:
            # A leader keeps the term it came from: the others have that one.
            self.terms = (term, *self.terms[:1])

    def is_stuck(self, view: View) -> bool:
        """Tell whether this standby points at a settled leader in vain and should be restarted.

        A standby that has heard of a timeline which came to nothing keeps to it as long as it runs
        ("new timeline is not a child", rescanLatestTimeLine in PostgreSQL); when it starts it looks
        for the latest one afresh. Once in each term: what a restart does not heal is not healed by
        the next one.
        """
        leader, instance = view.other_leader, view.instance
        waits = (
            leader is not None
            and view.upstream is not None
            and leader.is_settled_primary
            and instance.is_standby
            and not _streams_from_cluster(view)
            and leader.timeline != instance.timeline
        )
        if not waits or view.leader is None:
            self._stuck = None
            return False
        term = view.leader.create_revision
        if self._stuck is None or self._stuck[0] != term:
            self._stuck = (term, view.now)
        return term != self._restarted and view.now - self._stuck[1] > STUCK_SECONDS

    def note_restart(self, view: View) -> None:
        """Remember that it is restarted in this term."""
        self._restarted = view.leader.create_revision if view.leader else 0

    async def judge(self, view: View, within: float) -> bool | None:
        """Tell whether our WAL left the history that is the right one; None when not known yet.

        :param within: seconds that whoever has that history is given for each answer.
        """
        origin, key, instance = view.origin, view.leader, view.instance
        if origin is None or key is None or not instance.is_standby:
            return False
        if _streams_from_cluster(view) or _streams_from(instance, view.upstream):
            return False
        if isinstance(origin, Remote):
            return await self._judge_remote(view, origin, within)
        if view.upstream is None:
            return await self._judge_stranger(instance, origin, key, within)
        if view.cluster is None or view.cluster.leader_member is None:
            return False
        if self._is_kin(instance, origin):
            # What is left to find out PostgreSQL shows by not streaming.
            gone = origin.is_settled_primary and origin.timeline != instance.timeline
            return bool(gone and await self._compare(instance, origin, within))
        return await self._judge_stranger(instance, origin, key, within)

    async def _judge_remote(self, view: View, remote: Remote, within: float) -> bool:
        """Compare with the primary of another cluster, which may change without our noticing.

        What cannot be known yet, because it does not answer or is a standby itself, is left to
        PostgreSQL: it does not stream what does not continue our WAL by timeline and position.
        """
        if not remote.host or view.now < self._next_look:
            return False
        self._next_look = view.now + LOOK_SECONDS
        return bool(await self._compare(view.instance, remote, within))

    def _is_kin(self, instance: Instance, leader: Member) -> bool:
        """Tell whether PostgreSQL itself sees where our WAL parts from *leader*'s, if it does."""
        ours, theirs = instance.timeline, leader.timeline
        if ours in (None, 1):
            return True  # There is one timeline 1: the one that initdb made.
        if theirs is None or not set(self.terms[:1]) & set(leader.terms):
            return False
        return theirs > (ours or 0) or (theirs == ours and not leader.says_primary)

    async def _judge_stranger(
        self, instance: Instance, leader: Member, key: LeaderKey, within: float
    ) -> bool | None:
        case = (key.create_revision, instance.timeline)
        if self._judged == case:
            return False
        if not (leader.is_running and leader.says_primary):
            return None
        verdict = await self._compare(instance, leader, within)
        if verdict is False:
            self._judged = case
        return verdict

    async def _compare(self, instance: Instance, leader: Member, within: float) -> bool | None:
        try:
            return await is_diverged(self._postgres, instance, leader, within)
        except PostgresError as error:
            # The leader may be dead without its key being gone yet.
            log.info("the history of %s is not known yet: %s", leader.name, error)
            return None


def _streams_from(instance: Instance, upstream: Member | None) -> bool:
    if upstream is None or not instance.is_streaming:
        return False
    return instance.upstream == upstream.address


def _streams_from_cluster(view: View) -> bool:
    """Tell whether it streams from the leader, or from a standby with the leader's WAL."""
    leader = view.other_leader
    if leader is None:
        return False
    return _streams_from(view.instance, leader) or _streams_from(view.instance, view.upstream)
