# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of everything that talks to etcd."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation fragment pgherd.cluster.etcd."""

    DOCUMENTATION = r"""
options:
  endpoints:
    description:
      - Client URLs of etcd's members.
      - The first that answers is asked; one that is lost or hangs costs O(timeout_seconds).
    type: list
    elements: str
    required: true
  username:
    description: User of etcd's own authentication. Empty where etcd asks for none.
    type: str
    default: ""
  password:
    description: Its password.
    type: str
    default: ""
  timeout_seconds:
    description: After how many seconds an endpoint counts as silent.
    type: float
    default: 3
  tls:
    description: Files of a TLS client (C(cacert), C(cert), C(key)).
    type: dict
    default: {}
"""
