# SPDX-License-Identifier: GPL-3.0-or-later
"""Laying a change on a configuration as `PATCH /config` does (JSON Merge Patch, RFC 7386)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_patch(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *base* with *patch* laid on it, mappings merged key by key, null taking a key out.

    Keys keep their order, new ones come last: tools compare the text (patroni.md 6.1).
    """
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge_patch(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
