# SPDX-License-Identifier: GPL-3.0-or-later
"""`PATCH /config` and `PUT /config`: the dynamic configuration, checked before it is stored.

`POST /config_plan`, ours, checks the same and tells what would come of it, and stores nothing.
Codes and bodies are Patroni's; 422 with one problem a line is ours. What was wrong before a request
is not held against it: a cluster whose configuration came from elsewhere can still be changed.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from pgherd.answers import Answer, Unsafe
from pgherd.config_plan import Local, foretell
from pgherd.dynamic import parameters_of
from pgherd.dynamic_schema import check_dynamic
from pgherd.errors import StoreError
from pgherd.merge_patch import merge_patch
from pgherd.server_settings import check_parameters, known_settings, restart_order, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.loop import Loop
    from pgherd.server_settings import Known

log = logging.getLogger(__name__)

NOTHING_TO_CHANGE: Final = Answer(503, "there is no configuration in etcd to be changed")
RESTART_HEADER: Final = "X-Pgherd-Restart"
ORDER_HEADER: Final = "X-Pgherd-Restart-Order"


async def patch_config(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Merge *body* into the configuration; null takes a key out."""
    try:
        cluster = await loop.effects.store.load()
        if cluster.config is None:
            return NOTHING_TO_CHANGE
        return await _write(
            loop, cluster.config, merge_patch(cluster.config, body), cluster.config_revision
        )
    except StoreError as error:
        return Answer(503, f"etcd does not answer: {error}")


async def put_config(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Replace the configuration, whatever it is."""
    try:
        cluster = await loop.effects.store.load()
        return await _write(loop, cluster.config or {}, body, None)
    except StoreError as error:
        return Answer(502, f"etcd does not answer: {error}")


async def plan_config(loop: Loop, body: Mapping[str, Any]) -> Answer:
    """Tell what merging *body* into the configuration would do to this member; change nothing."""
    try:
        cluster = await loop.effects.store.load()
    except StoreError as error:
        return Answer(503, f"etcd does not answer: {error}")
    if cluster.config is None:
        return NOTHING_TO_CHANGE
    postgres = loop.effects.postgres
    known = await known_settings(postgres)
    new = merge_patch(cluster.config, body)
    problems = _problems(loop, cluster.config, new, known)
    if problems:
        return Answer(422, "\n".join(problems))
    waits = loop.view.instance.pending_restart
    local = Local(loop.dynamic.given.postgres, postgres.files, known, waits)
    return Answer(200, {"name": loop.view.me, **foretell(cluster.config, new, local)})


def _problems(
    loop: Loop, old: Mapping[str, Any], new: Mapping[str, Any], known: Known | None
) -> list[str]:
    """Return one sentence for all that is wrong with *new* and was not with *old*."""
    timing = asdict(loop.dynamic.given.timing)
    before = {*check_dynamic(old, timing), *check_parameters(parameters_of(old), known or {})}
    found = check_dynamic(new, timing)
    found += check_parameters(parameters_of(new), known) if known is not None else []
    return [problem for problem in found if problem not in before]


async def _write(
    loop: Loop, old: Mapping[str, Any], new: Mapping[str, Any], revision: int | None
) -> Answer:
    known = await known_settings(loop.effects.postgres)
    problems = _problems(loop, old, new, known)
    if problems:
        return Answer(422, "\n".join(problems))
    if new == old and revision is not None:
        return Answer(200, new)
    if not await loop.effects.store.write_config(new, revision):
        return Answer(409, "somebody else has changed the configuration meanwhile; try again")
    log.info("dynamic configuration changed")
    loop.wake.set()
    if known is None:
        return Answer(200, new)
    own, theirs = parameters_of(new), parameters_of(old)
    names = {name for name in {*own, *theirs} if own.get(name) != theirs.get(name)}
    wanted = loop.effects.postgres.files.parameters(own, None)
    reasons = waiting(wanted, names, known)
    if not reasons:
        return Answer(200, new)
    headers = {RESTART_HEADER: ", ".join(reasons), ORDER_HEADER: restart_order(reasons)}
    return Answer(200, new, headers)


CONFIG_REQUESTS: Final[Mapping[tuple[str, str], Unsafe]] = {
    ("PATCH", "config"): Unsafe(patch_config, needs_body=True),
    ("PUT", "config"): Unsafe(put_config, needs_body=True),
    # What waits already can be asked for as well: by changing nothing.
    ("POST", "config_plan"): Unsafe(plan_config),
}
