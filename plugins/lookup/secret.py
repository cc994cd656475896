# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A secret kept in a file on the controller, made once."""

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: A secret kept in a file on the controller
description:
  - Returns the secret in a file, and makes both when the file is missing and may be made.
  - The file has mode 0600, directories made on the way have 0700.
  - Hosts that are handled at once get the same secret.
version_added: 0.1.0
author: The pgherd developers (@pgherd)
options:
  _terms:
    description: Paths of the files.
    required: true
  missing:
    description:
      - What to do when the file is missing.
      - To make it, to return a placeholder (in a check run), or to fail.
    type: str
    choices: [create, pretend, fail]
    default: create
"""

EXAMPLES = r"""
- name: Show that a secret is made once
  ansible.builtin.debug:
    msg: "{{ lookup('pgherd.cluster.secret', '/tmp/secrets/replication') | length }}"
"""

RETURN = r"""
_raw:
  description: The secrets.
  type: list
  elements: str
"""

import os
import secrets
import string
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

ALPHABET = string.ascii_letters + string.digits
LENGTH = 32
PLACEHOLDER = "made-by-the-first-run"


def read_or_make(path: Path, missing: str) -> str:
    """Return the secret in *path*; *missing* says what to do without the file.

    The file appears whole or not at all: it is written under another name and linked, and of
    two processes that make it at once one wins and both read the winner's.
    Raises ValueError for an empty file or a missing one that must be there, OSError.
    """
    if not path.exists():
        if missing == "pretend":
            return PLACEHOLDER
        if missing == "fail":
            raise ValueError(
                f"{path} is missing, and the cluster it belongs to exists: copy the directory "
                "from the controller that made the cluster, or set the password's variable"
            )
        _make(path)
    secret = path.read_text(encoding="utf-8").strip()
    if not secret:
        raise ValueError(f"{path} is empty: delete it to get a new secret, or put one in")
    return secret


def _make(path: Path) -> None:
    previous = os.umask(0o077)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text("".join(secrets.choice(ALPHABET) for _letter in range(LENGTH)) + "\n")
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another host's process was faster: its secret is the one
        finally:
            draft.unlink()
    finally:
        os.umask(previous)


class LookupModule(LookupBase):  # type: ignore[misc]
    """See the documentation of pgherd.cluster.secret."""

    def run(
        self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[str]:
        """Return the secret of every path; raises AnsibleLookupError."""
        self.set_options(var_options=variables, direct=kwargs)
        missing = str(self.get_option("missing"))
        try:
            return [read_or_make(Path(term).expanduser(), missing) for term in terms]
        except (OSError, ValueError) as error:
            raise AnsibleLookupError(str(error)) from error
