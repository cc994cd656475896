# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module that talks to a cluster's agents."""

from __future__ import annotations


class ModuleDocFragment:
    """What `extends_documentation_fragment: pgherd.cluster.agent` stands for."""

    DOCUMENTATION = r"""
options:
  agents:
    description:
      - URLs of the REST APIs of the cluster's agents.
      - The first that answers is asked, so one that is down does no harm where others are named.
    type: list
    elements: str
    required: true
    aliases: [url]
  username:
    description: Name for what changes something; used only with O(password).
    type: str
    default: ""
  password:
    description: Password for what changes something.
    type: str
    default: ""
  timeout_seconds:
    description: After how many seconds an agent counts as silent.
    type: float
    default: 5
  tls:
    description: Client certificate files (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
"""
