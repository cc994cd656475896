# SPDX-License-Identifier: GPL-3.0-or-later
"""The dynamic configuration as one member applies it.

What etcd holds may have been written by anybody: what cannot be heeded is left out and told of, and
a copy is kept beside the data, from which the leader writes a key that has gone (patroni.md 3.2).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from pgherd.config import Timing, shared_settings
from pgherd.dynamic_schema import check_dynamic, without_nulls
from pgherd.patronis import without_effect
from pgherd.schema import check_timing
from pgherd.server_settings import Known, check_parameters, known_settings

if TYPE_CHECKING:
    from pgherd.config import Config
    from pgherd.model import Cluster
    from pgherd.postgres import Postgres

log = logging.getLogger(__name__)

# What the file of a member may decide for that member alone, being read in every round.
LOCAL: Final = ("use_slots", "use_pg_rewind", "pg_ctl_timeout")


def parameters_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `postgresql.parameters` of a dynamic configuration, empty when it has none."""
    postgresql = raw.get("postgresql")
    found = postgresql.get("parameters") if isinstance(postgresql, Mapping) else None
    return found if isinstance(found, Mapping) else {}


class Dynamic:
    """What this member makes of the dynamic configuration.

    :param given: what its own files say.
    """

    def __init__(self, given: Config, postgres: Postgres) -> None:
        self.given = given
        self.problems: tuple[str, ...] = ()
        self._postgres = postgres
        self._raw: Mapping[str, Any] | None = None
        self._unwanted: tuple[str, ...] = ()
        self._unheeded: tuple[str, ...] = ()
        self._known: Known | None = None

    def complete(self, cluster: Cluster) -> Cluster:
        """Return *cluster* with what we kept of a configuration that has gone, and what is local.

        Without it a cluster whose key was deleted would be run with the defaults. Where all keys
        have gone only what is with the data is of that cluster; one that is being made has none.
        """
        own = self.given.postgres
        local = {name: getattr(own, name) for name in LOCAL if getattr(own, name) is not None}
        cluster = replace(cluster, local=local)
        if cluster.config or cluster.initialize == "":
            return cluster
        known = self._raw if cluster.initialize else None
        kept = known or self._postgres.files.kept_dynamic()
        return replace(cluster, config=kept, config_lost=True) if kept else cluster

    def reconfigure(self, given: Config) -> Config:
        """Use other files from now on; return what is in force with them."""
        self.given = given
        return self.look(self._raw or {})

    def look(self, raw: Mapping[str, Any]) -> Config:
        """Take in the configuration *raw*; return what is in force with it and our files.

        The timings of *raw* win over those of the files: one request changes those of a whole
        cluster at once, and members with leases of different lengths would be of no use. Of the
        section `postgresql` the files win, as with Patroni: they know the host.
        """
        self._raw = raw
        problems = check_dynamic(raw, asdict(self.given.timing))
        if tuple(problems) != self._unwanted:
            for problem in problems:
                log.error("dynamic configuration: %s; it is not heeded", problem)
        self._unwanted = self.problems = tuple(problems)
        unheeded = tuple(without_effect(raw))
        for sentence in set(unheeded) - set(self._unheeded):
            log.warning("dynamic configuration: %s", sentence)
        self._unheeded = unheeded
        postgres = replace(self.given.postgres, **self._shared(raw))
        return replace(self.given, timing=self._timing(raw), postgres=postgres)

    def _shared(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return what *raw* says about PostgreSQL that our files are silent about."""
        postgresql = raw.get("postgresql")
        if not isinstance(postgresql, Mapping):
            return {}
        good = {
            key: value
            for key, value in without_nulls(postgresql).items()
            if not any(
                problem.startswith((f"postgresql.{key}:", f"postgresql.{key}."))
                for problem in self._unwanted
            )
        }
        own = self.given.postgres
        shared = shared_settings(good)
        if own.replica_methods:
            # A method and its options belong together.
            del shared["method_options"]
        return {name: value for name, value in shared.items() if value and not getattr(own, name)}

    def _timing(self, raw: Mapping[str, Any]) -> Timing:
        known = asdict(self.given.timing)
        ours = raw.get("pgherd")
        wanted = without_nulls(ours) if isinstance(ours, Mapping) else {}
        merged = {**known, **{name: value for name, value in wanted.items() if name in known}}
        refused = any(problem.startswith(("pgherd.", "pgherd:")) for problem in self._unwanted)
        return self.given.timing if refused or check_timing(merged) else Timing(**merged)

    async def heeded_parameters(self) -> Mapping[str, Any]:
        """Return `postgresql.parameters` without those that would keep the server from starting.

        While the server does not answer, what it said last counts.
        """
        parameters = parameters_of(self._raw or {})
        known = self._known = await known_settings(self._postgres) or self._known
        problems = [] if known is None else check_parameters(parameters, known)
        for problem in set(problems) - set(self.problems):
            log.error("dynamic configuration: %s; it is not heeded", problem)
        self.problems = (*self._unwanted, *problems)
        return {
            name: value
            for name, value in parameters.items()
            if not any(
                problem.startswith(f"postgresql.parameters.{name}:") for problem in self.problems
            )
        }

    def keep(self) -> None:
        """Keep a copy of what is in force beside the data.

        :raises OSError: it cannot be written.
        """
        if self._raw:
            self._postgres.files.keep_dynamic(self._raw)
