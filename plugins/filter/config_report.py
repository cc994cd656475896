# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change of the dynamic configuration comes to, as a text for a person."""

from __future__ import annotations

DOCUMENTATION = r"""
name: config_report
short_description: What a change of the dynamic configuration comes to
description:
  - Returns the changes, how each takes effect, who has to be restarted and in which order, and what
    to do next, as one text.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
positional: asked
options:
  _input:
    description: What P(pgherd.cluster.cluster_config#module) returned.
    type: dict
    required: true
  asked:
    description:
      - C(name) of the cluster; C(check), whether nothing was to be changed.
      - C(restarted), names of those who were restarted after the change.
      - C(changes), what was asked for in place of C(inventory), what the inventory asks for.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the text
  pgherd.cluster.say:
    text: "{{ config_done | pgherd.cluster.config_report({'name': 'demo', 'check': true}) }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WIDTH = 100
VALUE_WIDTH = 32
EFFECTS = {
    "reload": "by a reload, which happens by itself",
    "agent": "at once, in the agents",
    "none": "in nothing: the members' files say otherwise, or it is the same",
    "unknown": "in what nobody can tell: no PostgreSQL answers",
}


def config_report(done: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return the text of what came, or would come, of a change; see the documentation above."""
    sentences = [
        *silent(done["silent"]),
        *restarts(done, asked),
        *undone(asked.get("changes") or {}, asked.get("inventory") or {}),
    ]
    lines = ["", headline(done["changes"], asked), *table(done["changes"])]
    for sentence in sentences:
        lines += textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, ""])


def headline(changes: Sequence[Any], asked: Mapping[str, Any]) -> str:
    """Return how much is changed."""
    what = f"Dynamic configuration of {asked['name']}:"
    if not changes:
        return f"{what} it holds what is asked for."
    number = f"{len(changes)} change{'s' if len(changes) > 1 else ''}"
    return f"{what} {number}{', not made yet' if asked['check'] else ' made'}."


def table(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each change: key, values, how it takes effect."""
    rows = [
        (
            str(change["key"]),
            f"{shown(change['before'])} -> {shown(change['after'])}",
            f"restart of {', '.join(change['restarts'])}"
            if change["effect"] == "restart"
            else EFFECTS[change["effect"]],
        )
        for change in changes
    ]
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    found = [f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows]
    return ["", *found, ""]


def shown(value: Any) -> str:
    """Return *value* in one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "unset" if value is None else " ".join(text.split())
    return text if len(text) <= VALUE_WIDTH else f"{text[: VALUE_WIDTH - 1]}…"


def silent(members: Mapping[str, str]) -> list[str]:
    """Return a sentence for each member that told nothing."""
    return [
        f"What it means for {name} is not known: {why.rstrip('.')}."
        for name, why in members.items()
    ]


def restarts(done: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield who is, was, or has to be restarted, in which order, and how."""
    order: Sequence[str] = done["restart_order"]
    if asked.get("restarted"):
        yield f"Restarted: {', '.join(asked['restarted'])}."
        return
    if order:
        waits = f"{', '.join(done['restart_members'])}"
        verb = "would wait" if asked["check"] and done["changes"] else "wait"
        verb += "s" if verb == "wait" and len(done["restart_members"]) == 1 else ""
        yield f"{waits} {verb} for a restart: {', '.join(reasons(done['restart_reasons']))}."
        yield turns_sentence(done)
    elif not done["silent"]:
        yield "Nobody waits for a restart."
    if asked["check"] and done["changes"]:
        both = "; with -e config_restart=true it restarts them as well" if order else ""
        yield f"config_apply makes the change{both}."
    elif order:
        yield "restart_rolling does it, or config_apply -e config_restart=true."


def reasons(waits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that wait anywhere."""
    return sorted({name for settings in waits.values() for name in settings})


def turns_sentence(done: Mapping[str, Any]) -> str:
    """Return the order of a rolling restart, and what clients see of it."""
    order, leader = done["restart_order"], done["leader"]
    text = f"The safe order: {', then '.join(order)}."
    if leader not in order:
        return f"{text} The lead stays where it is."
    if not done["restart_in_place"]:
        return f"{text} {leader} leads, and hands the lead over before its turn."
    why = " before a standby may have less than it has" if order[-1] != leader else ""
    return f"{text} {leader} leads, and is restarted in place{why}: no writes until it is back."


def undone(changes: Mapping[str, Any], inventory: Mapping[str, Any]) -> list[str]:
    """Return a sentence when *changes* ask for what the *inventory* will set back."""
    paths = list(conflicts(changes, inventory))
    if not paths:
        return []
    said = f"The inventory's agent_dynamic_config says otherwise of {', '.join(paths)}"
    return [f"{said}: site brings that back, unless it is changed there as well."]


def conflicts(
    changes: Mapping[str, Any], inventory: Mapping[str, Any], path: str = ""
) -> Iterator[str]:
    """Yield the keys to which both give a value, and not the same."""
    for name, value in changes.items():
        if name not in inventory or inventory[name] == value:
            continue
        if isinstance(value, dict) and isinstance(inventory[name], dict):
            yield from conflicts(value, inventory[name], f"{path}{name}.")
        else:
            yield f"{path}{name}"


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"config_report": config_report}
