#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin that prints a text for a person."""

from __future__ import annotations

DOCUMENTATION = r"""
module: say
short_description: Print a text as it is
description:
  - Prints a text once, with its line breaks, whatever callback is in use.
  - Runs on the controller and changes nothing.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  text:
    description: The text.
    type: str
    required: true
attributes:
  check_mode:
    description: Prints in a check run too.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Sum up
  pgherd.cluster.say:
    text: |
      The cluster is up.
"""

RETURN = r"""
text:
  description: The text.
  returned: always
  type: str
"""
