# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The variables of the command line."""

from __future__ import annotations

DOCUMENTATION = r"""
name: extra_variables
short_description: Names of the variables of the command line
description:
  - Returns the names that were given with C(-e) (C(--extra-vars)), those of files among them.
  - What an inventory calls its variables is its own business.
  - What is written for one run is meant for its playbook.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
options: {}
"""

EXAMPLES = r"""
- name: Show what was given
  ansible.builtin.debug:
    msg: "{{ query('pgherd.cluster.extra_variables') }}"
"""

RETURN = r"""
_raw:
  description: The names, sorted.
  type: list
  elements: str
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars


class LookupModule(LookupBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.extra_variables."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        """Return the names."""
        return sorted(load_extra_vars(self._loader))
