# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that look like ours and are not."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_variables
short_description: Variables that look like a role's and are not
description:
  - Returns a sentence for every name that begins like a variable of a role and is none.
  - The sentence offers the nearest right name.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
positional: known
options:
  _input:
    description: Names of variables.
    type: list
    elements: str
    required: true
  known:
    description: Names, or a mapping by name, of the variables there are.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong with a name
  ansible.builtin.debug:
    msg: "{{ ['cluster_nane'] | pgherd.cluster.unknown_variables(['cluster_name']) }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""

from typing import TYPE_CHECKING, Any

from ansible_collections.pgherd.cluster.plugins.module_utils._nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def unknown_variables(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return a sentence for each of *names* that shares a prefix with *known* and is not in it."""
    there = set(known)
    prefixes = tuple({name.split("_", 1)[0] + "_" for name in there if "_" in name})
    return [
        f"there is no variable {name}{did_you_mean(name, there)}"
        for name in sorted(set(names) - there)
        if name.startswith(prefixes)
    ]


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by name."""
        return {"unknown_variables": unknown_variables}
