# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the dynamic configuration: how two are told apart, and how one is made."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from pgherd.commands.rest import Reply, UnreachableError
from pgherd.commands.session import by_use
from pgherd.errors import ConfigError, NobodyAnswersError, PgherdError
from pgherd.merge_patch import merge_patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgherd.commands.session import Session

# A change that came between costs another try; so many come between by no chance.
TRIES: Final = 5
RESTART: Final = "x-pgherd-restart"
ORDER: Final = "x-pgherd-restart-order"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what PATCH must be given to make *new* of *old*: null removes a key (RFC 7386)."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            below = difference(before, value)
            if below:
                patch[name] = below
        elif name not in old or before != value or type(before) is not type(value):
            patch[name] = value
    return patch


def as_yaml(value: Any) -> str:
    """Return *value* the way people edit it."""
    import yaml

    return str(yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, width=100))


def diff_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the lines of a unified diff of two configurations, without a newline each."""
    before, after = as_yaml(old).splitlines(), as_yaml(new).splitlines()
    return list(difflib.unified_diff(before, after, lineterm=""))


def coloured(line: str) -> str:
    """Return a line of a diff in the colours of a diff."""
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour and line[:3] not in ("+++", "---") else line


def read_config(session: Session) -> dict[str, Any]:
    """Return the dynamic configuration as etcd has it.

    :raises NobodyAnswersError: neither the agent nor etcd answers.
    :raises PgherdError: there is none.
    """
    try:
        reply = session.read("/config")
        if reply.status == 200 and isinstance(reply.json(), dict):
            return reply.mapping()
    except NobodyAnswersError:
        pass
    cluster = session.keys(lambda store: store.load())
    if cluster.config is None:
        raise PgherdError("etcd holds no configuration of this cluster: it was never started")
    return dict(cluster.config)


def change_config(session: Session, patch: Mapping[str, Any]) -> Reply:
    """Carry *patch* out: by an agent, which checks it first, else in etcd itself.

    :raises PgherdError: it was refused.
    :raises NobodyAnswersError: neither answers.
    """
    cluster = session.cluster()
    try:
        for _ in range(TRIES):
            reply = session.act(by_use(cluster), "PATCH", "/config", patch)
            if reply.status != 409:
                break
    except UnreachableError as error:
        session.tell(f"{error}; changing etcd itself, unchecked by PostgreSQL")
        return _change_in_etcd(session, patch)
    if reply.status == 422:
        raise ConfigError([line for line in reply.text.splitlines() if line.strip()])
    if not reply.is_good:
        raise PgherdError(reply.text or f"the agent answers {reply.status}")
    return reply


def _change_in_etcd(session: Session, patch: Mapping[str, Any]) -> Reply:
    from pgherd.dynamic_schema import check_dynamic
    from pgherd.etcd import Compare, Put
    from pgherd.store import dump

    timing = asdict(session.known.timing)
    key = f"/{session.known.namespace}/{session.known.scope}/config"

    async def change(store: Any) -> Reply:
        for _ in range(TRIES):
            _, found = await store.etcd.range(key)
            known = next((each for each in found if each.key == key), None)
            if known is None:
                raise PgherdError("etcd holds no configuration of this cluster")
            old = json.loads(known.value)
            new = merge_patch(old, patch)
            before = check_dynamic(old, timing)
            wrong = [each for each in check_dynamic(new, timing) if each not in before]
            if wrong:
                raise ConfigError(wrong)
            same = Compare(key, "mod_revision", known.mod_revision)
            if await store.etcd.txn([same], [Put(key, dump(new))]):
                return Reply(200, dump(new))
        raise PgherdError("the configuration changes all the time: try again")

    return session.keys(change)
