# SPDX-License-Identifier: GPL-3.0-or-later
"""How many connections each PgBouncer may open, so that all together fit into a server."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pool_budget
short_description: Sizes of pools that fit into max_connections
description:
  - Shares the connections of a server out among the poolers that may come to it.
  - These are the one for writes of every data node, and the server's own one for reads.
  - A sum above what there is comes back as a problem that shows the arithmetic.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _input:
    description:
      - C(max_connections), C(reserved) for superusers, C(direct) for connections beside the
        poolers, C(poolers) (data nodes), C(auth) (connections a pooler looks users up with),
        C(database_count), C(databases), and C(config), C(rw_config) and C(ro_config).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the sizes of pools
  ansible.builtin.debug:
    msg: "{{ numbers | pgherd.cluster.pool_budget }}"
"""

RETURN = r"""
_value:
  description:
    - C(rw) and C(ro), each with C(settings) (PgBouncer's, by name), C(databases) (options of the
      databases that have some, by name) and C(connections); C(budget); C(problem), empty when all
      is well.
  type: dict
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZES = ("max_db_connections", "default_pool_size", "reserve_pool_size")
RESERVE_PART = 5


@dataclass(frozen=True)
class Server:
    """What a server can give: `total`, less `reserved` and `direct`."""

    total: int
    reserved: int
    direct: int

    @property
    def budget(self) -> int:
        """How many connections are the poolers'."""
        return self.total - self.reserved - self.direct

    def __str__(self) -> str:
        return (
            f"{max(self.budget, 0)} are theirs: max_connections {self.total} less {self.reserved} "
            f"reserved for superusers and {self.direct} of pgbouncer_direct_connections"
        )


def database_limit(options: Mapping[str, Any]) -> int | None:
    """Return the connections a listed database may have; None when it has no size of its own."""
    if "max_db_connections" in options:
        return int(options["max_db_connections"])
    if "pool_size" in options:
        return int(options["pool_size"]) + int(options.get("reserve_pool_size", 0))
    return None


@dataclass(frozen=True)
class Side:
    """What one pooler may open: `auth`, what `sized` databases take, and `count` times `limit`."""

    auth: int
    sized: Mapping[str, int]
    count: int
    limit: int
    settings: Mapping[str, int]

    @property
    def connections(self) -> int:
        """All together."""
        return self.auth + sum(self.sized.values()) + self.count * self.limit

    def __str__(self) -> str:
        parts = [str(self.auth)] if self.auth else []
        parts += [str(limit) for limit in self.sized.values()]
        parts += [f"{self.count} x {self.limit}"] if self.count else []
        return "(" + " + ".join(parts) + ")"


def side(
    share: int, auth: int, databases: Mapping[str, Mapping[str, Any]], count: int,
    config: Mapping[str, Any],
) -> Side:  # fmt: skip
    """Return what a pooler with *share* connections opens, or with what *config* says instead.

    Every database that has no size of its own gets the same part. Of that part one in five is the
    reserve, which one user alone gets only when it waits: pools are per user and database.
    """
    limits = {name: database_limit(options) for name, options in databases.items()}
    sized = {name: limit for name, limit in limits.items() if limit is not None}
    unsized = count + len(limits) - len(sized)
    limit = (share - auth - sum(sized.values())) // unsized if unsized else 0
    given = {name: int(config[name]) for name in SIZES if name in config}
    if "max_db_connections" in given:
        limit = given["max_db_connections"]
    elif "default_pool_size" in given:
        limit = given["default_pool_size"] + given.get("reserve_pool_size", 0)
    reserve = given.get("reserve_pool_size", limit // RESERVE_PART)
    derived = {
        "max_db_connections": limit,
        "default_pool_size": max(1, limit - reserve),
        "reserve_pool_size": reserve,
    }
    return Side(auth, sized, unsized, limit, {**derived, **given} if unsized else given)


def problem_of(server: Server, poolers: int, rw: Side, ro: Side) -> str:
    """Return why these sizes cannot be, empty when they can."""
    remedy = (
        "Raise max_connections in postgresql_parameters, or lower pgbouncer_database_count, "
        "pgbouncer_direct_connections, or the sizes in pgbouncer_databases and pgbouncer_config"
    )
    for name, each in (("rw", rw), ("ro", ro)):
        if min([*each.sized.values(), 1]) < 1:
            return f"pgbouncer_databases: a size of 0 means no limit ({name}). {remedy}"
        if each.count and each.limit < 1 and "max_db_connections" in each.settings:
            spent = each.auth + sum(each.sized.values())
            return (
                f"PgBouncer {name}: a pooler's share is {server.budget} / {poolers + 1} "
                f"connections ({server}), {spent} of it are taken, and nothing is left for "
                f"{each.count} more databases (max_db_connections {each.limit}). {remedy}"
            )
    wanted = poolers * rw.connections + ro.connections
    if wanted > server.budget:
        return (
            f"The poolers may open {poolers} x {rw} + {ro} = {wanted} connections to one server, "
            f"and {server}. {remedy}"
        )
    return ""


def pool_budget(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of both poolers of a data node, see RETURN.

    A server that leads is reached by the poolers for writes of all data nodes and by its own for
    reads; one that follows, by its own for reads only. So the leader's is the sum that counts.
    """
    server = Server(*(int(numbers[name]) for name in ("max_connections", "reserved", "direct")))
    poolers, auth = int(numbers["poolers"]), int(numbers["auth"])
    share = server.budget // (poolers + 1)
    sides = {
        name: side(
            share, auth, numbers["databases"], int(numbers["database_count"]),
            {**numbers["config"], **numbers[f"{name}_config"]},
        )
        for name in ("rw", "ro")
    }  # fmt: skip
    return {
        **{
            name: {
                "settings": dict(each.settings),
                "databases": {
                    database: {**options, "max_db_connections": each.sized[database]}
                    if database in each.sized
                    else dict(options)
                    for database, options in numbers["databases"].items()
                },
                "connections": each.connections,
            }
            for name, each in sides.items()
        },
        "budget": server.budget,
        "problem": problem_of(server, poolers, sides["rw"], sides["ro"]),
    }


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"pool_budget": pool_budget}
