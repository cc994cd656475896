#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin that ships a Python package as one file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zipapp
short_description: Ship a Python package as one executable file
description:
  - Builds a zipapp from a package on the controller and copies it to the host when it differs.
  - The same source gives the same bytes on every controller.
  - For that, names are sorted, times fixed and nothing is compressed.
  - The file lands in one step; a running program keeps the one it opened.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  source:
    description: Directory of the package on the controller; its last part is the package's name.
    type: path
    required: true
  entry_point:
    description:
      - What the file runs, as C(module:function).
      - The function's return value is the exit status.
    type: str
    required: true
  dest:
    description: The file on the host.
    type: path
    required: true
  interpreter:
    description: The file's interpreter.
    type: str
    default: /usr/bin/python3
  owner:
    description: Owner of the file.
    type: str
    default: root
  group:
    description: Group of the file.
    type: str
    default: root
  mode:
    description: Mode of the file.
    type: str
    default: '0755'
attributes:
  check_mode:
    description: Says whether the file differs.
    support: full
  diff_mode:
    description: As the copy module's for a file that is no text.
    support: full
"""

EXAMPLES = r"""
- name: Install the agent
  pgherd.cluster.zipapp:
    source: agent/src/pgherd
    entry_point: pgherd.__main__:main
    dest: /usr/local/bin/pgherd
"""

RETURN = r"""
dest:
  description: The file on the host.
  returned: always
  type: str
checksum:
  description: SHA-1 of the file.
  returned: always
  type: str
"""
