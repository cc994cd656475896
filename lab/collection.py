# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets Python import the collection's plugins by their full names, as Ansible does."""

from __future__ import annotations

from pathlib import Path

from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

COLLECTIONS = Path(__file__).resolve().parents[1] / ".collections"


def make_importable() -> None:
    """Have `import ansible_collections.pgherd.cluster` find this repository."""
    _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()
