# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of filters hands its own functions out, and no two files the same name."""

from __future__ import annotations

import importlib
from pathlib import Path

from ansible_collections.pgherd.cluster.plugins.filter import drill

FILES = sorted(Path(drill.__file__).parent.glob("*.py"))


def test_a_filter_is_a_function_of_one_file() -> None:
    whose: dict[str, str] = {}
    for path in FILES:
        file = f"ansible_collections.pgherd.cluster.plugins.filter.{path.stem}"
        filters = importlib.import_module(file).FilterModule().filters()
        assert filters
        for name, function in filters.items():
            assert whose.setdefault(name, file) == file
            assert function.__module__ == file
            assert function.__doc__
