# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The variables of the collection's roles, read from their argument specs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_options
short_description: The options of the collection's roles
description:
  - Returns one mapping of the options of all roles, as an argument spec.
  - Reads C(meta/argument_specs.yml) of the roles.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _terms:
    description: Names of roles; all of the collection when empty.
  entry:
    description: The entry point whose options are wanted.
    type: str
    default: main
"""

EXAMPLES = r"""
- name: Check the variables of all roles at once
  ansible.builtin.validate_argument_spec:
    argument_spec: "{{ lookup('pgherd.cluster.role_options') }}"
"""

RETURN = r"""
_raw:
  description: One argument spec.
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.lookup import LookupBase

ROLES = Path(__file__).parents[2] / "roles"


def role_options(roles: Path, names: list[str], entry: str = "main") -> dict[str, Any]:
    """Return the options of the entry point *entry* of every role below *roles* that is in *names*.

    No names mean all roles. A default that is a template is left out: a play without that role
    would check the template itself. Raises OSError when there is no such role.
    """
    chosen = names or sorted(
        path.parents[1].name for path in roles.glob("*/meta/argument_specs.yml")
    )
    found: dict[str, Any] = {}
    for name in chosen:
        text = (roles / name / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
        options = yaml.safe_load(text)["argument_specs"][entry].get("options", {})
        found.update({option: _without_template(spec) for option, spec in options.items()})
    return found


def _without_template(spec: dict[str, Any]) -> dict[str, Any]:
    is_template = "{{" in str(spec.get("default", ""))
    return {key: value for key, value in spec.items() if key != "default" or not is_template}


class LookupModule(LookupBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.role_options."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Return one mapping."""
        self.set_options(var_options=variables, direct=kwargs)
        return [role_options(ROLES, terms, self.get_option("entry"))]
