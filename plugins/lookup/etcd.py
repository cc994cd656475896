# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values of etcd, read from the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: etcd
short_description: Values of keys of etcd
description:
  - Reads through the quorum. The controller has to reach one of the endpoints.
version_added: 0.2.0
author: The pgherd developers (@pgherd)
extends_documentation_fragment: pgherd.cluster.etcd
options:
  _terms:
    description: Names of keys, or with O(prefix) beginnings of names.
    required: true
  prefix:
    description:
      - Return all keys that begin with a term, as one mapping of names to values for each.
    type: bool
    default: false
  missing:
    description: What to do about a key that is not there. To fail, or to return an empty text.
    type: str
    choices: [fail, empty]
    default: fail
"""

EXAMPLES = r"""
- name: Show who leads
  ansible.builtin.debug:
    msg: "{{ lookup('pgherd.cluster.etcd', '/service/demo/leader', endpoints=endpoints) }}"
  vars:
    endpoints: ['http://10.0.0.1:2379', 'http://10.0.0.2:2379']
"""

RETURN = r"""
_raw:
  description: One value for each term; with O(prefix) one mapping.
  type: list
  elements: raw
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.pgherd.cluster.plugins.module_utils._etcd_store import EtcdStore
from ansible_collections.pgherd.cluster.plugins.module_utils._http import HttpError

CONNECTION = ("endpoints", "username", "password", "timeout_seconds", "tls")


def read(store: EtcdStore, term: str, prefix: bool, missing: str) -> str | dict[str, str]:
    """Return the value of the key *term*, or those of all keys that begin with it.

    Raises KeyError for a key that is not there and has to be; HttpError.
    """
    if prefix:
        return {each.key: each.value for each in store.range(term)}
    found = store.get(term)
    if found is None and missing == "fail":
        raise KeyError(f"etcd has no key {term}; name another one, or say missing=empty")
    return str(found.value) if found else ""


class LookupModule(LookupBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.etcd."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str | dict[str, str]]:
        """Return one value or mapping for each term; raises AnsibleLookupError."""
        self.set_options(var_options=variables, direct=kwargs)
        prefix, missing = bool(self.get_option("prefix")), str(self.get_option("missing"))
        try:
            store = EtcdStore.of({name: self.get_option(name) for name in CONNECTION})
            return [read(store, term, prefix, missing) for term in terms]
        except KeyError as error:
            raise AnsibleLookupError(str(error.args[0])) from error
        except (HttpError, OSError, ValueError) as error:
            raise AnsibleLookupError(f"etcd cannot be read: {error}") from error
